"""llama.cpp processes seen from outside: which there are for a folder of models, and how they do.

Looks through the whole machine, so that a process which lost its parent is seen too.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import psutil


def children(folder: Path) -> list[psutil.Process]:
    """The running processes that serve a file below ``folder``; what is dead does not count."""
    return [process for process in psutil.process_iter() if f"{folder}/" in _words(process)]


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


async def child(folder: Path, timeout_s: float = 5.0) -> psutil.Process:
    """The only process for ``folder``, as soon as there is one."""
    async with asyncio.timeout(timeout_s):
        while not (found := children(folder)):
            await asyncio.sleep(0.01)
    [process] = found
    return process


def survivors(folder: Path, *known: psutil.Process, timeout_s: float) -> list[psutil.Process]:
    """Who is left, of ``known`` and of all for ``folder``, when all are gone or time is up."""
    until = time.monotonic() + timeout_s
    while (found := [*filter(alive, known), *children(folder)]) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie that nobody has asked for its exit code does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def key_of(process: psutil.Process) -> str:
    return process.environ()["LLAMA_API_KEY"]


def address_of(process: psutil.Process) -> str:
    [port] = {
        connection.laddr.port
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    return f"http://127.0.0.1:{port}"


async def peek(process: psutil.Process, path: str) -> Any:
    """What llama.cpp itself says, at ``/props`` or ``/slots``."""
    headers = {"Authorization": f"Bearer {key_of(process)}"}
    async with httpx.AsyncClient(trust_env=False, verify=False, headers=headers) as client:
        answer = await client.get(f"{address_of(process)}/{path}")
        return answer.raise_for_status().json()

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from smarterrouter.errors import BadRequest, PayloadTooLarge, Unavailable
from smarterrouter.profiling.benchmarks.source import read

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
TABLE = b"Model,elo\nm-7b,1200\n"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1")
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        listening.close()


def plain(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
        writer.write("\r\n".join([*head, *headers, "", ""]).encode() + body)
        await writer.drain()

    return answer


def endless(block: bytes, pause_s: float = 0.0) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


async def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(TABLE)
    assert await read(str(tmp_path / "table.csv")) == TABLE


async def test_a_file_at_home_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "table.csv").write_bytes(TABLE)
    assert await read("~/table.csv") == TABLE


@pytest.mark.parametrize("name", ["missing.csv", ".", "", "a\0b", "x" * 5000])
async def test_what_is_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRequest):
        await read(name)


async def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadRequest, match="not a file"):
        await read(str(tmp_path / "pipe"))


async def test_a_file_may_be_as_large_as_the_limit_but_no_larger(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(TABLE)
    assert await read(str(tmp_path / "table.csv"), most_bytes=len(TABLE)) == TABLE
    with pytest.raises(PayloadTooLarge):
        await read(str(tmp_path / "table.csv"), most_bytes=len(TABLE) - 1)


async def test_an_address_is_read() -> None:
    async with server(plain(TABLE)) as url:
        assert await read(f" {url}/table.csv ") == TABLE


async def test_a_redirection_is_followed() -> None:
    async with server(plain(TABLE)) as there:
        async with server(plain(b"", "302 Found", f"Location: {there}/cdn")) as url:
            assert await read(f"{url}/resolve/main/table.csv") == TABLE


async def test_a_redirection_to_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(TABLE)
    async with server(plain(b"", "302 Found", f"Location: file://{tmp_path}/secret")) as url:
        with pytest.raises(Unavailable):
            await read(url)


async def test_a_redirection_without_end_is_an_error() -> None:
    async with server(plain(b"", "302 Found", "Location: /again")) as url:
        with pytest.raises(Unavailable):
            await read(url)


@pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "500 Oops", "204 Empty"])
async def test_another_status_is_an_error_that_names_it(status: str) -> None:
    async with server(plain(b"", status)) as url:
        with pytest.raises(Unavailable, match=f"answers {status[:3]}"):
            await read(url)


async def test_an_answer_without_end_is_cut_off_at_the_limit() -> None:
    async with server(endless(b"x" * 65536)) as url:
        with pytest.raises(PayloadTooLarge):
            await read(url, most_bytes=1_000_000)


async def test_an_answer_may_be_as_large_as_the_limit() -> None:
    async with server(plain(TABLE)) as url:
        assert await read(url, most_bytes=len(TABLE)) == TABLE


async def test_a_server_that_trickles_is_given_up() -> None:
    async with server(endless(b"x", pause_s=0.02)) as url:
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            await read(url, timeout_s=0.3)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async with server(silent) as url:
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await read(url, timeout_s=0.2)


async def test_nobody_listening_is_an_error_with_a_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match="downloaded file"):
            await read(f"http://127.0.0.1:{port}/table.csv")


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    async def broken(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nModel,elo\n")
        await writer.drain()

    async with server(broken) as url:
        with pytest.raises(Unavailable):
            await read(url)


@pytest.mark.parametrize("url", ["http://", "http://[", "http://x.test:port/", "https://\x7f/"])
async def test_an_address_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(Unavailable):
        await read(url, timeout_s=2)


@pytest.mark.parametrize("url", ["ftp://x.test/a", "file:///etc/hosts", "s3://bucket/a"])
async def test_other_kinds_of_address_are_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="http or https"):
        await read(url)


async def test_errors_keep_passwords_and_tokens_to_themselves() -> None:
    async with server(plain(b"", "403 Forbidden")) as url:
        secret = url.replace("://", "://me:hunter2@") + "/table?token=abc123"
        with pytest.raises(Unavailable) as refused:
            await read(secret)
    assert "hunter2" not in refused.value.message
    assert "abc123" not in refused.value.message
    assert "/table" in refused.value.message

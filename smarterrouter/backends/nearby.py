"""What runs on this machine already? Looks where Ollama and llama-server usually listen.

Decides by what answers: Ollama tells its version, llama-server its properties. Their own variables
(``OLLAMA_HOST``, ``LLAMA_ARG_PORT``) move the places where they are looked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

LOOK_TIMEOUT_S = 1.0
USUAL: dict[str, str] = {
    "ollama": "http://127.0.0.1:11434",
    "llamacpp": "http://127.0.0.1:8080",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A server that answered; ``what`` names it with its version."""

    kind: Literal["ollama", "llamacpp"]
    url: str
    what: str


def places() -> dict[str, str]:
    """Where is looked, by kind."""
    port = os.environ.get("LLAMA_ARG_PORT")
    llamacpp = f"http://127.0.0.1:{port}" if port else USUAL["llamacpp"]
    return {"ollama": _ollama_host() or USUAL["ollama"], "llamacpp": llamacpp}


def look() -> list[Found]:
    """Every server that answers at its usual place. Takes a second at most for each."""
    at = places()
    found = []
    if (version := _ask(at["ollama"], "/api/version").get("version")) is not None:
        found.append(Found("ollama", at["ollama"], f"Ollama {version}"))
    props = _ask(at["llamacpp"], "/props")
    if "build_info" in props:
        found.append(Found("llamacpp", at["llamacpp"], f"llama-server {props['build_info']}"))
    return found


def _ollama_host() -> str | None:
    """``OLLAMA_HOST`` as an address to connect to; it may hold just a host, or only a port."""
    host = os.environ.get("OLLAMA_HOST", "").strip().rstrip("/")
    if not host:
        return None
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "http", host
    rest = rest.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    if rest.startswith(":") or rest.isdecimal():
        rest = f"127.0.0.1:{rest.removeprefix(':')}"
    return f"{scheme}://{rest}" if ":" in rest or separator else f"{scheme}://{rest}:11434"


def _ask(url: str, path: str) -> dict[str, Any]:
    import httpx

    try:
        answer = httpx.get(f"{url}{path}", timeout=LOOK_TIMEOUT_S, trust_env=False, verify=False)  # noqa: S501
        said = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return {}
    return said if isinstance(said, dict) else {}

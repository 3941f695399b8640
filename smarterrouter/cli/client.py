"""How a command talks to the daemon: where it is, with which key, and what its answers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smarterrouter.errors import SmarterRouterError, Unavailable

if TYPE_CHECKING:
    from smarterrouter.config import Settings

DAEMON_TIMEOUT_S = 10.0


def ask_daemon(
    path: str,
    settings: Settings,
    url: str | None = None,
    body: Any = None,
    timeout_s: float | None = DAEMON_TIMEOUT_S,
    method: str | None = None,
) -> dict[str, Any] | None:
    """The daemon's JSON answer to a GET, or a POST of ``body``, which may take ``timeout_s``;
    ``method`` for any other.

    ``None`` when none runs at the usual place. ``url`` is what the user gave, with or without
    ``http://`` and ``/v1``. Raises ``Unavailable`` when a daemon was named and does not answer,
    and ``SmarterRouterError`` with what it says, and its code, if it refuses.
    """
    import httpx

    address = address_of(settings, url)
    try:
        answer = httpx.request(
            method or ("GET" if body is None else "POST"),
            f"{address}{path}",
            json=body,
            headers=settings.own_headers,
            timeout=httpx.Timeout(timeout_s, connect=DAEMON_TIMEOUT_S),
            trust_env=False,
            verify=not address.startswith("http://"),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if url is None:
            return None
        said = str(error).rstrip(".")
        raise Unavailable(
            f"No smarterrouter answers at {address}: {said}. `smarterrouter serve` starts one."
        ) from None
    if answer.status_code == 401:
        raise SmarterRouterError(
            f"The daemon at {address} asks for a key: set ROUTER_API_KEYS or ROUTER_ADMIN_API_KEY "
            "here as it is set there."
        )
    return _read(answer.status_code, answer.text, address)


def address_of(settings: Settings, url: str | None) -> str:
    """Where the daemon is looked for."""
    address = (url or settings.address()).rstrip("/").removesuffix("/v1")
    return address if "://" in address else f"http://{address}"


def _read(status: int, text: str, address: str) -> dict[str, Any]:
    import json

    try:
        answer = json.loads(text)
        if status == 200 and isinstance(answer, dict):
            return answer
        said, code = answer["error"]["message"], answer["error"].get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unavailable(f"What answers at {address} is not smarterrouter.") from None
    raise SmarterRouterError(said, code=code)

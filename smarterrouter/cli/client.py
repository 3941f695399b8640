"""How a command talks to the daemon: where it is, with which key, and what its answers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smarterrouter.errors import SmarterRouterError, Unavailable

if TYPE_CHECKING:
    from smarterrouter.config import Settings

DAEMON_TIMEOUT_S = 10.0


def ask_daemon(
    path: str, settings: Settings, url: str | None = None, body: Any = None
) -> dict[str, Any] | None:
    """The daemon's JSON answer to a GET, or a POST of ``body``.

    ``None`` when none runs at the usual place. ``url`` is what the user gave, with or without
    ``http://`` and ``/v1``. Raises ``Unavailable`` when a daemon was named and does not answer,
    and ``SmarterRouterError`` with what it says if it refuses.
    """
    import httpx

    address = (url or settings.address()).rstrip("/").removesuffix("/v1")
    address = address if "://" in address else f"http://{address}"
    try:
        answer = httpx.request(
            "GET" if body is None else "POST",
            f"{address}{path}",
            json=body,
            headers=settings.own_headers,
            timeout=DAEMON_TIMEOUT_S,
            trust_env=False,
            verify=not address.startswith("http://"),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if url is None:
            return None
        said = str(error).rstrip(".")
        raise Unavailable(f"No smarterrouter answers at {address}: {said}.") from None
    if answer.status_code == 401:
        raise SmarterRouterError(
            f"The daemon at {address} asks for a key: set ROUTER_API_KEYS or ROUTER_ADMIN_API_KEY "
            "here as it is set there."
        )
    return _read(answer.status_code, answer.text, address)


def _read(status: int, text: str, address: str) -> dict[str, Any]:
    import json

    try:
        answer = json.loads(text)
        if status == 200 and isinstance(answer, dict):
            return answer
        said = answer["error"]["message"]
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"What answers at {address} is not smarterrouter.") from None
    raise SmarterRouterError(said)

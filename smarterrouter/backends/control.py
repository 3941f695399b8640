"""The control path to a server: small JSON questions, and what its refusals mean.

Decides nothing about models. One HTTP client is kept for as long as its backend lives; for plain
HTTP it does not read the machine's certificates, which would hold up the loop for 50 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from smarterrouter.backends.refusals import refusal
from smarterrouter.errors import BackendError, Unavailable

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """A server that somebody runs. ``url`` is as the user gave it; ``prefix`` goes before each of
    its models' names."""

    name: str
    url: str
    api_key: str | None = None
    prefix: str = ""
    node: str = "local"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def root(self, *below: str) -> str:
        """The address that everything hangs below, ``below`` being what it may end in."""
        url = (self.url if "://" in self.url else f"http://{self.url}").rstrip("/")
        for ending in below:
            url = url.removesuffix(ending)
        return url


class Control:
    """Questions to the server at ``url``; ``who`` names it in errors."""

    def __init__(
        self, url: str, who: str, headers: Mapping[str, str], timeout_s: float = 10.0
    ) -> None:
        self.url = url
        self.shown = without_secrets(url)
        self._who = who
        self._headers = dict(headers)
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    async def get(self, path: str, **params: str) -> Any:
        """The answer's JSON. Raises ``Unavailable``, ``BackendError`` or what the refusal means."""
        return await self.ask("GET", path, params=params)

    async def post(self, path: str, body: object) -> Any:
        """See ``get``."""
        return await self.ask("POST", path, json=body)

    async def ask(self, method: str, path: str, **how: Any) -> Any:
        """See ``get``; ``how`` is what httpx takes: ``params``, ``json``, ``timeout``."""
        import httpx

        try:
            answer = await self._open().request(method, f"{self.url}{path}", **how)
        except httpx.HTTPError as error:
            said = str(error).rstrip(".") or type(error).__name__
            raise Unavailable(f"{self._who} cannot be reached at {self.shown}: {said}.") from error
        if answer.status_code in (404, 405):
            raise self._no_api(path)
        if answer.status_code != 200:
            raise refusal(
                answer.status_code, answer.headers, answer.content, self._who, path.lstrip("/")
            )
        try:
            return answer.json()
        except ValueError as error:
            raise self._no_api(path) from error

    def _no_api(self, path: str) -> BackendError:
        return BackendError(
            f"{self._who} says nothing at {self.shown}{path}. Is that the address of its API?"
        )

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers,
                timeout=httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
                trust_env=False,
                verify=not self.url.startswith("http://"),
            )
        return self._client


def without_secrets(url: str) -> str:
    """The address as it may be told: without a password, and without what follows a ``?``."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def count(value: object) -> int | None:
    """A listed figure; ``None`` where a server says nothing, or nonsense."""
    return int(value) if isinstance(value, int | float) and value > 0 else None


def text(value: object) -> str | None:
    """See ``count``."""
    return value if isinstance(value, str) and value else None

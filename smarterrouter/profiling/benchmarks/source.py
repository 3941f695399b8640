"""The bytes of a benchmark table, from a file or from an address that the owner gave.

Decides what may be read: a regular file, or http and https, up to a size and within a time. No
address is built in and nothing is fetched unasked; without a network only addresses fail.
"""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from smarterrouter.errors import BadRequest, PayloadTooLarge, Unavailable
from smarterrouter.profiling.benchmarks.tables import LARGEST

TIMEOUT_S = 20.0


async def read(
    path_or_url: str, *, timeout_s: float = TIMEOUT_S, most_bytes: int = LARGEST
) -> bytes:
    """All of a file or of an answer.

    Raises ``BadRequest`` (no such file, no such kind of address), ``PayloadTooLarge`` or
    ``Unavailable`` (the server does not answer in time, or not with 200).
    """
    place = path_or_url.strip()
    if "://" not in place:
        return await asyncio.to_thread(_file, place, most_bytes)
    if not place.lower().startswith(("http://", "https://")):
        scheme = place.partition("://")[0]
        raise BadRequest(f"{scheme}:// is not read: give a path, or an http or https address.")
    shown = without_secrets(place)
    try:
        async with asyncio.timeout(timeout_s):  # a server that trickles never times out by itself
            return await _fetch(place, shown, timeout_s, most_bytes)
    except TimeoutError:
        raise Unavailable(
            f"{shown} was not read within {timeout_s:g} s. Try again, or download it and give "
            "the file."
        ) from None


def _file(name: str, most_bytes: int) -> bytes:
    try:
        path = Path(name).expanduser()
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise BadRequest(f"{name} is not a file.")
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadRequest(f"{name} cannot be read: {reason}.") from None
    if len(raw) > most_bytes:
        raise _too_large(name, most_bytes)
    return raw


async def _fetch(url: str, shown: str, timeout_s: float, most_bytes: int) -> bytes:
    import httpx

    # Not packed: how large a packed answer becomes shows only when it is unpacked.
    headers = {"Accept-Encoding": "identity"}
    try:
        async with (
            httpx.AsyncClient(timeout=timeout_s, follow_redirects=True, headers=headers) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code != 200:
                raise Unavailable(f"{shown} answers {answer.status_code}. Is the address right?")
            body = bytearray()
            async for block in answer.aiter_bytes():
                body += block
                if len(body) > most_bytes:
                    raise _too_large(shown, most_bytes)
            return bytes(body)
    except httpx.TimeoutException:
        raise TimeoutError from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        why = str(error) or type(error).__name__
        raise Unavailable(
            f"{shown} cannot be reached: {why}. Is the address right, and is there a network? "
            "A downloaded file does as well."
        ) from None


def _too_large(shown: str, most_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"{shown} is larger than {most_bytes >> 20} MB: too much for a table.")


def without_secrets(url: str) -> str:
    """The address as it may be told: without a password, and without what follows a ``?``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

"""Who is calling? Decides whether a request carries a key that opens the door it knocks at.

With no key set at all everything is open (``serve`` then binds to loopback only). With any key
set, ``/v1`` takes any of them; ``/admin`` takes the admin key if there is one, else any key.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from litestar.types import Scope

from smarterrouter.errors import Unauthorized

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Keys:
    """``clients`` maps names to keys."""

    clients: Mapping[str, str] = field(default_factory=dict)
    admin: str | None = None

    def caller(self, scope: Scope) -> str:
        """The key's name, or the client's address where no key is asked for.

        Raises ``Unauthorized`` for a missing or wrong key.
        """
        if not self.clients and self.admin is None:
            client = scope.get("client")
            return client[0] if client else "local"
        for_admin = scope["path"].startswith("/admin")
        given = bearer(scope)
        if given is None:
            raise Unauthorized("A key is needed: send 'Authorization: Bearer KEY'.")
        if self.admin is not None and hmac.compare_digest(given, self.admin.encode()):
            return ADMIN
        if not (for_admin and self.admin is not None):
            for name, key in self.clients.items():
                if hmac.compare_digest(given, key.encode()):
                    return name
        raise Unauthorized("This key opens nothing here. Ask the owner for another.")


def from_another_site(scope: Scope) -> bool:
    """Whether a browser sends this for a page of some other site; others send no Origin."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def bearer(scope: Scope) -> bytes | None:
    """The key in the Authorization header."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else None
    return None

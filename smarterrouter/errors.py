"""Every error smarterrouter raises on purpose. Each says what went wrong and what to do next.

    SmarterRouterError
    ├── ConfigError            a setting is wrong                       exit 2
    │   └── NoBackend          none is set, and none was found          exit 3 where one is needed
    ├── BadRequest             400  invalid_request
    │   └── Unsupported        400  unsupported: this backend cannot, another may
    ├── Unauthorized           401  invalid_api_key
    ├── ModelNotFound          404  model_not_found
    ├── Conflict               409  conflict: not while things are as they are
    ├── PayloadTooLarge        413  request_too_large
    ├── Overloaded             429  overloaded          (may carry Retry-After)
    ├── BackendError           502  backend_error
    ├── Unavailable            503  unavailable         (may carry Retry-After)
    ├── BackendTimeout         504  backend_timeout
    └── InsufficientVram       507  insufficient_vram

``status``, ``type`` and ``code`` are those of OpenAI's error body.
"""

from __future__ import annotations

from collections.abc import Iterable


class SmarterRouterError(Exception):
    """The base. ``message`` is one or two sentences for the person who must act on it."""

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message.encode(errors="backslashreplace").decode()
        self.param = param
        self.code = code or type(self).code
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, object]:
        """OpenAI's error object."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


class ConfigError(SmarterRouterError):
    """A setting is missing, contradictory or of the wrong kind."""

    code = "config_error"


class NoBackend(ConfigError):
    """Nothing is set that could answer, and nothing was found."""


class BadRequest(SmarterRouterError):
    """The client sent something that no model could answer."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class Unsupported(BadRequest):
    """Something that this backend cannot do; another may."""

    code = "unsupported"


class Unauthorized(SmarterRouterError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ModelNotFound(SmarterRouterError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


def known_models(names: Iterable[str], none: str = "none") -> str:
    """What follows "There is no such model.": the first of those that there are."""
    return f"Known models: {', '.join(sorted(names)[:8]) or none}."


class Conflict(SmarterRouterError):
    """What was asked for cannot be done while things are as they are: a model is in use."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class PayloadTooLarge(SmarterRouterError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class Overloaded(SmarterRouterError):
    """A queue or a backend is full; trying again later helps."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"


class BackendError(SmarterRouterError):
    """A backend failed or answered nonsense."""

    status = 502
    code = "backend_error"


class Unavailable(SmarterRouterError):
    """Nothing can answer at the moment: no backend, no model, or it will not start."""

    status = 503
    code = "unavailable"


class BackendTimeout(SmarterRouterError):
    status = 504
    type = "timeout_error"
    code = "backend_timeout"


class InsufficientVram(SmarterRouterError):
    """The model does not fit, whatever is evicted (or everything else is in use)."""

    status = 507
    code = "insufficient_vram"

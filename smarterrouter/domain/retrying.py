"""When a server that refuses wants to be asked again: what its Retry-After header says. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

LONGEST_WAIT_S = 24 * 3600.0


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds from the header, which gives seconds or a date; at most a day.

    A date is seen from ``now`` (Unix time). ``None`` where there is none, or nothing readable.
    """
    if value is None:
        return None
    try:
        digits = value.strip()[:1].isdecimal()
        seconds = float(value) if digits else parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT_S)

"""What Retry-After may say."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from smarterrouter.domain.retrying import retry_after_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 1.5", 1.5),
        (formatdate(1_000_030, usegmt=True), 30),
        (formatdate(999_000, usegmt=True), 0),
        ("soon", None),
        ("-4", None),
        ("1e99", 86_400),
        ("", None),
        ("7 seconds", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now=1_000_000) == seconds

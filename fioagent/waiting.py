"""How long a server asks us to wait: Retry-After in all of its forms. Pure.

RFC 9110 section 10.2.3, and section 5.6.7 for the dates.
"""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_S: Final = 7 * 24 * 3600
_LONGEST_TEXT: Final = 64  # characters of a date; the longest legal one has 33


def retry_after_s(value: str, date: str, now: datetime) -> float | None:
    """Seconds, a week at most, of ``120`` or of a date in one of HTTP's three forms.

    A date is by the server's clock, so it is compared with ``date``, the Date header
    of the same answer; only where that cannot be read with ``now``, our own clock.
    None for what is missing, garbage, or over already.
    """
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(min(int(value[:12]), LONGEST_S))
    until = _moment(value)
    if until is None:
        return None
    left = (until - (_moment(date) or now)).total_seconds()
    return min(left, float(LONGEST_S)) if left > 0 else None


def _moment(text: str) -> datetime | None:
    """IMF-fixdate, RFC 850 or asctime; None for anything else."""
    if not 0 < len(text) <= _LONGEST_TEXT:
        return None
    try:
        found = parsedate_to_datetime(text)
        # asctime names no zone, and HTTP knows only one.
        aware = found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
        return aware.astimezone(timezone.utc)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

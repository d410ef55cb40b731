"""Retry-After, in every form that it has and in those that it has not."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.waiting import LONGEST_S, retry_after_s

_NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
_DATE = "Sat, 21 Nov 2026 13:00:00 GMT"  # the server's clock is an hour ahead


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("9" * 100, float(LONGEST_S)),
        ("Sat, 21 Nov 2026 13:02:00 GMT", 120.0),
        ("Saturday, 21-Nov-26 13:02:00 GMT", 120.0),
        ("Sat Nov 21 13:02:00 2026", 120.0),
        ("Thu, 21 Nov 2030 13:02:00 GMT", float(LONGEST_S)),
        ("Sat, 21 Nov 2026 12:59:59 GMT", None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("+5", None),
        ("5.5", None),
        ("0x10", None),
        ("\u0665", None),
        ("Sat, 99 Nov 2026 13:02:00 GMT", None),
        ("Sat, 21 Nov 2026 13:02:00 GMT" + " " * 40 + "x", None),
    ],
)
def test_it_is_seconds_by_the_servers_clock(value: str, seconds: float | None) -> None:
    assert seconds == retry_after_s(value, _DATE, _NOW)


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 21 Nov"])
def test_without_a_date_of_the_server_ours_counts(date: str) -> None:
    assert 3720.0 == retry_after_s("Sat, 21 Nov 2026 13:02:00 GMT", date, _NOW)


@given(st.text(max_size=70), st.text(max_size=70))
def test_arbitrary_text_is_no_time_or_a_sensible_one(value: str, date: str) -> None:
    seconds = retry_after_s(value, date, _NOW)

    assert seconds is None or 0 <= seconds <= LONGEST_S

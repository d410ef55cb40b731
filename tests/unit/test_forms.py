"""Durations, moments and assignments, as operators write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent import forms


def test_assignments_are_read_as_editors_and_shells_leave_them() -> None:
    text = "\ufeffROTATIONID=certs-1\r\n# NO=1\n;NO=2\n B = '=x=' \nB=last\nnothing\n"

    assert forms.assignments(text) == {"ROTATIONID": "certs-1", "B": "last"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("45m", 2700),
        ("24h", 86_400),
        ("1d12h", 129_600),
        ("2w", 1_209_600),
    ],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert timedelta(seconds=seconds) == forms.duration(text)


@pytest.mark.parametrize(
    "text", ["", "h", "1.5h", "-1h", "1 h", "1y", "24H", "²s", "1h30", "9" * 10]
)
def test_other_forms_are_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        forms.duration(text)


@given(st.integers(0, int(forms.LONGEST.total_seconds())))
def test_a_duration_is_written_as_it_is_read(seconds: int) -> None:
    value = timedelta(seconds=seconds)

    assert value == forms.duration(forms.duration_text(value))


@pytest.mark.parametrize(
    "text",
    ["2026-11-21T13:00:00Z", "2026-11-21T13:00:00z", "2026-11-21T14:00:00+01:00", "1795266000"],
)
def test_moments_are_read(text: str) -> None:
    assert datetime(2026, 11, 21, 13, tzinfo=timezone.utc) == forms.moment(text)


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-21", "2026-11-21T13:00:00", "12345", "0001-01-01T00:00:00+23:59"]
)
def test_other_forms_are_no_moment(text: str) -> None:
    """A time without a zone is nobody's time."""
    with pytest.raises(ValueError, match="it is no moment"):
        forms.moment(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("# A=0\n;A=0\n  #A=0\nA=1\n", {"A": "1"}),
        ("A=1\nA=2\n", {"A": "2"}),
        (" A = 1 \n", {"A": "1"}),
        ("OLD_A=1\n", {"OLD_A": "1"}),
        ("A=https://h/e?a=b=c\n", {"A": "https://h/e?a=b=c"}),
        ("A=\nB=''\n", {"A": "", "B": ""}),
        ('A="x y"\nB=\'\nC="a\'\n', {"A": "x y", "B": "'", "C": "\"a'"}),
        ("no assignment\n", {}),
    ],
)
def test_assignments_of_all_kinds(text: str, expected: dict[str, str]) -> None:
    assert expected == forms.assignments(text)


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://ota-lite.foundries.io:8443", True),
        ("https://[::1]:8443", True),
        ("https://host./", True),
        ("http://host", False),
        ("https://", False),
        ("https://host:0", False),
        ("https://a..b", False),
        (f"https://{'a' * 64}.example", False),
        ("https://[::1", False),
    ],
)
def test_an_address_has_a_scheme_a_host_and_a_port_that_can_be(url: str, is_one: bool) -> None:
    assert forms.is_https(url) is is_one

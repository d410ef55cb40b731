"""Rows: 202, 429 and 503 with Retry-After in every form (RFC 9110 section 10.2.3)."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from typing import Final

from tests.est.certificates import now
from tests.est.replies import http, raw
from tests.est.scenario import Scenario, put_off
from tests.est.server import Exchange, Reply

WAITS: Final = {202: "wants us to wait", 429: "answered 429", 503: "answered 503"}
DEFAULT_S: Final = 300.0
DAY_S: Final = 86400.0


def _dated(shape: str, ahead: timedelta, clock: timedelta | None) -> list[str]:
    """Retry-After as a date; ``clock`` is how far the server's own is off, with a Date."""
    date = now() + ahead + (clock or timedelta())
    text = {
        "IMF-fixdate": format_datetime(date, usegmt=True),
        "RFC 850": date.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        "asctime": date.strftime("%a %b %e %H:%M:%S %Y"),
    }[shape]
    lines = [f"Retry-After: {text}"]
    if clock is not None:
        lines.append(f"Date: {format_datetime(now() + clock, usegmt=True)}")
    return lines


def _later(status: int, *headers: str) -> Reply:
    def reply(exchange: Exchange) -> None:
        exchange.send(http(status, b"later", "text/plain", *headers))

    return reply


def _later_by_date(status: int, shape: str, ahead: timedelta, clock: timedelta | None) -> Reply:
    def reply(exchange: Exchange) -> None:
        exchange.send(http(status, b"later", "text/plain", *_dated(shape, ahead, clock)))

    return reply


def _about(seconds: float) -> tuple[float, float]:
    """By chance up to half as long again; and the time that the test itself takes."""
    return seconds - 60, seconds * 1.5 + 60


HOUR: Final = timedelta(hours=1)
_OFF: Final = {
    "": None,
    ", by a clock a day behind": -24 * HOUR,
    ", by a clock a year ahead": 8760 * HOUR,
}

DATES: Final = [
    put_off(
        f"{status} until a date as {shape}{words}",
        WAITS[status],
        _later_by_date(status, shape, HOUR, clock),
        waits_s=_about(3600),
    )
    for status in WAITS
    for shape in ("IMF-fixdate", "RFC 850", "asctime")
    for words, clock in _OFF.items()
]

_SECONDS: Final = [
    ("3600", 3600.0),
    (" 3600 ", 3600.0),
    ("0003600", 3600.0),
    ("86400", DAY_S),
    ("604800", 7 * DAY_S),
    ("99999999999999999999999999", 7 * DAY_S),
]
SECONDS: Final = [
    put_off(
        f"{status} with Retry-After {value!r}",
        WAITS[status],
        _later(status, f"Retry-After: {value}"),
        # After a 202 a week at most: the server has the request, and a person looks at it.
        waits_s=_about(min(seconds, 7 * DAY_S if status == 202 else DAY_S)),
    )
    for status in WAITS
    for value, seconds in _SECONDS
]

_NONSENSE: Final = (
    "",
    "-1",
    "soon",
    "1.5",
    "1e9",
    "0x10",
    "\u0663\u0660".encode().decode("latin-1"),
    "3600 s",
    "Mon, 32 Foo 2026 25:61:61 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 +9999",
    "9" * 5000,
)
NONSENSE: Final = [
    put_off(
        f"202 with Retry-After {value[:40]!r}",
        WAITS[202],
        _later(202, f"Retry-After: {value}"),
        waits_s=_about(7 * DAY_S if value.startswith("99") else DEFAULT_S),
    )
    for value in _NONSENSE
] + [
    put_off("202 without Retry-After", WAITS[202], _later(202), waits_s=_about(DEFAULT_S)),
    put_off(
        "202 without a length",
        WAITS[202],
        raw(http(202, b"", None, "Retry-After: 3600", length=False)),
        waits_s=_about(3600),
    ),
    put_off(
        "202 with a page",
        WAITS[202],
        _later(202, "Retry-After: 3600", "X: <html>"),
        waits_s=_about(3600),
    ),
    put_off(
        "202 with two of Retry-After",
        WAITS[202],
        _later(202, "Retry-After: 3600", "Retry-After: 3600"),
        waits_s=(DEFAULT_S - 60, 5460),
    ),
    put_off(
        "503 with Retry-After 'soon'",
        WAITS[503],
        _later(503, "Retry-After: soon"),
        waits_s=(0, 600),
    ),
    put_off("503 without Retry-After", WAITS[503], _later(503), waits_s=(0, 600)),
]

ALL: Final[list[Scenario]] = [*DATES, *SECONDS, *NONSENSE]

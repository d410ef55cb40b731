"""Small forms that operators write: lines of NAME=VALUE, durations, moments, addresses. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Final
from urllib.parse import urlsplit

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}[smhdw])+|[0-9]{1,9}")
_PART: Final = re.compile(r"([0-9]+)([smhdw]?)")
LONGEST: Final = timedelta(days=3650)
_UNIX_SECONDS: Final = re.compile(r"[0-9]{9,11}")
_MARKS: Final = "\"'"


def assignments(text: str) -> dict[str, str]:
    """Values by name, of lines ``NAME=VALUE``; the last of two wins.

    A line that begins with ``#`` or ``;`` is a comment. A value goes to the end of
    the line, ``=`` included, without white space around it and without a pair of
    quotes around all of it. Lines without ``=`` are none of ours.
    """
    found = {}
    for line in text.removeprefix("\ufeff").splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith(("#", ";")):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in _MARKS
    return value[1:-1] if quoted else value


def duration(text: str) -> timedelta:
    """Of ``90s``, ``45m``, ``24h``, ``14d``, ``2w``, ``1d12h``, or seconds without a unit.

    Raises:
        ValueError: another form, or more than ten years.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError("it is no duration such as 90s, 45m, 24h, 14d or 2w")
    seconds = sum(int(count) * _UNITS[unit or "s"] for count, unit in _PART.findall(text))
    if seconds > LONGEST.total_seconds():
        raise ValueError("it is longer than ten years")
    return timedelta(seconds=seconds)


def duration_text(value: timedelta) -> str:
    """The shortest form that ``duration`` reads as ``value``; whole seconds."""
    seconds = int(value.total_seconds())
    unit = next((u for u in "wdhm" if seconds and seconds % _UNITS[u] == 0), "s")
    return f"{seconds // _UNITS[unit]}{unit}"


def moment(text: str) -> datetime:
    """UTC, of ``2026-11-21T13:00:00Z``, another ISO 8601 offset, or unix seconds.

    Raises:
        ValueError: another form; a time without a zone is nobody's time.
    """
    if _UNIX_SECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text), timezone.utc)
    try:
        # Python 3.10 does not read the Z.
        found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
        if found.tzinfo is not None:
            return found.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        pass
    raise ValueError("it is no moment such as 2026-11-21T13:00:00Z, nor unix seconds")


def is_https(url: str) -> bool:
    """Whether it has the form ``https://HOST[:PORT][/PATH]``."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False


def is_host(name: str) -> bool:
    """Whether each part of it has a length that names have (RFC 1035 section 2.3.4)."""
    return all(0 < len(part) < 64 for part in name.removesuffix(".").split("."))

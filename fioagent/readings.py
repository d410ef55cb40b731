"""How a setting is read, from TOML or from a variable. Pure.

Each reading takes what was written and returns the value; TypeError or ValueError says
what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from fioagent import esturl, forms, proxy
from fioagent.errors import ConfigError
from fioagent.keystore import object_ids as ids

MOST_ISSUANCES: Final = 9  # as many as the kept journals can tell of


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it is not a string")
    return value


def some_text(value: Any) -> str:
    if not text(value):
        raise ValueError("it is empty")
    return str(value)


def https(value: Any) -> str:
    if not forms.is_https(text(value)):
        raise ValueError("only https://HOST[:PORT]/PATH is safe")
    return str(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("it is not true or false")
    return value


def flag_text(value: str) -> bool:
    # Go's strconv.ParseBool, by which fioconfig reads it.
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise ValueError("it is not true or false")


def share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("it is not a number")
    if not 0.0 < value <= 1.0:
        raise ValueError("it is not between 0 and 1")
    return float(value)


def issuances(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("it is not a whole number")
    if value not in range(1, MOST_ISSUANCES + 1):
        raise ValueError(f"it is not between 1 and {MOST_ISSUANCES}")
    return value


def duration(value: Any) -> timedelta:
    return forms.duration(text(value))


def handler_limit(value: Any) -> timedelta:
    found = duration(value)
    if not timedelta(seconds=1) <= found <= timedelta(hours=1):
        raise ValueError("it is not between 1s and 1h")
    return found


def interval(value: str) -> timedelta:
    found = forms.duration(text(value))
    if found < timedelta(seconds=1):
        raise ValueError("it is less than a second")
    return found


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it is not a list of strings")
    return tuple(value)


def object_ids(value: Any) -> tuple[str, ...]:
    found = texts(value)
    for each in found:
        try:
            ids.as_bytes(each)
        except ConfigError as error:
            raise ValueError(f"{each!r} is none of 01 to 09") from error
    if len(set(map(ids.as_bytes, found))) < 2:
        raise ValueError("it needs two ids at least")
    return found


def paths_text(value: str) -> tuple[str, ...]:
    found = tuple(path for path in value.split(",") if path)
    if not found:
        raise ValueError("it names no path")
    return found


def label(value: Any) -> str:
    return esturl.label(text(value))


def proxy_url(value: Any) -> str:
    proxy.parse(text(value))
    return str(value)


def names_text(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def uses(value: Any) -> tuple[str, ...]:
    found = texts(value)
    if not set(found) <= {"est", "gateway"}:
        raise ValueError("it is a list of est and gateway")
    return found


def exchange_limit(value: Any) -> timedelta:
    found = duration(value)
    if not timedelta(seconds=5) <= found <= timedelta(minutes=10):
        raise ValueError("it is not between 5s and 10m")
    return found


def choice(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if text(value) not in choices:
            raise ValueError(f"it is none of {', '.join(choices)}")
        return str(value)

    return read

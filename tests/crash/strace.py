"""strace's log of a program: the calls that succeeded, and what stands in their arguments.

Whole strings are asked for in hexadecimal, so commas and brackets separate
arguments and are never part of one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

# Before "trace=": follow children, paths of descriptors, whole strings.
OPTIONS: Final = ("-f", "-y", "-xx", "-s", "16777216", "--seccomp-bpf")
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\w+|\?)(?:<([^>]*)>)?", re.DOTALL)
_UNFINISHED = re.compile(r"(\d+) +(.*?) *<unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_DESCRIPTOR = re.compile(r"(AT_FDCWD|-?\d+)(?:<([^>]*)>(\(deleted\))?)?")
_HEX = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """One that succeeded.

    Attributes:
        process: that made it; a thread counts as one.
        result: what it returned.
        path: of the descriptor that it returned.
    """

    process: str
    name: str
    arguments: list[str]
    result: int
    path: str | None


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Those that succeeded, whole again where another process came in between."""
    begun: dict[str, str] = {}
    for line in lines:
        if unfinished := _UNFINISHED.match(line):
            begun[unfinished[1]] = unfinished[2]
            continue
        whole = line
        if resumed := _RESUMED.match(line):
            beginning = begun.pop(resumed[1], None)
            if beginning is None:
                continue  # of a process that was at it before the log was listened to
            whole = f"{resumed[1]} {beginning}{resumed[2]}"
        found = _LINE.match(whole)
        if found is None or found[4] == "?" or found[4].startswith("-"):
            continue
        pid, name, arguments, result, path = found.groups()
        yield Call(
            pid, name, _split(arguments), int(result, 0), None if path is None else _unhex(path)
        )


def _split(arguments: str) -> list[str]:
    """Strings are hexadecimal, so a comma and a blank stand between arguments alone.

    Structures fall apart here; no call whose structure matters is understood.
    """
    return re.sub(r" */\*.*?\*/", "", arguments).split(", ")


def descriptor(argument: str) -> tuple[int, str | None]:
    """Number and path; -1 for the working directory and for what is no descriptor.

    Sockets and pipes have no path.
    """
    found = _DESCRIPTOR.fullmatch(argument)
    if found is None:
        return -1, None
    number = -1 if found[1] == "AT_FDCWD" else int(found[1])
    path = _unhex(found[2] or "")
    return number, path if path.startswith("/") else None


def path(argument: str) -> str | None:
    """Of a descriptor or a string; None for what is neither."""
    if _HEX.fullmatch(argument):
        return os.fsdecode(text(argument))
    return descriptor(argument)[1]


def text(argument: str) -> bytes:
    found = _HEX.fullmatch(argument)
    if found is None:
        raise ValueError(f"not a whole string: {argument[:60]}")
    return bytes.fromhex(found[1].replace("\\x", ""))


def shown(content: bytes) -> str:
    """How a string stands in the log."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in content) + '"'


def _unhex(path: str) -> str:
    return os.fsdecode(re.sub(rb"\\x([0-9a-f]{2})", _byte, os.fsencode(path)))


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 16)])

"""What a configuration makes of the files in the secrets directory. Pure.

Every value becomes a file below that directory, under the name that it has; the
``OnChanged`` of a file that changes is run afterwards. Names are the operator's
words, and no name leads out of the directory.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_PART: Final = 240  # bytes of one part of a path: NAME_MAX less what a temporary name adds
MAX_NAME: Final = 3072  # bytes; leaves room for the directory in PATH_MAX
# What our own temporary files end in; a file of that name would be taken for one.
RESERVED_END: Final = ".fioagent-tmp"


@dataclass(frozen=True, slots=True)
class Value:
    """One file of the configuration.

    Attributes:
        name: as the operator gave it.
        content: None where no key at hand opens it.
        on_changed: program and arguments to run when it changes; may be empty.
    """

    name: str
    content: bytes | None
    on_changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """Something to run, because of a file.

    Attributes:
        name: of the file, changed or gone.
        command: its ``OnChanged``, not yet checked.
    """

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do.

    Attributes:
        writes: content by name, of files that differ.
        removals: names of files that are there and shall not be.
        calls: for both, in the order of their names.
        problems: what cannot be done, one line for each file, without its content.
    """

    writes: Mapping[str, bytes]
    removals: tuple[str, ...]
    calls: tuple[Call, ...]
    problems: tuple[str, ...]


def plan(wanted: Sequence[Value], previous: Sequence[Value], present: Mapping[str, bytes]) -> Plan:
    """From files that are ``present`` to those that are ``wanted``.

    Args:
        wanted: the new configuration.
        previous: the one before; what is in it alone is removed, and what it
            says of a file that is removed is run. Empty: nothing is removed.
        present: content of those files of both that are there.

    A value that cannot be opened leaves its file as it is.
    """
    writes: dict[str, bytes] = {}
    calls: list[Call] = []
    problems: list[str] = []
    directories = {name for value in wanted for name in _directories(value.name)}
    for value in wanted:
        why = unfit(value.name)
        if why is None and value.name in directories:
            why = "other names need it to be a directory"
        if why is not None:
            problems.append(f"cannot extract {value.name!r}: {why}")
        elif value.content is None:
            problems.append(
                f"cannot decrypt {value.name} with the keys of this device; "
                "the operator has to set it again"
            )
        elif present.get(value.name) != value.content:
            writes[value.name] = value.content
            calls.append(Call(value.name, value.on_changed))
    kept = {value.name for value in wanted}
    gone = [value for value in previous if value.name in present and value.name not in kept]
    calls += [Call(value.name, value.on_changed) for value in gone]
    return Plan(
        writes,
        tuple(value.name for value in gone),
        tuple(sorted((call for call in calls if call.command), key=lambda call: call.name)),
        tuple(problems),
    )


def _directories(name: str) -> list[str]:
    """That a file of this name is in; none where the name will not do anyway."""
    if unfit(name) is not None:
        return []
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def unfit(name: str) -> str | None:
    """Why ``name`` cannot be a file below the secrets directory; None where it can."""
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not text"
    parts = encoded.split(b"/")
    reasons = {
        "its name is absolute": encoded.startswith(b"/"),
        "its name leads out of the secrets directory": b".." in parts,
        "its name has an empty part": b"" in parts or b"." in parts,
        "its name has a zero byte": b"\x00" in encoded,
        "its name is too long": len(encoded) > MAX_NAME or max(map(len, parts)) > MAX_PART,
        f"names that end in {RESERVED_END} are ours": any(
            part.endswith(RESERVED_END.encode()) for part in parts
        ),
    }
    return next((why for why, is_so in reasons.items() if is_so), None)


def allowed(command: Sequence[str], directory: str, *, unsafe: bool) -> tuple[str, ...] | None:
    """``command`` as it may be run; None where it may not.

    fioconfig internal/app.go: the program has to lie below ``directory``, by its
    name with ``..`` resolved, unless callbacks from anywhere are allowed.
    """
    program = os.path.normpath(command[0])
    below = program.startswith(directory.rstrip("/") + "/")
    if "\x00" in "".join(command) or not (below or (unsafe and program.startswith("/"))):
        return None
    return (program, *command[1:])

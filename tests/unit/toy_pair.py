"""A toy that renews three files together, right or with one mistake: what an enumerator must find.

The right way: three new files, each synced, then the directory; a note of the
intent; three renames; the note removed. Recovery rolls forward where the note is,
once it is sure that it stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable

NAMES = ("cert", "chain", "key")
MISTAKES = ("no file fsync", "no directory fsync", "no intent", "early acknowledgement")
_SIZE = 6000  # more than one block


def content(generation: int, name: str) -> bytes:
    return f"{generation} {name}\n".encode().ljust(_SIZE, b"%d" % generation)


def put(path: str, data: bytes, mistake: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, data)
    if mistake != "no file fsync":
        os.fsync(descriptor)
    os.close(descriptor)


def sync_directory(mistake: str) -> None:
    if mistake != "no directory fsync":
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)


def renew(generation: int, mistake: str, note: Callable[[str], None]) -> None:
    """The next generation in the working directory; noted when it is safe."""
    recover()
    for name in NAMES:
        put(f"{name}.new", content(generation, name), mistake)
    sync_directory(mistake)
    if mistake == "early acknowledgement":
        note(str(generation))
    if mistake != "no intent":
        put("intent.tmp", b"%d\n" % generation, mistake)
        os.rename("intent.tmp", "intent")
        sync_directory(mistake)
    finish(mistake)
    note(str(generation))


def finish(mistake: str = "") -> None:
    for name in NAMES:
        if os.path.exists(f"{name}.new"):
            os.rename(f"{name}.new", name)
    sync_directory(mistake)
    if os.path.exists("intent"):
        os.unlink("intent")
        sync_directory(mistake)


def recover(mistake: str = "") -> None:
    """``mistake`` is one that a second cut alone can punish."""
    if mistake != "trusting recovery":
        sync_directory("")  # a killed process may have left the note in memory
    if os.path.exists("intent"):
        if mistake == "hasty recovery":
            os.unlink("intent")
        finish()
        return
    for name in os.listdir("."):
        if name.endswith((".new", ".tmp")):
            os.unlink(name)


def recover_noting(note: Callable[[str], None]) -> None:
    """For a recording of the recovery itself."""
    del note
    recover()


def broken(before: int, mark: str) -> str | None:
    """What is wrong after a recovery; the three must be one generation, a noted one at least."""
    found = set()
    for name in NAMES:
        with open(name, "rb") as file:
            data = file.read()
        number = data.partition(b" ")[0]
        whole = number.isdigit() and data == content(int(number), name)
        found.add(int(number) if whole else None)
    allowed = {int(mark)} if mark else {before, before + 1}
    return None if len(found) == 1 and found <= allowed else f"found {found}, noted {mark!r}"

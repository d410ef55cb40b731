"""What the disk has returned from is there after a power cut, by all that POSIX promises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fioagent.disk import LocalDisk
from tests import needs
from tests.crash import tree as trees
from tests.crash.recorder import Recorder, recording
from tests.crash.states import states

Note = Callable[[str], None]
_DISK = LocalDisk()
_HERE = "/proc/self/cwd"


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")
    with recording() as made:
        yield made


def make(note: Note) -> None:
    _DISK.replace(f"{_HERE}/new", b"new")
    note("done")


def replace(note: Note) -> None:
    _DISK.replace(f"{_HERE}/there", b"other")
    note("done")


def append(note: Note) -> None:
    _DISK.append(f"{_HERE}/there", b" and more")
    note("done")


def begin(note: Note) -> None:
    _DISK.append(f"{_HERE}/new", b"first")
    note("done")


def link(note: Note) -> None:
    _DISK.link(f"{_HERE}/link", "there")
    note("done")


def rename(note: Note) -> None:
    _DISK.rename(f"{_HERE}/there", f"{_HERE}/elsewhere")
    note("done")


def remove(note: Note) -> None:
    _DISK.remove(f"{_HERE}/there")
    note("done")


def make_directory(note: Note) -> None:
    _DISK.make_directory(f"{_HERE}/inside")
    note("done")


def settle(note: Note) -> None:
    """What another process did, and did not make durable."""
    descriptor = os.open(f"{_HERE}/there", os.O_WRONLY)
    os.write(descriptor, b"MORE")
    os.close(descriptor)
    os.rename(f"{_HERE}/there", f"{_HERE}/elsewhere")
    _DISK.settle([f"{_HERE}/elsewhere"])
    note("done")


@pytest.mark.parametrize(
    "effect", [make, replace, append, begin, link, rename, remove, make_directory, settle]
)
def test_an_effect_that_returned_is_durable(
    recorder: Recorder, tmp_path: Path, effect: Callable[[Note], None]
) -> None:
    """Each disk that a cut may leave afterwards is the one that the program saw."""
    place = tmp_path / "disk"
    place.mkdir(mode=0o700)
    (place / "there").write_bytes(b"this")

    record = recorder.record(str(place), effect)

    seen = trees.read(str(place))
    every = list(states(record.start, record.operations, "strict"))
    after = [state for state in every if state.mark == "done"]
    assert len(every) > len(after) > 0
    for state in after:
        assert trees.same(seen, state.tree), state.where()

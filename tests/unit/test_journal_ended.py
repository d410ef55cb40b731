"""Journals of rotations that have ended, and the next one after them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fioagent.disk import LocalDisk
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Phase, Record

from . import journals
from .histories import reached, reported, until


def _archived(directory: Path, records: list[Record]) -> str:
    journal = journals.journal(directory)
    for record in records:
        rotation = journal.add(record)
    before = set(os.listdir(directory))
    journal.archive(rotation)
    (name,) = set(os.listdir(directory)) - before
    return name


def _begun(rotation: str, after_s: int) -> Record:
    beginning = reached(Phase.BEGUN)
    return reached(Phase.BEGUN, after_s, {**beginning.facts, "id": rotation})


def test_ended_rotations_are_found_oldest_first(tmp_path: Path) -> None:
    """In the order in which they ended, whatever their names are and whatever the clock said."""
    end = reached(Phase.ABANDONED)
    for rotation, after_s in (("b", 100), ("z", 5), ("a", 2_000_000)):
        _archived(tmp_path, [_begun(rotation, after_s), end])
    (tmp_path / "lock").write_bytes(b"fioagent rotate\n")

    found = [journal.load() for journal in journals.journal(tmp_path).ended()]

    assert ["b", "z", "a"] == [rotation.id for rotation in found if rotation]
    assert journals.journal(tmp_path).load() is None


def test_an_ended_rotation_that_is_damaged_hides_no_other(tmp_path: Path) -> None:
    name = _archived(tmp_path, [_begun("a", 1), reached(Phase.ABANDONED)])
    _archived(tmp_path, [_begun("b", 2), reached(Phase.ABANDONED)])
    (tmp_path / name).write_bytes(b"?")

    assert ["b"] == [str(j.records[0].facts["id"]) for j in journals.journal(tmp_path).ended()]
    assert b"?" == (tmp_path / name).read_bytes()


def test_an_archive_is_durable_before_the_next_journal_takes_its_name(tmp_path: Path) -> None:
    """A process that was killed over the archive may have left it in memory alone."""
    name = _archived(tmp_path, [_begun("a", 1), reached(Phase.ABANDONED)])
    disk = Told()

    Journal(disk, str(tmp_path)).add(_begun("b", 2))

    made = [f"settle {tmp_path.name}", f"settle {name}"]
    assert [*made, "replace rotation.journal"] == disk.told


def test_the_directory_is_durable_before_the_first_journal_is_in_it(tmp_path: Path) -> None:
    """A process that was killed over making it may have left it in memory alone."""
    disk = Told()

    Journal(disk, str(tmp_path)).add(_begun("a", 1))

    assert [f"settle {tmp_path.name}", "replace rotation.journal"] == disk.told


class Told(LocalDisk):
    """What was made durable, and when."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def settle(self, paths: Iterable[str]) -> None:
        names = list(paths)
        self.told += [f"settle {os.path.basename(name)}" for name in names]
        super().settle(names)

    def replace(
        self,
        path: str,
        content: bytes,
        *,
        mode: int = 0o600,
        keep_time: bool = False,
        modified_s: int | None = None,
    ) -> None:
        self.told.append(f"replace {os.path.basename(path)}")
        super().replace(path, content, mode=mode, keep_time=keep_time, modified_s=modified_s)


def test_an_ended_rotation_still_takes_what_was_delivered(tmp_path: Path) -> None:
    _archived(tmp_path, until(Phase.COMPLETED))
    (ended,) = journals.journal(tmp_path).ended()
    assert 7 == len(ended.unreported())

    ended.add(reported(5))

    (again,) = journals.journal(tmp_path).ended()
    assert 2 == len(again.unreported())


def test_discarding_takes_one_journal_alone(tmp_path: Path) -> None:
    _archived(tmp_path, [_begun("a", 1), reached(Phase.ABANDONED)])
    _archived(tmp_path, [_begun("b", 2), reached(Phase.ABANDONED)])
    open_one = journals.written(tmp_path, until(Phase.BEGUN))

    journals.journal(tmp_path).ended()[0].discard()

    assert ["b"] == [str(j.records[0].facts["id"]) for j in journals.journal(tmp_path).ended()]
    assert open_one == Path(journals.journal(tmp_path).path).read_bytes()


def test_after_an_end_another_rotation_can_begin(tmp_path: Path) -> None:
    """With the same journal, as a resident agent has it."""
    journal = journals.journal(tmp_path)
    for record in until(Phase.COMPLETED):
        rotation = journal.add(record)
    journal.archive(rotation)

    for record in [_begun("next", 50), reached(Phase.KEY_GENERATED)]:
        journal.add(record)

    assert [_begun("next", 50), reached(Phase.KEY_GENERATED)] == journals.loaded(tmp_path)


def test_after_a_torn_end_another_rotation_can_begin(tmp_path: Path) -> None:
    """The line that was torn belongs to the old journal and never comes back in the next."""
    content = journals.written(tmp_path, [*until(Phase.COMPLETED), reported(7)])
    journals.put(tmp_path, content[:-5])
    journal = journals.journal(tmp_path)
    rotation = journal.load()
    assert rotation is not None
    assert Phase.COMPLETED is rotation.phase
    journal.archive(rotation)

    for record in [_begun("next", 50), reached(Phase.KEY_GENERATED)]:
        journal.add(record)

    assert [_begun("next", 50), reached(Phase.KEY_GENERATED)] == journals.loaded(tmp_path)

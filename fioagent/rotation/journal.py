"""Records on disk: one line each, with a checksum.

A line is ``<crc32 of the rest, 8 hex digits> <JSON>``; the first names the
format. A record is appended, and durable before the next; where it only counts
what was said before, or is the first of a run, the file is replaced whole. So a
power cut can tear the last line only, and a torn last line is a record that was
never written. Anything else that does not fit is damage: it is told, and the
file stays as it is until a person says that it may be set aside.

The finished rotation's journal is kept beside it: ``fioagent status`` reads it,
and events that have not reached the gateway are still in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from datetime import datetime
from typing import Any, Final

from fioagent import causes
from fioagent.errors import ConfigError
from fioagent.ports import Disk
from fioagent.rotation import counting, events, machine
from fioagent.rotation.machine import Kind, Phase, Record, Rotation

FORMAT: Final = 1
NAME: Final = "rotation.journal"
DAMAGED: Final = "damaged.journal"
_ARCHIVED: Final = "ended-"
_SUFFIX: Final = ".journal"
_ENDED: Final = re.compile(r"ended-[0-9]{6}-.*\.journal")


class JournalDamagedError(ConfigError):
    """Not what we wrote; the operator's word is needed to go on without it."""


class Journal:
    """The journal of one device; reading it changes nothing. The directory is the lock's too.

    Attributes:
        records: all of them, as loaded or added.
        rotation: what they fold to; None where there are none.
        lost: there was one, and nothing of it is left.
    """

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self.path = os.path.join(directory, NAME)
        self.records: list[Record] = []
        self.rotation: Rotation | None = None
        self.lost = False
        self._suspect = False  # the file may differ from the records, or not be durable

    def load(self) -> Rotation | None:
        """The open rotation; None where there is none.

        Raises:
            ConfigError: damaged, or written by a newer program. Nothing was changed.
        """
        try:
            content = self._disk.read_if_there(self.path)
        except ConfigError as error:
            raise JournalDamagedError(str(error), hint=causes.JOURNAL_DAMAGED.remedy) from error
        self.records = [] if content is None else _parse(self.path, content)
        # It may end in a torn line; and what a process wrote that was killed may be
        # in memory alone, so nothing is built on it before the whole is written anew.
        self._suspect = content is not None
        self.rotation = _fold(self.path, self.records)
        return self.rotation

    def add(self, record: Record) -> Rotation:
        """Durable before this returns, with all before it, and folded."""
        records = counting.extended(self.records, record)
        appended = bool(self.records) and records[:-1] == self.records
        rotation = machine.fold([record], self.rotation) if appended else machine.fold(records)
        if rotation is None:
            raise AssertionError("a record folds to a rotation")
        if appended and not self._suspect:
            self._suspect = True  # until the append has returned
            self._disk.append(self.path, _encoded(record))
        else:
            self._suspect = True
            self._write_anew(records)
        self._suspect = False
        self.records, self.rotation = records, rotation
        return rotation

    def forgive(self) -> None:
        """The run under way counts as none; durable before this returns.

        Raises:
            ConfigError: the disk.
        """
        records = counting.forgiven(self.records)
        if records != self.records:
            self._suspect = True
            self._write_anew(records)
            self._suspect = False
            self.records, self.rotation = records, _fold(self.path, records)

    def start(self, records: list[Record]) -> Rotation:
        """A rotation that has a history already; durable before this returns."""
        rotation = _fold(self.path, records)
        if rotation is None:
            raise AssertionError("a history has a beginning")
        self._write_anew(records)
        self.records, self.rotation = records, rotation
        return rotation

    def _write_anew(self, records: list[Record]) -> None:
        """Whole or not at all: a journal without its beginning would be damage."""
        if not self.records:
            # A process may have been killed over making the directory, or over the archive of
            # the one before, which gives its name up: both are in memory alone, perhaps.
            before = [os.path.join(self._directory, name) for name in self._ended_names()[-1:]]
            self._disk.settle([self._directory, *before])
        self._disk.replace(self.path, _whole(records))

    def archive(self, rotation: Rotation) -> None:
        """Out of the way, but still there."""
        # Numbered, because the clock of a device may jump.
        latest = max((int(name[len(_ARCHIVED) :][:6]) for name in self._ended_names()), default=0)
        name = f"{_ARCHIVED}{latest + 1:06d}-{rotation.id}{_SUFFIX}"
        self._disk.rename(self.path, os.path.join(self._directory, name))
        self.records, self.rotation = [], None

    def set_aside(self) -> None:
        """Keep a copy of a damaged journal, and go on from its sound part."""
        kept = os.path.join(self._directory, DAMAGED)
        try:
            content = self._disk.read(self.path)
        except ConfigError:
            self._disk.rename(self.path, kept)
            content = b""
        self.records, self._suspect = _sound_part(self.path, content), True
        if content and content != _whole(self.records):
            self._disk.replace(kept, content)
        self.lost = not self.records
        self.rotation = _fold(self.path, self.records)

    def amend(self, records: list[Record]) -> None:
        """What must have been behind the sound part; durable with the next record."""
        self.records = [*self.records, *records]
        self.rotation = _fold(self.path, self.records)

    def ended(self) -> list[Journal]:
        """Journals of ended rotations, loaded, oldest first. Damaged ones are left out."""
        found = []
        for name in self._ended_names():
            journal = Journal(self._disk, self._directory)
            journal.path = os.path.join(self._directory, name)
            try:
                journal.load()
            except ConfigError:
                continue
            found.append(journal)
        return found

    def _ended_names(self) -> list[str]:
        return [name for name in self._disk.names(self._directory) if _ENDED.fullmatch(name)]

    def unreported(self) -> list[dict[str, object]]:
        """Events that the gateway has not acknowledged, in order."""
        if self.rotation is None:
            return []
        return events.of(self.records)[self.rotation.reported :]

    def discard(self) -> None:
        self._disk.remove(self.path)


def _fold(path: str, records: list[Record]) -> Rotation | None:
    try:
        rotation = machine.fold(records)
        events.of(records)  # what cannot be told is not what we wrote
    except (machine.HistoryError, KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    return rotation


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _encoded(record: Record) -> bytes:
    value: dict[str, Any] = {"at": record.at.isoformat(), "kind": record.kind.value}
    if record.phase is not None:
        value["phase"] = record.phase.value
    if record.facts:
        value["facts"] = dict(record.facts)
    return _line(value)


def _whole(records: list[Record]) -> bytes:
    return b"".join([_line({"fioagent-journal": FORMAT}), *map(_encoded, records)])


def _parse(path: str, content: bytes) -> list[Record]:
    lines = content.splitlines(keepends=True)
    if not lines:
        raise _damaged(path, "it is empty")
    version = _value(path, 1, lines[0]).get("fioagent-journal")
    if version is None:
        raise _damaged(path, "its first line does not name the format")
    if version != FORMAT:
        raise ConfigError(
            f"cannot read the journal {path}: it is of format {version}, not {FORMAT}",
            hint="install the fioagent that wrote it; nothing was changed, the live pair works",
        )
    if len(lines) > 2 and _is_torn(lines[-1]):
        lines.pop()
    records = [_record(path, i, line) for i, line in enumerate(lines[1:], start=2)]
    if not records:
        raise _damaged(path, "it has no beginning")
    return records


def _sound_part(path: str, content: bytes) -> list[Record]:
    """The records before the first line that is damaged, or that cannot follow."""
    sound: list[Record] = []
    with contextlib.suppress(JournalDamagedError):
        for number, line in enumerate(content.splitlines(keepends=True)[1:], start=2):
            record = _record(path, number, line)
            _fold(path, [*sound, record])
            sound.append(record)
    return sound


def _is_torn(line: bytes) -> bool:
    """Whether a power cut explains it: cut short, or with blocks that were never written."""
    return not _is_whole(line) and (not line.endswith(b"\n") or b"\x00" in line)


def _is_whole(line: bytes) -> bool:
    checksum, _, text = line.removesuffix(b"\n").partition(b" ")
    return line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(text)


def _value(path: str, number: int, line: bytes) -> dict[str, Any]:
    if not _is_whole(line):
        raise _damaged(path, f"the checksum of line {number} differs")
    try:
        value = json.loads(line.partition(b" ")[2])
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"line {number}: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("facts", {}), dict):
        raise _damaged(path, f"line {number} is no record")
    return value


def _record(path: str, number: int, line: bytes) -> Record:
    value = _value(path, number, line)
    try:
        return Record(
            kind=Kind(value["kind"]),
            at=datetime.fromisoformat(value["at"]),
            phase=Phase(value["phase"]) if "phase" in value else None,
            facts=value.get("facts", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"line {number}: {error}") from error


def _damaged(path: str, why: str) -> JournalDamagedError:
    return JournalDamagedError.of(causes.JOURNAL_DAMAGED, {"path": path, "reason": why})

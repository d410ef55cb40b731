"""Records that survive a power cut at any byte, and damage that is told and left alone."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.disk import LocalDisk
from fioagent.errors import ConfigError
from fioagent.rotation import events, machine
from fioagent.rotation.counting import extended, forgiven
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import HistoryError, Kind, Phase, Record, fold

from . import journals, made
from .histories import AT, any_history, attempt, paused, reached, refused, reported, until

_DAMAGED = r"cannot read the journal .*: it is damaged \("


_LIKELY = [*until(Phase.CERT_ISSUED), paused(Phase.LOCKED, "timed out: \n\r\u2028 ü"), reported(3)]


@pytest.mark.parametrize(
    "records",
    [until(Phase.BEGUN), _LIKELY, until(Phase.COMPLETED), refused()],
    ids=["begun", "paused", "completed", "refused"],
)
def test_what_is_written_is_read(tmp_path: Path, records: list[Record]) -> None:
    """Records, times to the microsecond, types of facts, and what they fold to."""
    journals.written(tmp_path, records)
    journal = journals.journal(tmp_path)

    rotation = journal.load()

    assert records == journal.records
    assert machine.fold(records) == rotation
    assert events.of(records)[rotation.reported if rotation else 0 :] == journal.unreported()


def test_each_record_is_on_the_disk_when_add_returns(tmp_path: Path) -> None:
    """Another reader sees it at once, and what was there before stays to the byte."""
    journal = journals.journal(tmp_path)
    before = b""

    for count, record in enumerate(_LIKELY, start=1):
        rotation = journal.add(record)
        after = Path(journal.path).read_bytes()
        assert after.startswith(before)
        assert _LIKELY[:count] == journals.loaded(tmp_path)
        assert machine.fold(_LIKELY[:count]) == rotation
        before = after


def test_no_file_is_no_rotation(tmp_path: Path) -> None:
    journal = journals.journal(tmp_path / "absent")

    assert journal.load() is None
    assert [] == journal.records
    assert [] == journal.ended()
    assert [] == journal.unreported()


def test_a_record_that_cannot_follow_is_not_written(tmp_path: Path) -> None:
    """An illegal step is our bug; the journal does not take it, not even in memory."""
    content = journals.written(tmp_path, _LIKELY)
    journal = journals.journal(tmp_path)
    journal.load()

    with pytest.raises(HistoryError, match="completed follows cert-issued"):
        journal.add(reached(Phase.COMPLETED))

    assert _LIKELY == journal.records
    assert content == Path(journal.path).read_bytes()


# A file that is cut anywhere behind the beginning: add() appends, so the power
# can fail after any byte of the last record. The beginning is one replacement.
_CUT = [*until(Phase.CERT_ISSUED), paused(Phase.LOCKED, "timed out")]


def test_a_last_line_torn_at_any_byte_was_never_written(tmp_path: Path) -> None:
    """Read without a change; the next record makes a clean file of it."""
    content = journals.written(tmp_path, _CUT)
    starts = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    assert len(_CUT) + 1 == len(starts)

    for cut in range(starts[1], len(content) + 1):
        whole = sum(start <= cut for start in starts) - 1
        path = journals.put(tmp_path, content[:cut])
        journal = journals.journal(tmp_path)

        journal.load()

        assert _CUT[:whole] == journal.records
        assert content[:cut] == path.read_bytes()
        added = paused(Phase.KEY_GENERATED, "after the boot")
        journal.add(added)
        assert [*_CUT[:whole], added] == journal.records == journals.loaded(tmp_path)
        assert content[: starts[whole]] == path.read_bytes()[: starts[whole]]
        again = paused(Phase.KEY_GENERATED, "once more")
        journal.add(again)
        assert [*_CUT[:whole], added, again] == journals.loaded(tmp_path)


def test_a_torn_beginning_is_damage(tmp_path: Path) -> None:
    """It comes by one rename, so a power cut cannot tear it; something else did."""
    content = journals.written(tmp_path, until(Phase.BEGUN))

    for cut in range(len(content)):
        path = journals.put(tmp_path, content[:cut])
        with pytest.raises(ConfigError, match=_DAMAGED):
            journals.journal(tmp_path).load()
        assert content[:cut] == path.read_bytes()


@pytest.mark.parametrize("turn", [0x01, 0x20, 0x07, 0xFF], ids=hex)
def test_a_turned_byte_before_the_last_line_is_damage(tmp_path: Path, turn: int) -> None:
    """Each one, line ends among them: told, with the file as it was."""
    content = journals.written(tmp_path, _CUT)
    last_line = content.rindex(b"\n", 0, -1) + 1
    unnoticed = []

    for place in range(last_line):
        damaged = bytearray(content)
        damaged[place] ^= turn
        path = journals.put(tmp_path, bytes(damaged))
        journal = journals.journal(tmp_path)
        try:
            journal.load()
        except ConfigError:
            assert [] == journal.records
        else:
            unnoticed.append(place)
        assert bytes(damaged) == path.read_bytes()

    assert [] == unnoticed


@pytest.mark.parametrize("line", range(3))
def test_a_line_lost_in_the_middle_is_damage(tmp_path: Path, line: int) -> None:
    """Each line is whole, and yet the history has a hole or no beginning."""
    lines = journals.written(tmp_path, _CUT).splitlines(keepends=True)
    del lines[line]
    path = journals.put(tmp_path, b"".join(lines))
    content = path.read_bytes()

    with pytest.raises(ConfigError, match=_DAMAGED) as caught:
        journals.journal(tmp_path).load()

    assert "nothing was changed" in str(caught.value.hint)
    assert content == path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"\n", b"\x00" * 4096, b"{}\n", b'00000000 {"a":1}\n'])
def test_another_file_is_damage(tmp_path: Path, content: bytes) -> None:
    path = journals.put(tmp_path, content)

    with pytest.raises(ConfigError, match=_DAMAGED):
        journals.journal(tmp_path).load()

    assert content == path.read_bytes()


def _line(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


@pytest.mark.parametrize("version", [b"2", b"0", b'"1"'])
def test_a_newer_format_is_left_to_the_program_that_wrote_it(
    tmp_path: Path, version: bytes
) -> None:
    content = _line(b'{"fioagent-journal":%s}' % version) + _line(b'{"new":"thing"}')
    path = journals.put(tmp_path, content)

    with pytest.raises(ConfigError, match=r"it is of format .*, not 1") as caught:
        journals.journal(tmp_path).load()

    assert "install the fioagent that wrote it" in str(caught.value.hint)
    assert content == path.read_bytes()


@pytest.mark.parametrize(
    "record",
    [
        b"[]",
        b"5",
        b"{}",
        b'{"kind":"phase"}',
        b'{"kind":"jump","at":"2026-11-01T12:00:00+00:00"}',
        b'{"kind":"phase","phase":"teleported","at":"2026-11-01T12:00:00+00:00"}',
        b'{"kind":"phase","phase":"begun","at":"yesterday"}',
        b'{"kind":"phase","phase":"begun","at":5}',
        b'{"kind":"phase","phase":"begun","facts":5,"at":"2026-11-01T12:00:00+00:00"}',
        b'{"kind":"reported","at":"2026-11-01T12:00:00+00:00"}',
    ],
)
def test_a_line_that_fits_but_makes_no_sense_is_damage(tmp_path: Path, record: bytes) -> None:
    """The checksum is right: a person with an editor, or a program of another kind."""
    beginning = journals.written(tmp_path, until(Phase.BEGUN))
    path = journals.put(tmp_path, beginning + _line(record))

    with pytest.raises(ConfigError, match=_DAMAGED):
        journals.journal(tmp_path).load()

    assert beginning + _line(record) == path.read_bytes()


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    journals.put(tmp_path_factory.getbasetemp(), content)

    with pytest.raises(ConfigError, match="cannot read the journal"):
        journals.journal(tmp_path_factory.getbasetemp()).load()


@given(any_history())
def test_any_history_survives(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    directory = tmp_path_factory.getbasetemp()

    journals.written(directory, records)

    expected: list[Record] = []
    for record in records:
        expected = extended(expected, record)
    assert expected == journals.loaded(directory)
    journals.journal(directory).discard()


def test_a_record_that_did_not_fit_on_the_disk_is_no_damage(small: Path) -> None:
    """Half a record is written, the disk is full, somebody makes room, the same run goes on."""
    journal = journals.journal(small)
    for record in until(Phase.CERT_ISSUED):
        journal.add(record)
    filler = made.fill(small)
    with pytest.raises(ConfigError, match="no space left"):
        journal.add(paused(Phase.LOCKED, "x" * 8000))
    filler.unlink()

    journal.add(paused(Phase.LOCKED, "the disk was full"))

    assert [*until(Phase.CERT_ISSUED), paused(Phase.LOCKED, "the disk was full")] == journal.records
    assert journal.records == journals.loaded(small)


class _UnsureDisk(LocalDisk):
    """Its first append arrives, and then fsync says that it may not have."""

    failed = False

    def append(self, path: str, content: bytes) -> None:
        super().append(path, content)
        if not self.failed:
            self.failed = True
            raise ConfigError(f"cannot write {path}: input/output error")


def test_a_record_that_may_have_arrived_is_not_there_twice(tmp_path: Path) -> None:
    """The step is paused and repeated in the same run; the next run reads what this one knows."""
    journal = Journal(_UnsureDisk(), str(tmp_path))
    journal.add(reached(Phase.BEGUN))
    with pytest.raises(ConfigError, match="input/output error"):
        journal.add(reached(Phase.KEY_GENERATED))

    journal.add(paused(Phase.KEY_GENERATED, "input/output error"))
    journal.add(reached(Phase.KEY_GENERATED, 9))

    assert journal.records == journals.loaded(tmp_path)


def test_a_journal_is_for_us_alone_and_holds_what_it_was_given(tmp_path: Path) -> None:
    """References and digests as they came, printable ASCII, nothing from elsewhere."""
    content = journals.written(tmp_path, until(Phase.COMPLETED))

    assert 0o600 == Path(journals.journal(tmp_path).path).stat().st_mode & 0o777
    assert content.isascii()
    assert b"PRIVATE" not in content
    lines = content.splitlines()
    assert len(until(Phase.COMPLETED)) + 1 == len(lines)
    given_names = {name for record in until(Phase.COMPLETED) for name in record.facts}
    assert all(name.encode() in content for name in given_names)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_run_that_was_stopped_is_taken_back(before: int) -> None:
    """That one alone, whatever it has written since; earlier ones that died count as they did."""
    run = Record(Kind.RUN, AT)
    records = [reached(Phase.BEGUN), reached(Phase.KEY_GENERATED), reached(Phase.CERT_ISSUED)]
    for _ in range(before):
        records = extended(records, run)
    stopped = forgiven([*extended(records, run), attempt(Phase.LOCKED)])

    rotation = fold(stopped)
    assert rotation is not None
    assert (rotation.silent_runs, rotation.announced) == (before, True)


def test_a_run_that_has_got_somewhere_is_not_taken_back() -> None:
    """The phase has made it count for nothing already."""
    records = [reached(Phase.BEGUN), Record(Kind.RUN, AT), reached(Phase.KEY_GENERATED)]

    assert forgiven(records) == records

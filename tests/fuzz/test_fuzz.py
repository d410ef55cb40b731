"""Whatever is in a file or an answer: no crash, no hang, no memory, only errors of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.__main__ import main, run
from tests.fuzz.rounds import fixed_round
from tests.fuzz.targets import SEEDS, all_targets, seeds_of
from tests.fuzz.watch import FindingError, Target, check, check_nothing_stays

NAMES = sorted(path.name for path in SEEDS.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    with all_targets() as found:
        yield found


def test_every_reader_has_seeds(targets: dict[str, Target]) -> None:
    assert NAMES == sorted(targets)


@pytest.mark.parametrize("name", NAMES)
def test_examples_and_what_was_once_found(targets: dict[str, Target], name: str) -> None:
    """Read again and again, and nothing stays in memory."""
    check_nothing_stays(targets[name], seeds_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_damaged_examples(targets: dict[str, Target], name: str) -> None:
    """A few hundred; ``python3 -m tests fuzz`` goes on."""
    fixed_round(targets[name], seeds_of(name))


def reads_badly(data: bytes) -> None:
    if data.startswith(b"hang"):
        while True:
            pass
    if data.startswith(b"eat"):
        _ = bytearray(64 * 1024 * 1024)
    if data.startswith(b"fall"):
        raise IndexError


@pytest.mark.parametrize(
    ("data", "why"), [(b"hang", "more than"), (b"eat", "bytes of memory"), (b"fall", "IndexError")]
)
def test_the_watch_finds_what_it_is_there_for(data: bytes, why: str) -> None:
    """A reader that is broken on purpose."""
    with pytest.raises(FindingError, match=why):
        check(Target("broken", reads_badly, (ValueError,)), data, cpu_s=0.5)


def falls(data: bytes) -> None:
    if len(data) > 3:
        raise IndexError


def test_what_is_found_is_small_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the seed that it shall become."""
    monkeypatch.chdir(tmp_path)

    assert run(Target("trigger", falls, ()), 60)

    (path,) = tmp_path.iterdir()
    assert len(path.read_bytes()) == 4
    assert str(path.name) in capsys.readouterr().out


def test_the_command_runs_readers_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0", "trigger", "est-url"]) == 0
    assert capsys.readouterr().out.count("nothing found") == 2
    assert main(["no-such-reader"]) == 2

"""The command of the crash proof: its table, its exit status, what it writes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.crash import __main__ as command
from tests.crash.report import Row

KEPT = Row(
    layer="1 ports",
    scenario="first rotation",
    store="file",
    points=12_345,
    states=command.QUICK_FLOOR,
    stranded=0,
    broken=0,
    rotated=12_000,
    reverted=345,
    failures=(),
    seconds=61.4,
)
BROKEN = dataclasses.replace(
    KEPT,
    layer="2 kills",
    scenario="given up",
    states=7,
    stranded=1,
    broken=2,
    failures=("at A: it is gone", "at B: it is told twice", "at C: no end"),
)


class MadeUp:
    """A layer that finds what it was given."""

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.asked: list[Mapping[str, object]] = []

    def run(self, *, full: bool, jobs: int, stop_early: bool, **more: object) -> list[Row]:
        self.asked.append({"full": full, "jobs": jobs, "stop_early": stop_early, **more})
        return self.rows


def run(layers: Mapping[int, MadeUp], *arguments: str) -> int:
    nothing = MadeUp()
    return command.main(arguments, load=lambda number: layers.get(number, nothing))


def test_promises_that_were_kept_at_enough_states_are_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line a row, and the sum."""
    assert run({1: MadeUp(KEPT)}) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    head = "layer scenario key store points states stranded broken rotated reverted time"
    row = "1 ports first rotation file 12,345 20,000 0 0 12,000 345 61 s"
    total = "all 12,345 20,000 0 0 12,000 345 61 s"
    assert [head, row, total] == [" ".join(line.split()) for line in lines]
    words = ("points", "12,345", "12,345")
    assert len({line.index(w) + len(w) for line, w in zip(lines, words, strict=True)}) == 1


@pytest.mark.parametrize("found", [{"stranded": 1}, {"broken": 1}])
def test_one_device_is_enough_to_fail(found: dict[str, int]) -> None:
    """Even where no failure was described."""
    row = dataclasses.replace(KEPT, **found)  # type: ignore[arg-type]  # two of its numbers

    assert run({1: MadeUp(row)}) == 1


def test_each_failure_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the layer and the place, to be found again."""
    assert run({1: MadeUp(KEPT), 2: MadeUp(BROKEN)}) == 1

    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert [
        "FAILED: layer 2 kills: at A: it is gone",
        "FAILED: layer 2 kills: at B: it is told twice",
        "FAILED: layer 2 kills: at C: no end",
    ] == failed


def test_a_thousand_failures_are_not_a_thousand_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The first of them and a number; all are in the JSON."""
    failures = tuple(f"at {number}" for number in range(1000))

    run({1: MadeUp(dataclasses.replace(BROKEN, failures=failures))})

    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == command.SHOWN + 2
    assert "FAILED: layer 2 kills: given up: 980 more, --json has all" in failed


def test_too_few_states_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """A proof that looked at nothing proves nothing."""
    row = dataclasses.replace(KEPT, states=command.QUICK_FLOOR - 1)

    assert run({1: MadeUp(row)}) == 1
    assert "FAILED: 19999 distinct states, 20000 are promised" in capsys.readouterr().out
    assert run({1: MadeUp(KEPT)}, "--full") == 1


def test_one_layer_alone_needs_no_number_of_states() -> None:
    """The floor is for the whole."""
    first, second = MadeUp(KEPT), MadeUp(BROKEN)

    assert run({1: first, 2: second}, "--layer", "1", "--jobs", "3") == 0

    assert first.asked == [{"full": False, "jobs": 3, "stop_early": False}]
    assert second.asked == []


def test_arguments_reach_the_layers() -> None:
    """In the order of the numbers."""
    layer = MadeUp(KEPT)

    run({4: layer}, "--full", "--stop-early", "--jobs", "1")

    assert layer.asked == [{"full": True, "jobs": 1, "stop_early": True}]


def test_a_key_store_is_asked_of_the_layer_that_has_them() -> None:
    layer = MadeUp(KEPT)

    run({2: layer}, "--layer", "2", "--store", "TPM", "--jobs", "1")

    assert layer.asked == [{"full": False, "jobs": 1, "stop_early": False, "store": "TPM"}]


def test_json_holds_every_row_and_the_sum(tmp_path: Path) -> None:
    """For whoever compares runs."""
    file = tmp_path / "crash.json"

    run({1: MadeUp(KEPT), 2: MadeUp(BROKEN)}, "--json", str(file))

    written = json.loads(file.read_text())
    assert written["full"] is False
    assert [KEPT.scenario, BROKEN.scenario] == [row["scenario"] for row in written["rows"]]
    assert written["total"]["points"] == 2 * 12_345
    assert written["total"]["stranded"] == 1
    assert list(BROKEN.failures) == written["rows"][1]["failures"] == written["total"]["failures"]


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """After the last layer that was finished, in the longest one after its last scenario."""
    file, first = tmp_path / "crash.json", MadeUp(KEPT)
    third = dataclasses.replace(KEPT, layer="3 disk states")

    class Killed(MadeUp):
        def run(self, **asked: object) -> Iterator[Row]:  # type: ignore[override]  # one by one
            yield third
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({1: first, 3: Killed()}, "--json", str(file))
    other = dataclasses.replace(third, scenario="second rotation")
    again = MadeUp(other)

    assert run({1: first, 3: again}, "--json", str(file), "--resume") == 0

    assert len(first.asked) == 1
    assert again.asked[0]["done"] == ["first rotation"]
    written = json.loads(file.read_text())
    assert [KEPT, third, other] == [
        Row(**{**row, "failures": tuple(row["failures"])}) for row in written["rows"]
    ]
    assert written["finished"] == [1, 2, 3, 4]


@pytest.mark.parametrize("change", [{"sources": "0" * 64}, {"full": True}, None])
def test_a_run_of_something_else_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object] | None
) -> None:
    file = tmp_path / "crash.json"
    run({1: MadeUp(KEPT)}, "--json", str(file))
    text = json.dumps({**json.loads(file.read_text()), **change}) if change else "{"
    file.write_text(text)

    with pytest.raises(SystemExit):
        run({}, "--json", str(file), "--resume")

    assert "cannot resume" in capsys.readouterr().err
    assert file.read_text() == text


@pytest.mark.parametrize(
    "argument", ["--layer=5", "--layer=x", "--no-such", "more", "--store=TPM", "--resume"]
)
def test_wrong_arguments_are_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By argparse, with its exit status."""
    with pytest.raises(SystemExit) as ended:
        run({}, argument)

    assert ended.value.code == 2

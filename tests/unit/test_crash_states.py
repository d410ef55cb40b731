"""The enumerator of disk states finds what is seeded, and nothing where nothing is wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.crash import tree as trees
from tests.crash.recorder import Recorder, Recording, recording
from tests.crash.states import MODELS, Counts, states
from tests.crash.tree import ROOT, Directory, Enter, File, Rename, Sync, Tree, Truncate, Write
from tests.unit import toy_pair

# What each model can see. A kill loses no page cache, so no missing fsync shows.
FOUND_BY = {
    "": (),
    "no file fsync": ("ext4", "strict"),
    "no directory fsync": ("ext4", "strict"),
    "no intent": MODELS,
    "early acknowledgement": MODELS,
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")
    with recording() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The first generation, and nothing else."""
    made = tmp_path / "toy"
    made.mkdir(mode=0o700)
    for name in toy_pair.NAMES:
        (made / name).write_bytes(toy_pair.content(1, name))
    return made


def first_broken(record: Recording, model: str, scratch: Path, mark: str = "") -> str | None:
    """The first state of ``model`` that recovery does not put right."""
    directory = scratch / "state"
    for state in states(record.start, record.operations, model, mark=mark, seen=set()):
        trees.write(state.tree, str(directory))
        with inside(directory):
            toy_pair.recover()
            wrong = toy_pair.broken(1, state.mark)
        shutil.rmtree(directory)
        if wrong:
            return f"{state.where()}: {wrong}"
    return None


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mistake", FOUND_BY)
def test_a_mistake_is_found_by_the_models_that_can_see_it(
    recorder: Recorder, place: Path, tmp_path: Path, mistake: str, model: str
) -> None:
    """And the right program passes all of them."""
    record = recorder.record(str(place), toy_pair.renew, 2, mistake)

    assert bool(first_broken(record, model, tmp_path)) == (model in FOUND_BY[mistake])


def test_power_may_fail_again_while_the_toy_recovers(
    recorder: Recorder, place: Path, tmp_path: Path
) -> None:
    """Recovery is recorded and cut itself, from each state of the first cut."""
    record = recorder.record(str(place), toy_pair.renew, 2, "")
    seen: set[bytes] = set()
    firsts = list(states(record.start, record.operations, "strict", seen=seen))
    for number, state in enumerate(firsts):
        directory = tmp_path / str(number)
        trees.write(state.tree, str(directory))
        again = recorder.record(str(directory), toy_pair.recover_noting)
        assert first_broken(again, "strict", tmp_path, state.mark) is None


START: Tree = {ROOT: Directory({"a": 1}, 0o700), 1: File(b"old", 0o600)}


def contents(model: str, *operations: trees.Operation) -> set[bytes | None]:
    """What "a" may hold after all of ``operations``; None where there is no "a"."""
    found = set()
    for state in states(START, operations, model):
        if state.point == len(operations):
            node = dict(trees.listing(state.tree)).get("a")
            found.add(node.content if isinstance(node, File) else None)
    return found


REPLACED = (
    Enter(ROOT, ".a", 2, File(b"", 0o600)),
    Write(2, 0, b"newer!"),
    Sync(2),
    Rename(ROOT, ".a", "a", 2),
)


TORN = {bytes(6), b"newer", b"new", b"new\0\0\0", b"\0\0\0er!"}


@pytest.mark.parametrize(
    ("model", "operations", "expected"),
    [
        ("kill", REPLACED, {b"newer!"}),
        ("ext4", REPLACED, {b"old", b"newer!"}),
        ("strict", REPLACED, {b"old", b"newer!"}),
        ("strict", (*REPLACED, Sync(ROOT)), {b"newer!"}),
        ("ext4", (*REPLACED, Sync(1)), {b"newer!"}),
        ("strict", (*REPLACED, Sync(1)), {b"old", b"newer!"}),
        ("ext4", (*REPLACED[:2], REPLACED[3]), {b"old", b"", b"newer!"}),
        ("strict", (*REPLACED[:2], REPLACED[3]), {b"old", b"", b"newer!", *TORN}),
        (
            "strict",
            (Truncate(1, 0), Write(1, 0, b"x")),
            {b"old", b"", b"x", b"xld", b"\0ld", b"\0"},
        ),
        ("ext4", (Write(1, 3, b"er"), Truncate(1, 0), Sync(ROOT)), {b""}),
        ("strict", (trees.Remove(ROOT, "a"),), {b"old", None}),
        ("strict", (Enter(ROOT, "b", 1, None), Sync(ROOT), trees.Remove(ROOT, "b")), {b"old"}),
        ("strict", (Write(1, 3, b"er"), trees.SyncAll()), {b"older"}),
    ],
)
def test_each_model_allows_what_it_says(
    model: str, operations: tuple[trees.Operation, ...], expected: set[bytes | None]
) -> None:
    """No more, else sound programs fail; no less, else mistakes pass."""
    assert contents(model, *operations) == expected


def test_a_write_over_a_sector_boundary_may_lose_either_side() -> None:
    """The journal appends at any place of a sector."""
    start: Tree = {**START, 1: File(b"." * 4090, 0o600)}
    found = {
        node.content[4090:]
        for state in states(start, [Write(1, 4090, b"0123456789")], "strict")
        if isinstance(node := state.tree[1], File)
    }
    middle = {b"01234", b"01234" + bytes(5), bytes(5) + b"56789"}
    block = {b"012345", b"012345" + bytes(4), bytes(6) + b"6789"}
    assert middle | block | {b"", bytes(10), b"012345678", b"0123456789"} == found


def many() -> list[trees.Operation]:
    """Twenty renames that nothing makes durable."""
    return [Enter(ROOT, f"n{number}", 1, None) for number in range(20)]


def test_too_many_choices_are_bounded_and_counted() -> None:
    """2^20 are not looked at, and the report says at how many points."""
    counts = Counts()

    found = list(states(START, many(), "strict", bound=64, counts=counts))

    assert counts.bounded == 14
    last = [state for state in found if state.point == 20]
    assert {0, 20} <= {len(state.lost) for state in last}
    assert 21 + 2 * 20 * 2 + 64 == len(last)


def test_the_states_are_the_same_each_time() -> None:
    """What failed can be looked at again, by its number."""
    once, again = (
        [(state.where(), state.digest()) for state in states(START, many(), "strict", bound=16)]
        for _ in range(2)
    )
    assert once == again


def test_a_mark_makes_a_state_another_one() -> None:
    """The same disk before and after an acknowledgement has to keep other promises."""
    found = states(START, [trees.Mark("done")], "kill", seen=set())
    assert ["", "done"] == [state.mark for state in found]

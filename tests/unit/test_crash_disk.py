"""Layer 3 on a rotation: nothing is broken, and what is broken on purpose is found."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.crash.crew import Depth, workers
from tests.crash.cuts import Bench, Run
from tests.crash.disk_rotation import Mark, Rotation
from tests.crash.disk_scenarios import SCENARIOS
from tests.crash.recorder import recording
from tests.crash.states import State, states
from tests.crash.tree import ROOT, Directory, File, Inode, Tree

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
FIRST = BY_NAME["first rotation"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")
    with recording() as recorder:
        yield Bench(recorder, str(tmp_path_factory.mktemp("bench")))


@pytest.fixture(scope="module")
def first(bench: Bench) -> tuple[Run, str]:
    """A whole first rotation, recorded."""
    return bench.first_run(FIRST)


def killed_at(first: tuple[Run, str], last: str) -> State:
    """The state right after the rename to ``last``."""
    run, mark = first
    for state in states(run.start, run.operations, "kill", mark=mark):
        if any(path.endswith(last) for path in paths(state.tree)):
            return state
    raise AssertionError(f"there never was a {last}")


def paths(tree: Tree, inode: Inode = ROOT, place: str = "") -> dict[str, Inode]:
    """Every name with its inode."""
    found, node = {place: inode}, tree[inode]
    if isinstance(node, Directory):
        for name, each in node.entries.items():
            found |= paths(tree, each, f"{place}/{name}")
    return found


def without(state: State, path: str) -> State:
    """One name less."""
    directory, _, name = path.rpartition("/")
    inode = paths(state.tree)[directory]
    node = state.tree[inode]
    assert isinstance(node, Directory)
    entries = {each: there for each, there in node.entries.items() if each != name}
    tree = {**state.tree, inode: Directory(entries, node.mode)}
    return dataclasses.replace(state, tree=tree)


def broken(bench: Bench, state: State, scenario: Rotation = FIRST) -> list[str]:
    return [f"{kind}: {text}" for kind, text in bench.boot(scenario, state).broken]


def test_a_short_scenario_is_cut_twice_without_harm() -> None:
    """The way that the command goes, through worker processes."""
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")
    with workers(jobs=2) as crew:
        *_, tally = crew.cut(BY_NAME["cancelled"], Depth(second=2))

    assert tally.failures == []
    assert len(tally.booted) > 15
    assert {"reverted"} == set(tally.booted.values())


def test_a_sound_state_is_not_found_broken(bench: Bench, first: tuple[Run, str]) -> None:
    """Else the others prove nothing."""
    assert broken(bench, killed_at(first, "/config.encrypted.staged")) == []


@pytest.mark.parametrize(
    ("lost", "kind"),
    [
        ("/var/sota/pkey.pem", "stranded"),
        ("/var/sota/client.pem", "stranded"),
        ("/var/sota/config.encrypted", "broken"),
    ],
)
def test_a_lost_file_is_found(bench: Bench, first: tuple[Run, str], lost: str, kind: str) -> None:
    """By the oracle, or because the agent cannot go on."""
    state = without(killed_at(first, "/client.certs-1.pem"), lost)

    found = broken(bench, state)

    assert any(kind in line or "broken: " in line for line in found), found


def test_an_acknowledgement_that_came_too_early_is_found(
    bench: Bench, first: tuple[Run, str]
) -> None:
    """After "completed" nothing is left to do, and the key stays."""
    state = killed_at(first, "/config.encrypted.staged")
    mark = dataclasses.replace(Mark.load(state.mark), said="completed")

    found = broken(bench, dataclasses.replace(state, mark=mark.dump()))

    assert any("it had ended with completed" in line for line in found), found


def test_a_key_that_others_can_read_is_found(bench: Bench, first: tuple[Run, str]) -> None:
    """Modes are modelled, so they are judged."""
    state = killed_at(first, "/pkey.certs-1.pem")
    inode = paths(state.tree)["/var/sota/pkey.certs-1.pem"]
    node = state.tree[inode]
    assert isinstance(node, File)
    tree = {**state.tree, inode: File(node.content, 0o644)}

    found = broken(bench, dataclasses.replace(state, tree=tree))

    assert "broken: var/sota/pkey.certs-1.pem has mode 0644" in found


def test_an_end_that_is_the_other_one_is_found(bench: Bench, first: tuple[Run, str]) -> None:
    """A scenario that has to revert must not complete."""
    other = dataclasses.replace(FIRST, end=BY_NAME["cancelled"].end)

    found = broken(bench, killed_at(first, "/config.encrypted.staged"), other)

    assert "broken: it has ended the other way" in found


def test_states_that_differ_in_random_numbers_alone_have_one_shape(
    bench: Bench, first: tuple[Run, str]
) -> None:
    """Else every recovery that is cut would count its fresh keys as new states."""
    again = bench.first_run(FIRST)

    shapes = shapes_of(first, "kill")
    assert shapes == shapes_of(again, "kill")
    assert len(shapes) > 40


def test_what_is_torn_in_another_way_has_another_shape(first: tuple[Run, str]) -> None:
    """What is booted from once for each shape is still every kind of damage."""
    whole = shapes_of(first, "kill")

    assert len(shapes_of(first, "strict") - whole) > len(whole)


def shapes_of(recorded: tuple[Run, str], model: str) -> set[bytes]:
    run, mark = recorded
    found = states(run.start, run.operations, model, mark=mark)
    return {FIRST.shape(state.tree, state.mark) for state in found}


def test_the_device_is_the_same_wherever_it_is_written(
    bench: Bench, first: tuple[Run, str]
) -> None:
    """Its files name its directory by /proc/self/cwd, and nothing of where it was recorded."""
    run, _ = first
    here = str(Path(bench._place).parent).encode()
    state = list(states(run.start, run.operations, "kill"))[-1]
    contents = [node.content for node in state.tree.values() if isinstance(node, File)]
    assert contents
    assert not any(here in content for content in contents)

"""What the crash proof records of its simulated rotation is what a real one does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import needs
from tests.crash import told, trace
from tests.crash import tree as trees
from tests.crash.cuts import Bench, Run, significant
from tests.crash.disk_rotation import Rotation
from tests.crash.disk_scenarios import SCENARIOS
from tests.crash.recorder import recording
from tests.crash.tree import Operation, Tree, Write
from tests.world import World

GIVEN_UP, REVERTED = "given up: CA not trusted", "reverted: 502 at first use"
NAMES = ("first rotation", "second rotation", GIVEN_UP, REVERTED)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")
    with recording() as recorder:
        yield Bench(recorder, str(tmp_path_factory.mktemp("bench")))


def lines_of(start: Tree, operations: Sequence[Operation]) -> list[str]:
    """Kinds and names, in order. Sizes differ, because addresses and keys do."""
    names, lines = told.names(start), []
    for operation in operations:
        told.follow(names, operation)
        line = told.describe(operation, names)
        lines.append(line.partition(" at ")[0] if isinstance(operation, Write) else line)
    return [line for line in without_repeats(lines) if line != "mark"]


def without_repeats(lines: Sequence[str]) -> Iterator[str]:
    """One fsync where several of the same follow each other.

    The simulated device has its directory by two names, and settles it by both.
    """
    synced: set[str] = set()
    for line in lines:
        synced = synced if line.startswith("fsync ") else set()
        if line not in synced:
            yield line
        if line.startswith("fsync "):
            synced.add(line)


def real(world: World, scratch: Path, insignificant: Sequence[str]) -> list[str]:
    """Of ``fioagent rotate --now`` in a process of its own, over TLS to the real factory."""
    root, log = os.path.realpath(world.device.directory), scratch / "strace"
    start = trees.read(root)
    before = ["strace", *trace.OPTIONS, "-o", str(log)]
    world.process("rotate", "--now", "--id", "certs-1", before=before)
    with log.open(encoding="ascii") as lines:
        found = trace.Log(root, start, str(Path.cwd())).read(lines).check()
    run = significant(Run(start, tuple(found.operations)), insignificant)
    return lines_of(run.start, run.operations)


def simulated(bench: Bench, scenario: Rotation) -> list[str]:
    run, _ = bench.first_run(scenario)
    return lines_of(run.start, run.operations)


def prepare(world: World, name: str) -> None:
    """As the scenario of that name."""
    if name == "second rotation":
        assert world.rotate("--id", "certs-0").code == 0
    elif name == GIVEN_UP:
        world.factory.set_knob("est_ca", "foreign-ca")
    elif name == REVERTED:
        world.pause_before_the_commit("certs-1")
        world.make_the_gateway_forget_the_new_key()


@pytest.mark.parametrize("name", NAMES)
def test_the_simulated_run_does_to_its_disk_what_a_real_one_does(
    world: World, bench: Bench, tmp_path: Path, name: str
) -> None:
    """Same operations on files of the same names, in the same order."""
    prepare(world, name)
    scenario = next(each for each in SCENARIOS if each.name == name)

    assert simulated(bench, scenario) == real(world, tmp_path, scenario.insignificant)

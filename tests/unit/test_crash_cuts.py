"""The whole way of layer 3 on a toy: recorded, cut, booted from, cut again, judged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import needs
from tests.crash import tree as trees
from tests.crash.crew import Depth, Workers, workers
from tests.crash.cuts import Tally, Verdict
from tests.crash.recorder import Note
from tests.crash.tree import Tree
from tests.unit import toy_pair


@dataclass(frozen=True)
class Toy:
    """Three files renewed together, and put right by a boot."""

    mistake: str = ""
    at_boot: str = ""

    name = "toy"
    insignificant = ()

    def shape(self, tree: Tree, mark: str) -> bytes:
        return trees.digest(tree) + mark.encode()

    def prepare(self) -> str:
        for name in toy_pair.NAMES:
            toy_pair.put(name, toy_pair.content(1, name), "")
        return ""

    def act(self, mark: str, note: Note) -> None:
        toy_pair.renew(2, self.mistake, note)

    def go_on(self, mark: str, killed: bool, note: Note | None) -> Verdict:
        toy_pair.recover(self.at_boot)
        wrong = toy_pair.broken(1, mark)
        return Verdict(() if wrong is None else (("broken", wrong),), "rotated")


@dataclass(frozen=True)
class Falling(Toy):
    def go_on(self, mark: str, killed: bool, note: Note | None) -> Verdict:
        raise RuntimeError("fell over")


@pytest.fixture(scope="module")
def crew() -> Iterator[Workers]:
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")
    with workers(jobs=2) as made:
        yield made


def cut(crew: Workers, toy: Toy, second: int | None, third: int = 0) -> Tally:
    *_, tally = crew.cut(toy, Depth(second, third))
    return tally


def test_a_sound_program_survives_a_cut_in_every_recovery(crew: Workers) -> None:
    """And the same states are looked at each time."""
    once, twice = cut(crew, Toy(), None, 2), cut(crew, Toy(), None, 2)

    assert once.failures == []
    assert once.booted == twice.booted
    assert len(once.booted) > 120
    assert once.bounded == 0


def test_a_mistake_in_the_run_is_found_by_the_first_cut(crew: Workers) -> None:
    """Told with what is needed to see it again."""
    tally = cut(crew, Toy("no directory fsync"), 0)

    assert any("strict: cut after operation" in line for _, line in tally.failures)


@pytest.mark.parametrize("mistake", ["hasty recovery", "trusting recovery"])
def test_a_mistake_in_the_recovery_is_found_by_the_second_cut_alone(
    crew: Workers, mistake: str
) -> None:
    """Of a boot that was cut itself, or of a program that was killed and started again."""
    toy = Toy(at_boot=mistake)

    assert cut(crew, toy, 0).failures == []
    assert any("then strict: cut" in line for _, line in cut(crew, toy, None).failures)


def test_a_boot_that_falls_over_is_a_failure_of_its_state(crew: Workers) -> None:
    """One bad state must not end a proof of thousands."""
    tally = cut(crew, Falling(), 5)

    assert len(tally.failures) >= len(tally.booted) > 20
    assert all("fell over" in line for _, line in tally.failures)

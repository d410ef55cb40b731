"""The trials of layer 2 on three devices: that they are fair, and that they find what is broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fioagent.factory import Factory, Urls
from tests import needs
from tests.crash.kill_scenarios import FIRST, FIRST_IN_TOKEN, ROTATE
from tests.crash.subjects import InFiles
from tests.crash.syscalls import KILL, Fault, Point, recorded
from tests.crash.token_subject import InToken
from tests.crash.trial import Trial, Verdict, tried, what_fails
from tests.world import World

SOTA = Point("rename", "var/sota/.sota.toml.fioagent-tmp", 1, changes=True)


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        needs.missing("cannot run without strace")


def trial(world: World, tmp_path: Path, made: Trial) -> Verdict:
    return tried(InFiles(world), FIRST, made, tmp_path / "log")


@pytest.mark.parametrize("boots", [False, True])
@pytest.mark.parametrize("polled", [False, True])
def test_a_kill_before_the_commit_strands_nobody(
    world: World, tmp_path: Path, boots: bool, polled: bool
) -> None:
    """A device with the new sota.toml written and not in place."""
    verdict = trial(world, tmp_path, Trial(Fault(SOTA, KILL), boots=boots, polled=polled))

    assert (verdict.stranded, verdict.broken) == ([], [])
    assert verdict.ended == "rotated"
    assert len(verdict.states) == 1


def test_a_full_disk_at_the_commit_is_one_plain_line(world: World, tmp_path: Path) -> None:
    verdict = trial(world, tmp_path, Trial(Fault(SOTA, "error=ENOSPC")))

    assert (verdict.stranded, verdict.broken) == ([], [])


def test_a_fault_that_does_not_happen_is_no_success(world: World, tmp_path: Path) -> None:
    """There is no second sota.toml in a rotation."""
    never = Point(SOTA.call, SOTA.path, 2, changes=True)

    verdict = trial(world, tmp_path, Trial(Fault(never, KILL)))

    assert ["it did not happen" in line for line in verdict.broken] == [True]


def test_a_kill_of_the_next_run_is_a_state_of_its_own(world: World, tmp_path: Path) -> None:
    journal = "var/sota/fioagent/rotation.journal"
    second = (("recover",), Fault(Point("fsync", journal, 1, changes=True), KILL))

    verdict = trial(world, tmp_path, Trial(Fault(SOTA, KILL), then=second, boots=True))

    assert (verdict.stranded, verdict.broken) == ([], [])
    assert len(verdict.states) == 2


def test_what_a_check_meets_is_told_in_one_line() -> None:
    """With the place, because many checks say nothing."""

    def check() -> None:
        raise AssertionError("two\nlines")

    assert "AssertionError in check" in what_fails(check)
    assert what_fails(check).endswith("two lines")
    assert what_fails(lambda: None) == ""


def test_two_devices_in_one_state_have_one_shape(world: World) -> None:
    """And it changes with what the agent decides by."""
    before = InFiles(world).shape()
    world.check_reachable()
    assert before == InFiles(world).shape()

    (world.storage / "config.encrypted").unlink()

    assert before != InFiles(world).shape()


@pytest.mark.parametrize("what", [KILL, "error=ENOSPC"])
def test_a_token_is_killed_and_refused_while_it_writes_a_key(
    served: tuple[Factory, Urls], tmp_path: Path, what: str
) -> None:
    """A real SoftHSM; half a key is not taken for one, and a full store is one plain line."""
    factory, urls = served
    fresh = InToken.made(factory, urls, tmp_path / "first")
    _, calls = recorded(ROTATE, fresh.env, fresh.directory, tmp_path / "log")
    in_the_store = [each for each in calls if each.changes and not each.path]
    point = in_the_store[len(in_the_store) // 3]
    subject = InToken.made(factory, urls, tmp_path / "second")

    verdict = tried(subject, FIRST_IN_TOKEN, Trial(Fault(point, what)), tmp_path / "log")

    assert (verdict.stranded, verdict.broken) == ([], [])
    assert verdict.ended == "rotated"

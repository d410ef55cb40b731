"""Another rotation id in place of one that is open, and giving one up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fioagent.errors import TemporaryError
from fioagent.rotation.rotator import Result
from tests.power import PowerCutError, StopAt, Switch, rotate, rotate_with
from tests.test_power_cuts import check_as_after_boot
from tests.world import BUNDLE, PLAIN, SECRET, World


def ends(world: World) -> list[tuple[str, bool, str | None]]:
    """Id, success and details of each CertRotationCompleted."""
    return [
        (event["event"]["correlationId"], event["event"]["success"], event["event"].get("details"))
        for event in world.factory.events(world.uuid)
        if event["eventType"]["id"] == "CertRotationCompleted"
    ]


def check_done(world: World) -> None:
    world.check_reachable()
    world.check_no_secret_outside()
    names = {name for name in world.files() if not name.startswith("fioagent/")}
    live = {path.name for path in world.live_pair()}
    usual = {"sota.toml", "root.crt", "current-target", "client.pem", "pkey.pem"}
    usual |= {"config.encrypted", "cert-rotation.state.completed"}
    assert usual | live == names
    assert world.ask("/config", world.old_pair()).status_code == 403
    assert {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN} == world.opened_config()
    assert world.opened_config() == world.opened_device_config()


def test_a_corrected_trigger_replaces_one_that_has_not_locked(world: World) -> None:
    """The first named an EST server that is not there; the operator sent another."""
    stuck = world.rotate("--id", "certs-1", "--est-server", "https://localhost:1/.well-known/est")
    assert stuck.code == 75

    ran = world.rotate("--id", "certs-2", "--est-server", world.urls.est)

    assert ran.code == 0, ran.err
    assert "superseded by rotation certs-2" in ran.unfolded
    assert world.live_pair()[1].name == "pkey.certs-2.pem"
    assert ends(world) == [
        ("certs-1", False, "superseded by rotation certs-2"),
        ("certs-2", True, None),
    ]
    check_done(world)


@pytest.mark.parametrize("second_lock", ["409", "replace"])
@pytest.mark.parametrize("point", ["after set_next_key", "after patch_config"])
def test_after_the_lock_the_next_rotation_goes_on_with_the_same_key(
    world: World, second_lock: str, point: str
) -> None:
    """So it does not depend on what a gateway says to a second key: that is not known."""
    world.factory.set_knob("second_lock", second_lock)
    with pytest.raises(PowerCutError):
        rotate(world, StopAt(point), "certs-1")
    key = (world.storage / "pkey.certs-1.pem").read_bytes()

    ran = world.rotate("--id", "certs-2")

    assert ran.code == 0, ran.err
    assert "which goes on with the same key" in ran.unfolded
    assert world.live_pair()[1].read_bytes() == key
    assert [(i, ok) for i, ok, _ in ends(world)] == [("certs-1", False), ("certs-2", True)]
    check_done(world)


def test_a_rotation_may_be_superseded_again_and_again(world: World) -> None:
    """An impatient operator strands nobody."""
    world.factory.set_knob("gateway_patch_config", "500")
    for number in range(5):
        assert world.rotate("--id", f"certs-{number}").code == 75
        world.check_reachable()
        world.check_every_value_opens_with_a_key_at_hand()
    world.factory.set_knob("gateway_patch_config", "on")

    assert world.rotate("--id", "certs-9").code == 0

    assert [ok for _, ok, _ in ends(world)] == [False] * 5 + [True]
    check_done(world)


class Unreachable:
    """``ports.Gateway`` that breaks off at the first use of the new pair."""

    def __init__(self, gateway: object) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def check(self) -> int:
        raise TemporaryError("cannot reach the gateway")


def test_from_the_commit_on_the_open_rotation_comes_first(world: World) -> None:
    """Then the other one begins, in the same run."""
    assert rotate_with(world, Unreachable, "certs-1").result is Result.TRY_AGAIN
    outcome = rotate_with(world, Unreachable, "certs-2")
    assert outcome.result is Result.TRY_AGAIN
    assert outcome.hint == "rotation certs-2 was not begun: certs-1 is open and has to end first"

    assert world.rotate("--id", "certs-2").code == 0

    assert ends(world) == [("certs-1", True, None), ("certs-2", True, None)]
    check_done(world)


def test_an_id_that_is_done_supersedes_nothing(world: World) -> None:
    """A stale trigger: the handler runs at every boot."""
    world.rotate("--id", "certs-0")
    world.pause_before_the_commit("certs-1")

    ran = world.rotate("--id", "certs-0")

    assert ran.code == 0
    assert "rotation certs-0 is done already; certs-1 was open" in ran.out
    assert world.live_pair()[1].name == "pkey.certs-1.pem"


def test_a_rotation_that_cannot_begin_supersedes_nothing(world: World) -> None:
    """Bad input changes nothing: the open rotation is open still."""
    world.pause_before_the_commit("certs-1")

    ran = world.rotate("--id", "certs-2", "--est-server", "http://localhost/.well-known/est")

    assert ran.code == 78
    status = world.fioagent("status", "--json").lines[0]
    assert status["rotation"]["id"] == "certs-1"
    assert world.rotate().code == 0


POINTS_IN_A_SUPERSEDING_RUN = 86


@pytest.mark.parametrize("cut", range(POINTS_IN_A_SUPERSEDING_RUN + 1))
def test_power_cut_anywhere_while_superseding(world: World, cut: int) -> None:
    """One of the two is open, or the one that follows finds the key that the gateway waits for."""
    world.pause_before_the_commit("certs-1")
    key = (world.storage / "pkey.certs-1.pem").read_bytes()
    switch = Switch(cut)
    if cut == 0:
        assert rotate(world, switch, "certs-2").result is Result.COMPLETED
        assert len(switch.passed) == POINTS_IN_A_SUPERSEDING_RUN, switch.passed
    else:
        with pytest.raises(PowerCutError):
            rotate(world, switch, "certs-2")
        check_as_after_boot(world)
        assert world.fioagent("recover").code == 0
        world.check_reachable()
        outcome = rotate(world, Switch(), "certs-2")
        assert outcome.result in (Result.COMPLETED, Result.NOTHING_TO_DO)

    assert world.live_pair()[1].read_bytes() == key
    assert [(i, ok) for i, ok, _ in ends(world)] == [("certs-1", False), ("certs-2", True)]
    check_done(world)


# --- giving up ---


@pytest.mark.parametrize("point", ["before reenroll", "after reenroll", "before handshake"])
def test_what_nobody_has_heard_of_can_be_cancelled(world: World, point: str) -> None:
    with pytest.raises(PowerCutError):
        rotate(world, StopAt(point), "certs-1")

    ran = world.fioagent("cancel")

    assert ran.code == 0, ran.err
    assert "rotation certs-1 is cancelled; the live credential is as it was" in ran.out
    world.check_old_pair_is_live()
    world.check_nothing_left_behind()
    assert ends(world) == [("certs-1", False, "cancelled at the device")]
    assert world.fioagent("cancel").out == "no rotation is open\n"
    assert world.rotate("--id", "certs-1").code == 0


@pytest.mark.parametrize("point", ["before set_next_key", "after set_next_key", "after check"])
def test_what_the_gateway_may_know_of_cannot_be_cancelled(world: World, point: str) -> None:
    """Its answer may have been lost, and it may wait for this key."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt(point), "certs-1")
    before = world.files()

    ran = world.fioagent("cancel", "--json")

    assert ran.code == 78
    assert "cannot cancel rotation certs-1: the gateway may know its new key" in ran.err
    assert json.loads(ran.out)["result"] == "not-begun"
    assert {**before, "fioagent/lock": b""} == {**world.files(), "fioagent/lock": b""}
    assert world.rotate().code == 0


# --- a journal that is damaged ---


def damage(world: World, phase: str) -> Path:
    """One byte in the line that says ``phase``."""
    journal = world.storage / "fioagent" / "rotation.journal"
    content = journal.read_bytes()
    where = content.index(f'"{phase}"'.encode())
    journal.write_bytes(content[:where] + b"!" + content[where + 1 :])
    return journal


@pytest.mark.parametrize("phase", ["locked", "config-staged", "cert-issued"])
def test_a_new_id_is_the_word_to_go_on_without_a_damaged_journal(world: World, phase: str) -> None:
    """It is kept for a look; the key that the gateway may wait for is gone on with."""
    world.pause_before_the_commit("certs-1")
    key = (world.storage / "pkey.certs-1.pem").read_bytes()
    journal = damage(world, phase)
    damaged = journal.read_bytes()
    assert world.rotate().code == 78

    ran = world.rotate("--id", "certs-2")

    assert ran.code == 0, ran.err
    assert world.live_pair()[1].read_bytes() == key
    assert damaged == (journal.parent / "damaged.journal").read_bytes()
    check_done(world)


@pytest.mark.parametrize("phase", ["locked", "committed", "confirmed"])
def test_a_damaged_journal_is_told_of_once_and_truthfully(world: World, phase: str) -> None:
    """What is sound in it tells the operator how its rotation ended."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before restart"), "certs-1")
    damage(world, phase)

    assert world.rotate("--id", "certs-2").code == 0

    told = ends(world)
    assert [identifier for identifier, _, _ in told] == ["certs-1", "certs-2"]
    assert [ok for _, ok, _ in told] == [True, True]  # its pair was live and confirmed
    world.check_reachable()


@pytest.mark.parametrize("identifier", [None, "certs-0", "certs-1"])
def test_only_a_new_id_is_the_word_for_it(world: World, identifier: str | None) -> None:
    """Handlers repeat the ids of earlier rotations, and of this one, at every boot."""
    world.rotate("--id", "certs-0")
    world.pause_before_the_commit("certs-1")
    journal = damage(world, "locked")
    before = journal.read_bytes()

    ran = world.rotate(*([] if identifier is None else ["--id", identifier]))

    assert ran.code == 78
    assert "is damaged" in ran.err
    assert before == journal.read_bytes()


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"\x00" * 4096])
def test_a_journal_of_which_nothing_is_left(world: World, content: bytes) -> None:
    (world.storage / "fioagent").mkdir()
    (world.storage / "fioagent" / "rotation.journal").write_bytes(content)

    assert world.rotate("--id", "certs-2").code == 0

    check_done(world)


def test_a_journal_damaged_after_the_commit(world: World) -> None:
    """The new pair is live by then, so it is the one that is replaced."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    damage(world, "locked")

    assert world.rotate("--id", "certs-2").code == 0

    world.check_reachable()
    assert world.live_pair()[1].name == "pkey.certs-2.pem"
    assert {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN} == world.opened_config()

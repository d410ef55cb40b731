"""``fioagent recover`` at boot: what was cut in half is whole again before anybody reads it."""

from __future__ import annotations

import pytest

from tests.power import PowerCutError, StopAt, Switch, recover, rotate
from tests.test_power_cuts import check_finished, check_local_state
from tests.world import World

# sota.toml, then config.encrypted, then the record: each replaced or appended.
CUTS_IN_A_COMMIT = [
    ("before replace", 5),
    ("after replace", 5),
    ("before replace", 6),
    ("after replace", 6),
    ("before append", 8),
]


def reader_finds_one_generation(world: World) -> None:
    """Any program that reads sota.toml and config.encrypted together finds a pair that opens it."""
    assert world.certificate().public_key() == world.key().public_key()
    world.opened_config()


def files(world: World) -> dict[str, bytes]:
    """All but the word in the lock file, who held it last."""
    return {name: c for name, c in world.files().items() if name != "fioagent/lock"}


@pytest.mark.parametrize(("name", "nth"), CUTS_IN_A_COMMIT)
def test_a_commit_that_was_cut_is_finished_offline(world: World, name: str, nth: int) -> None:
    """No server is asked: the device may boot where there is no network."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt(name, nth), "certs-1")
    world.factory.clear_requests()

    ran = world.fioagent("recover")

    assert ran.code == 0, ran.err
    assert "sota.toml and config.encrypted are those of the new credential" in ran.out
    assert world.factory.requests("gateway") == world.factory.requests("est") == []
    reader_finds_one_generation(world)
    assert world.live_pair()[1].name == "pkey.certs-1.pem"
    assert world.rotate().code == 0
    check_finished(world)


def test_recovery_goes_by_the_phase_and_not_by_what_files_look_like(world: World) -> None:
    """Before the device's configuration is on the gateway, nothing is switched."""
    world.pause_before_the_commit("certs-1")
    before = files(world)

    ran = world.fioagent("recover")

    assert (ran.code, ran.out) == (0, "rotation certs-1: nothing was half-done\n")
    assert before == files(world)


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_way_back_that_was_cut_is_finished_offline(world: World, cut: int) -> None:
    """sota.toml names the old pair again, and config.encrypted opens with it."""
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()
    switch = Switch()
    rotate_until_reverting(world, switch, cut)
    world.factory.clear_requests()

    ran = world.fioagent("recover")

    assert ran.code == 0, ran.err
    assert "are those of the old credential" in ran.out
    assert world.factory.requests("gateway") == []
    assert world.live_pair()[1].name == "pkey.pem"
    reader_finds_one_generation(world)
    assert world.rotate().code == 1
    world.check_old_pair_is_live()


def rotate_until_reverting(world: World, switch: Switch, further: int) -> None:
    """To the record of REVERTING, and so many points beyond."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAfterReverting(switch, world, further), "certs-1")


class StopAfterReverting(Switch):
    """Goes off ``further`` points after the journal says that the way is back."""

    def __init__(self, inner: Switch, world: World, further: int) -> None:
        super().__init__()
        self.inner = inner
        self.journal = world.storage / "fioagent" / "rotation.journal"
        self.further = further

    def point(self, name: str) -> None:
        if self.journal.exists() and b'"reverting"' in self.journal.read_bytes():
            self.further -= 1
            if self.further <= 0:
                raise PowerCutError(name)
        super().point(name)


def test_recovery_may_be_run_any_number_of_times(world: World) -> None:
    """Also where nothing was ever begun, and where all is done."""
    assert world.fioagent("recover").out == "no rotation is open\n"
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")
    for _ in range(3):
        assert world.fioagent("recover").code == 0
        reader_finds_one_generation(world)
    world.rotate()
    for _ in range(2):
        assert world.fioagent("recover").out == "no rotation is open\n"
    check_finished(world)


@pytest.mark.parametrize("cut", range(1, 12))
def test_recovery_itself_may_be_cut(world: World, cut: int) -> None:
    """At each of its own effects; the next one finishes."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")
    switch = Switch(cut)
    try:
        recover(world, switch)
    except PowerCutError:
        check_local_state(world)
    else:
        assert len(switch.passed) < cut, "a cut that never came"

    assert world.fioagent("recover").code == 0
    reader_finds_one_generation(world)
    assert world.rotate().code == 0
    check_finished(world)


@pytest.mark.parametrize("phase", ["completed", "abandoned"])
def test_what_is_over_is_put_away(world: World, phase: str) -> None:
    """A cut between the last record and the archive."""
    if phase == "abandoned":
        world.factory.set_knob("est_answer", "garbage")
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before rename"), "certs-1")

    ran = world.fioagent("recover")

    assert (ran.code, ran.out) == (
        0,
        "rotation certs-1: it is over, and nothing of it is left\n",
    )
    assert world.journal_names() == ["ended-000001-certs-1.journal"]
    world.check_nothing_left_behind()


def test_recovery_needs_neither_network_nor_service_manager(world: World) -> None:
    """In a process of its own, with no network at all and no systemctl on its path."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")

    ran = world.process("recover", before=("unshare", "--net", "env", "PATH=/nowhere"))

    assert ran.code == 0, ran.err
    reader_finds_one_generation(world)


def test_a_damaged_journal_does_not_hold_the_boot_up(world: World) -> None:
    """It says so and ends; the live pair and the files of the device are as they were."""
    world.pause_before_the_commit("certs-1")
    journal = world.storage / "fioagent" / "rotation.journal"
    journal.write_bytes(journal.read_bytes().replace(b"certs-1", b"certs-9", 1))
    before = files(world)

    ran = world.fioagent("recover")

    assert ran.code == 78
    assert "is damaged" in ran.err
    assert before == files(world)
    world.check_reachable()


def test_a_newer_journal_is_not_touched(world: World) -> None:
    """By no command; the live pair works, so check-ins go on."""
    directory = world.storage / "fioagent"
    directory.mkdir()
    (directory / "rotation.journal").write_bytes(NEWER)
    before = files(world)

    for command in (
        ("rotate", "--now"),
        ("rotate", "--now", "--id", "certs-9"),
        ("recover",),
        ("cancel",),
    ):
        ran = world.fioagent(*command)
        assert ran.code == 78
        assert "of format 2, not 1" in ran.err

    assert before == files(world)
    world.check_reachable()


NEWER = b'27854915 {"fioagent-journal":2}\n'


def test_what_a_killed_process_left_in_memory_is_made_durable_first(world: World) -> None:
    """Before anything is built on it: the pair, sota.toml, the configuration, the journal."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after append", 3), "certs-1")
    switch = Switch()

    rotate(world, switch, "certs-1")

    assert switch.passed[2:10] == [
        *("before settle", "after settle") * 3,  # old pair, new pair, everything else
        *("before replace", "after replace"),  # the journal, whole
    ]


def test_the_device_layer_is_rewritten_once(world: World) -> None:
    """The answer to it was had, and not recorded: another PATCH would be another version of it."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after patch_config"), "certs-1")

    rotate(world, Switch(), "certs-1")

    asked = [(each.method, each.path) for each in world.factory.requests("gateway")]
    assert asked.count(("PATCH", "/config")) == 1, asked
    check_finished(world)

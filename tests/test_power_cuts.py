"""Power cuts: before and after every effect of a whole rotation, over real files and servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent.ports import Moment, Services
from fioagent.rotation.rotator import Result
from tests.power import PowerCutError, Switch, rotate
from tests.test_rotation import SUCCESS
from tests.world import BUNDLE, PLAIN, SECRET, World

# The shape of a clean run; test_the_points_are_all_of_them keeps it true.
POINTS_IN_A_CLEAN_RUN = 80
POINTS_IN_A_SECOND_RUN = 88
# An effect that fails has a point before it and none after.
POINTS_IN_AN_ABANDONED_RUN = 35
POINTS_IN_A_REVERTED_RUN = 62


class CountedServices:
    """``ports.Services`` that restarts by counting, whatever process counts."""

    def __init__(self) -> None:
        self.restarts: list[str] = []

    def restart(self, unit: str, changed: Moment, since: Moment | None = None) -> str:
        del changed, since
        self.restarts.append(unit)
        return "restarted"

    def is_installed(self, program: str) -> bool:
        del program
        return False

    def is_running(self, program: str) -> bool:
        del program
        return False


def check_as_after_boot(world: World) -> None:
    """What has to be true at every instant, whatever was cut."""
    check_local_state(world)
    view = world.factory.device(world.uuid)
    assert live_key_pem(world) in (view.public_key_pem, view.next_public_key_pem)


def check_local_state(world: World) -> None:
    """The live pair matches, every value opens with a key at hand, the old key is kept."""
    certificate, key = world.certificate(), world.key()
    assert certificate.public_key() == key.public_key()
    world.check_every_value_opens_with_a_key_at_hand()
    phase = (world.fioagent("status", "--json").lines[0]["rotation"] or {}).get("phase")
    if phase not in (None, "confirmed", "services-restarted", "retired", "completed"):
        assert world.old_key in world.files().values()
    world.check_no_secret_outside()


def live_key_pem(world: World) -> str:
    public = world.key().public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def check_finished(world: World, events: list[tuple[str, bool]] = SUCCESS) -> None:
    world.check_reachable()
    world.check_nothing_left_behind()
    world.check_no_secret_outside()
    assert world.ask("/config", world.old_pair()).status_code == 403
    assert {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN} == world.opened_config()
    assert world.opened_config() == world.opened_device_config()
    assert events == world.event_names()


def test_the_points_are_all_of_them(world: World) -> None:
    """A new effect in the rotation has to show up in the loop below."""
    switch = Switch()

    rotate(world, switch, "certs-1")

    assert POINTS_IN_A_CLEAN_RUN == len(switch.passed), switch.passed


@pytest.mark.parametrize("cut", range(POINTS_IN_A_SECOND_RUN + 1))
def test_power_cut_anywhere_in_the_second_rotation(world: World, cut: int) -> None:
    """Its old pair has names of its own, and is gone where the first one became a link."""
    world.rotate("--id", "certs-0")
    switch = Switch(cut)
    if cut == 0:
        assert rotate(world, switch, "certs-1").result is Result.COMPLETED
        assert len(switch.passed) == POINTS_IN_A_SECOND_RUN, switch.passed
    else:
        with pytest.raises(PowerCutError):
            rotate(world, switch, "certs-1")
        world.check_reachable()
        world.check_every_value_opens_with_a_key_at_hand()
        outcome = rotate(world, Switch(), "certs-1")
        assert outcome.result in (Result.COMPLETED, Result.NOTHING_TO_DO)

    check_finished(world, SUCCESS * 2)


@pytest.mark.parametrize("polled", [False, True], ids=["quiet", "polled"])
@pytest.mark.parametrize("cut", range(1, POINTS_IN_A_CLEAN_RUN + 1))
def test_power_cut_anywhere(world: World, cut: int, polled: bool) -> None:
    """Wherever the power fails, the device boots able to reach its gateway, and finishes.

    ``polled``: another program uses the live pair between boot and the next run,
    as aktualizr-lite does; that may be the gateway's first sight of the new key.
    """
    with pytest.raises(PowerCutError):
        rotate(world, Switch(cut), "certs-1")

    check_as_after_boot(world)
    if polled:
        world.check_reachable()
    outcome = rotate(world, Switch(), "certs-1")

    assert outcome.result in (Result.COMPLETED, Result.NOTHING_TO_DO)
    if outcome.result is Result.COMPLETED:
        assert int(outcome.message.split()[-1], 16) == world.certificate().serial_number
    check_finished(world)


def check_backed_out(world: World) -> None:
    """As before the attempt, but for its journal; the operator knows."""
    world.check_old_pair_is_live()
    world.check_nothing_left_behind()
    world.check_no_secret_outside()
    assert not list((world.storage / "fioagent").glob("rotation.journal"))
    assert {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN} == world.opened_config()
    assert world.event_names()[-1] == ("CertRotationCompleted", False)


@pytest.mark.parametrize("cut", range(POINTS_IN_AN_ABANDONED_RUN + 1))
def test_power_cut_anywhere_in_an_attempt_that_is_given_up(world: World, cut: int) -> None:
    """A gateway that does not trust the new CA: nothing is left, wherever it was cut."""
    world.factory.set_knob("est_ca", "foreign-ca")
    switch = Switch(cut)
    if cut == 0:
        assert rotate(world, switch, "certs-1").result is Result.FAILED
        assert POINTS_IN_AN_ABANDONED_RUN == len(switch.passed), switch.passed
    else:
        with pytest.raises(PowerCutError):
            rotate(world, switch, "certs-1")
        check_as_after_boot(world)
        assert rotate(world, Switch(), "certs-1").result is Result.FAILED

    check_backed_out(world)


@pytest.mark.parametrize("cut", range(POINTS_IN_A_REVERTED_RUN + 1))
def test_power_cut_anywhere_on_the_way_back(world: World, cut: int) -> None:
    """The new pair is refused after the commit: the old one is back, wherever it was cut."""
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()
    switch = Switch(cut)
    if cut == 0:
        assert rotate(world, switch, "certs-1").result is Result.FAILED
        assert POINTS_IN_A_REVERTED_RUN == len(switch.passed), switch.passed
    else:
        with pytest.raises(PowerCutError):
            rotate(world, switch, "certs-1")
        check_local_state(world)
        if (world.storage / "fioagent" / "rotation.journal").exists():
            assert rotate(world, Switch(), "certs-1").result is Result.FAILED

    check_backed_out(world)
    assert world.opened_config() == world.opened_device_config()


def test_power_cut_at_every_second_effect(world: World) -> None:
    """A device that loses its power again and again still gets there, one effect at a time."""
    runs = 0
    for runs in range(1, 200):  # noqa: B007  # used after the loop
        try:
            rotate(world, Switch(cut=20), "certs-1")
        except PowerCutError:
            check_as_after_boot(world)
        else:
            break

    assert 1 < runs < 199
    check_finished(world)


def test_services_restart_once_where_nothing_is_cut(world: World) -> None:
    """At most one restart a rotation: the fourth start in 541 s reboots an LmP device."""
    services = CountedServices()
    wrap: Callable[[Services], Services] = lambda _: services  # noqa: E731  # typed by its name

    rotate(world, Switch(), "certs-1", wrap)
    rotate(world, Switch(), "certs-1", wrap)

    assert services.restarts == ["aktualizr-lite.service"]

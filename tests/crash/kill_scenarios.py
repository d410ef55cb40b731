"""What is under way when a process is killed, and what has to be true afterwards.

Over real files and the real factory (tests/world.py). What is asked of the
device is asked from outside, with the pair that sota.toml names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fioagent.factory import Factory, Urls
from tests.crash.syscalls import Command
from tests.fioconfig import Fioconfig
from tests.test_power_cuts import check_backed_out, check_finished, live_key_pem
from tests.test_rotation import SUCCESS
from tests.world import World

ROTATE: Final[Command] = ("rotate", "--now", "--id", "certs-1")
_OLD_KEY_MAY_BE_GONE: Final = (None, "confirmed", "services-restarted", "retired", "completed")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is under way, and how it ends.

    Attributes:
        name: as the table shows it.
        prepare: what has happened to the device before.
        knobs: of its factory.
        code: exit status of a run that nothing disturbs.
        ends: ids of rotations, and whether each succeeded, as operators are told.
        gateway_forgot: it takes the new key no more; the way back is the only one.
        stride: the quick run takes every so-manieth point.
    """

    name: str
    prepare: Callable[[World], object] = lambda _: None
    knobs: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    ends: tuple[tuple[str, bool], ...] = (("certs-1", True),)
    gateway_forgot: bool = False
    stride: int = 1

    def finish(self, world: World) -> tuple[int, str]:
        """Run as often as the device's timer would; the exit status and the words."""
        journal = world.storage / "fioagent" / "rotation.journal"
        if self.gateway_forgot and not journal.exists():
            # Back already, and another rotation is not the question: what is left are events.
            ran = world.fioagent("rotate")
            return (self.code if ran.code == 0 else ran.code), ran.out + ran.err
        ran = world.fioagent(*ROTATE)
        return ran.code, ran.out + ran.err


def _locked_then_forgotten(world: World) -> None:
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()


FIRST: Final = Scenario("first rotation")
SECOND: Final = Scenario(
    "second rotation",
    prepare=lambda world: world.rotate("--id", "certs-0"),
    ends=(("certs-0", True), ("certs-1", True)),
    stride=8,
)
GIVEN_UP: Final = Scenario(
    "given up",
    knobs=MappingProxyType({"est_ca": "foreign-ca"}),
    code=1,
    ends=(("certs-1", False),),
    stride=4,
)
REVERTED: Final = Scenario(
    "reverted",
    prepare=_locked_then_forgotten,
    code=1,
    ends=(("certs-1", False),),
    gateway_forgot=True,
    stride=6,
)
SUPERSEDING: Final = Scenario(
    "superseding after the lock",
    prepare=lambda world: world.pause_before_the_commit("certs-0"),
    ends=(("certs-0", False), ("certs-1", True)),
    stride=8,
)
TAKEOVER: Final = Scenario(
    "takeover from fioconfig", prepare=lambda world: Fioconfig(world).run(4), stride=8
)
SCENARIOS: Final = {
    each.name: each for each in (FIRST, SECOND, GIVEN_UP, REVERTED, SUPERSEDING, TAKEOVER)
}


@contextlib.contextmanager
def devices(place: Path, scenario: Scenario) -> Iterator[Callable[[], World]]:
    """A factory in ``place``, and what makes its devices: registered, configured, prepared."""
    factory = Factory.create(place / "lab")
    defaults = dict(factory.knobs())
    with factory.serving() as urls:
        made = 0

        def make() -> World:
            nonlocal made
            made += 1
            _turn(factory, defaults)
            world = _configured(factory, urls, place / f"device-{made}")
            scenario.prepare(world)
            _turn(factory, scenario.knobs)
            return world

        yield make


def _configured(factory: Factory, urls: Urls, directory: Path) -> World:
    world = World(factory, urls, directory)
    world.give_config()
    return world


def _turn(factory: Factory, knobs: Mapping[str, str]) -> None:
    for name, value in knobs.items():
        factory.set_knob(name, value)


def check_reachable_at_boot(world: World, scenario: Scenario) -> None:
    """The pair that sota.toml names matches, and is one that the gateway waits for.

    Asked of the factory's records, not by a request: that would make it switch over.
    """
    certificate, key = world.certificate(), world.key()
    assert certificate.public_key() == key.public_key(), "key and certificate do not match"
    view = world.factory.device(world.uuid)
    taken = live_key_pem(world) in (view.public_key_pem, view.next_public_key_pem)
    # A gateway that forgot is found out at the first request only: the run goes back then.
    assert taken or scenario.gateway_forgot, "the gateway does not know the live key"


def check_kept(world: World, key_before: bytes) -> None:
    """Every value opens, the key from before is kept until it is needed no more, no secret."""
    phase = (world.fioagent("status", "--json").lines[0]["rotation"] or {}).get("phase")
    if phase not in _OLD_KEY_MAY_BE_GONE:
        assert key_before in world.files().values(), f"the old key is gone in phase {phase}"
    if (world.storage / "cert-rotation.state").exists():
        return  # of fioconfig, and the new key in it: that is what a takeover mends
    world.check_every_value_opens_with_a_key_at_hand()
    world.check_no_secret_outside()


def check_end(world: World, scenario: Scenario) -> None:
    """As after a run that nothing disturbed, but for the trouble that operators are told of."""
    for identifier, succeeded in scenario.ends:
        _check_told(world, identifier, succeeded=succeeded)
    if scenario.code == 0:
        check_finished(world, world.event_names())
    else:
        check_backed_out(world)
        assert world.opened_config() == world.opened_device_config(), "the copies differ"


def _check_told(world: World, identifier: str, *, succeeded: bool) -> None:
    """Every step that was done, once and in order, and one end that tells the truth."""
    told = [
        (event["eventType"]["id"], event["event"]["success"])
        for event in world.factory.events(world.uuid, identifier)
    ]
    if succeeded:
        assert SUCCESS == [each for each in told if each[1]], told
        assert ("CertRotationCompleted", False) not in told, told
    else:
        assert told[-1] == ("CertRotationCompleted", False), told
        assert ("CertRotationCompleted", True) not in told, told

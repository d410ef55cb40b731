"""What is under way when a process is killed, and what has to be true afterwards.

Over real files, a real token and the real factory. What is asked of the device is
asked from outside, with the pair that sota.toml names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fioagent.factory import Factory, Urls
from tests.crash.subjects import InFiles, Subject
from tests.crash.syscalls import Command
from tests.crash.token_subject import InToken
from tests.fioconfig import Fioconfig
from tests.test_rotation import SUCCESS
from tests.tokens import LabToken, running_tpm, soft_token
from tests.world import World

TPM: Final = "TPM"
ROTATE: Final[Command] = ("rotate", "--now", "--id", "certs-1")
_OLD_KEY_MAY_BE_GONE: Final = (None, "confirmed", "services-restarted", "retired", "completed")


def in_files(prepare: Callable[[World], object] = lambda _: None) -> Make:
    """Makes devices whose keys are files, to whom ``prepare`` has happened."""

    def make(factory: Factory, urls: Urls, directory: Path) -> Subject:
        world = World(factory, urls, directory)
        world.give_config()
        prepare(world)
        return InFiles(world)

    return make


def in_token(
    prepare: Callable[[InToken], object] = lambda _: None,
    token: Callable[[Path], LabToken] = soft_token,
) -> Make:
    """The same, their keys in a token: of SoftHSM where nothing else is said."""

    def make(factory: Factory, urls: Urls, directory: Path) -> Subject:
        subject = InToken.made(factory, urls, directory, token)
        prepare(subject)
        return subject

    return make


Make = Callable[[Factory, Urls, Path], Subject]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is under way, and how it ends.

    Attributes:
        name: as the table shows it.
        make: a device, configured and prepared.
        store: where its keys are, as the table shows it.
        knobs: of its factory.
        code: exit status of a run that nothing disturbs.
        ends: ids of rotations, and whether each succeeded, as operators are told.
        gateway_forgot: it takes the new key no more; the way back is the only one.
        stride: the quick run takes every so-manieth point.
        full_stride: the full one, where another scenario of the store has them all.
    """

    name: str
    make: Make = field(default_factory=in_files)
    store: str = "file"
    knobs: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    ends: tuple[tuple[str, bool], ...] = (("certs-1", True),)
    gateway_forgot: bool = False
    stride: int = 1
    full_stride: int = 1

    def finish(self, subject: Subject) -> tuple[int, str]:
        """Run as often as the device's timer would; the exit status and the words."""
        if self.gateway_forgot and not subject.has_open_rotation():
            # Back already, and another rotation is not the question: what is left are events.
            ran = subject.fioagent("rotate")
            return (self.code if ran.code == 0 else ran.code), ran.out + ran.err
        ran = subject.fioagent(*ROTATE)
        return ran.code, ran.out + ran.err


def _locked_then_forgotten(world: World) -> None:
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()


def _rotate_before(subject: InToken) -> None:
    subject.fioagent("rotate", "--now", "--id", "certs-0")


FIRST: Final = Scenario("first rotation")
SECOND: Final = Scenario(
    "second rotation",
    make=in_files(lambda world: world.rotate("--id", "certs-0")),
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
    make=in_files(_locked_then_forgotten),
    code=1,
    ends=(("certs-1", False),),
    gateway_forgot=True,
    stride=6,
)
SUPERSEDING: Final = Scenario(
    "superseding after the lock",
    make=in_files(lambda world: world.pause_before_the_commit("certs-0")),
    ends=(("certs-0", False), ("certs-1", True)),
    stride=8,
)
TAKEOVER: Final = Scenario(
    "takeover from fioconfig", make=in_files(lambda world: Fioconfig(world).run(4)), stride=8
)
FIRST_IN_TOKEN: Final = Scenario(
    "first rotation in a token", make=in_token(), store="SoftHSM", stride=32
)
SECOND_IN_TOKEN: Final = Scenario(
    "second rotation in a token",
    make=in_token(_rotate_before),
    store="SoftHSM",
    ends=(("certs-0", True), ("certs-1", True)),
    stride=96,
    full_stride=4,
)
GIVEN_UP_IN_TOKEN: Final = Scenario(
    "given up in a token",
    make=in_token(),
    store="SoftHSM",
    knobs=MappingProxyType({"est_ca": "foreign-ca"}),
    code=1,
    ends=(("certs-1", False),),
    stride=96,
    full_stride=4,
)
FIRST_IN_TPM: Final = Scenario(
    # A prime: each of some seventy transactions is much the same row of calls.
    "first rotation in a TPM",
    make=in_token(token=running_tpm),
    store=TPM,
    stride=97,
)
SECOND_IN_TPM: Final = Scenario(
    "second rotation in a TPM",
    make=in_token(_rotate_before, running_tpm),
    store=TPM,
    ends=(("certs-0", True), ("certs-1", True)),
    stride=389,
    full_stride=4,
)
SCENARIOS: Final = {
    each.name: each
    for each in (
        *(FIRST, SECOND, GIVEN_UP, REVERTED, SUPERSEDING, TAKEOVER),
        *(FIRST_IN_TOKEN, SECOND_IN_TOKEN, GIVEN_UP_IN_TOKEN),
        *(FIRST_IN_TPM, SECOND_IN_TPM),
    )
}


@contextlib.contextmanager
def devices(place: Path, scenario: Scenario) -> Iterator[Callable[[], Subject]]:
    """A factory in ``place``, and what makes its devices."""
    factory = Factory.create(place / "lab")
    defaults = dict(factory.knobs())
    with factory.serving() as urls, contextlib.ExitStack() as until_the_end:
        made = 0

        def make() -> Subject:
            nonlocal made
            made += 1
            _turn(factory, defaults)
            subject = scenario.make(factory, urls, place / f"device-{made}")
            until_the_end.callback(subject.close)
            _turn(factory, scenario.knobs)
            return subject

        yield make


def _turn(factory: Factory, knobs: Mapping[str, str]) -> None:
    for name, value in knobs.items():
        factory.set_knob(name, value)


def check_reachable_at_boot(subject: Subject, scenario: Scenario) -> None:
    """The pair that sota.toml names matches, and is one that the gateway waits for.

    Asked of the factory's records, not by a request: that would make it switch over.
    """
    view = subject.factory.device(subject.uuid)
    taken = subject.live_key_pem() in (view.public_key_pem, view.next_public_key_pem)
    # A gateway that forgot is found out at the first request only: the run goes back then.
    assert taken or scenario.gateway_forgot, "the gateway does not know the live key"


def check_kept(subject: Subject, key_before: bytes) -> None:
    """Every value opens, the key from before is kept until it is needed no more, no secret."""
    phase = (subject.fioagent("status", "--json").lines[0]["rotation"] or {}).get("phase")
    if phase not in _OLD_KEY_MAY_BE_GONE:
        subject.check_kept(key_before)
    subject.check_values()


def check_end(subject: Subject, scenario: Scenario) -> None:
    """As after a run that nothing disturbed, but for the trouble that operators are told of."""
    for identifier, succeeded in scenario.ends:
        _check_told(subject, identifier, succeeded=succeeded)
    if scenario.code == 0:
        subject.check_rotated()
    else:
        subject.check_back()


def _check_told(subject: Subject, identifier: str, *, succeeded: bool) -> None:
    """Every step that was done, once and in order, and one end that tells the truth."""
    told = [
        (event["eventType"]["id"], event["event"]["success"])
        for event in subject.factory.events(subject.uuid, identifier)
    ]
    if succeeded:
        assert SUCCESS == [each for each in told if each[1]], told
        assert ("CertRotationCompleted", False) not in told, told
    else:
        assert told[-1] == ("CertRotationCompleted", False), told
        assert ("CertRotationCompleted", True) not in told, told

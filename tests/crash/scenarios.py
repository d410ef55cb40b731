"""What is cut and disturbed: the ways that a rotation can go, each from its start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Final

from fioagent.factory.pki import certificates
from tests.crash import fioconfig
from tests.crash.recording import Recording
from tests.crash.runs import Scenario, cancel, process, rotate
from tests.crash.servers import Servers
from tests.crash.simulated import Simulation, in_memory, with_a_token

Make = Callable[[], Simulation]


def everything() -> list[Scenario]:
    """In the order of the table."""
    return [
        *_common(in_memory),
        *(
            Scenario(f"fioconfig's, {left}", partial(fioconfig.left_after, steps), rotate(None))
            for steps, left in _FIOCONFIG.items()
        ),
        *(in_a_token(name) for name in _IN_A_TOKEN),
    ]


def _common(make: Make) -> list[Scenario]:
    """What can happen to a device whatever keeps its keys."""

    def of(start: Callable[[Make], Simulation]) -> Callable[[], Simulation]:
        return partial(start, make)

    first, second = rotate("certs-1"), rotate("certs-2")
    return [
        Scenario("first rotation", make, first),
        Scenario("second rotation", of(rotated_once), second, "certs-2"),
        Scenario("202, then issued", of(asked_to_wait), first),
        Scenario("given up: EST refuses", of(refused_by_est), first, rotates=False),
        Scenario("given up: CA not trusted", of(issued_by_a_stranger), first, rotates=False),
        Scenario("reverted: 502 at first use", of(forgotten), first, rotates=False),
        Scenario("reverted: alert at first use", of(distrusted), first, rotates=False),
        Scenario("held by the lock, then trusted", of(held), first, mend=trust_again),
        Scenario("superseded before the lock", of(before_the_lock), second, "certs-2"),
        Scenario("superseded after the lock", of(after_the_lock), second, "certs-2"),
        Scenario("cancelled", of(before_the_lock), cancel, rotates=False),
    ]


def in_a_token(name: str) -> Scenario:
    """The scenario of this name, on a device whose key is in a token."""
    (like,) = [each for each in _common(with_a_token) if each.name == name]
    return dataclasses.replace(like, store="token")


_IN_A_TOKEN: Final = (
    "first rotation",
    "second rotation",
    "given up: CA not trusted",
    "reverted: 502 at first use",
    "superseded after the lock",
    "cancelled",
)
# What fioconfig had done when it was taken over from it, by steps.
_FIOCONFIG: Final = {1: "enrolled", 2: "locked", 4: "not switched", 5: "half switched"}


def rotated_once(make: Make) -> Simulation:
    """The live pair has names of its own, and the stable names are links."""
    device = make()
    process(device, rotate("certs-1"))
    return device


def asked_to_wait(make: Make) -> Simulation:
    """The EST server wants a person's consent first."""
    device = make()
    device.servers.est_answers = [202, 202]
    return device


def refused_by_est(make: Make) -> Simulation:
    device = make()
    device.servers.est_answers = [403] * 99
    return device


def issued_by_a_stranger(make: Make) -> Simulation:
    """The EST server's CA is not among the gateway's."""
    device = make()
    device.servers.est_ca = "foreign-ca"
    return device


def cut_before(make: Make, request: str) -> Simulation:
    """A first rotation, cut off right before this request."""
    recording = Recording(make())
    process(recording.device, rotate("certs-1"), recording.wrap)
    (cut,) = [each for each in recording.cuts if f"before {request}" in each.points]
    return cut.device


def before_the_lock(make: Make) -> Simulation:
    """Nobody outside the device has heard of the new key but the EST server."""
    return cut_before(make, "handshake")


def after_the_lock(make: Make) -> Simulation:
    return cut_before(make, "PATCH /config")


def forgotten(make: Make) -> Simulation:
    """Another key was announced in place of ours: ours will be refused at its first use."""
    device = cut_before(make, "PATCH /config")
    stranger = certificates.public_pem(certificates.new_key().public_key())
    device.servers.next_public_key = stranger
    device.servers.strangers = [stranger]
    device.servers.foreign_public_key = "accept"
    return device


def distrusted(make: Make) -> Simulation:
    """The gateway stops to trust the CA after it was asked; it lets another key be announced."""
    device = cut_before(make, "PATCH /device")
    device.servers.distrusted = ["online-ca"]
    device.servers.second_lock = "replace"
    return device


def held(make: Make) -> Simulation:
    """The same, and the gateway waits for the new key alone: neither forward nor back."""
    device = cut_before(make, "PATCH /device")
    device.servers.distrusted = ["online-ca"]
    return device


def trust_again(servers: Servers) -> None:
    """The operator adds the CA."""
    servers.distrusted = []

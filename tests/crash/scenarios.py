"""What is cut and disturbed: the ways that a rotation can go, each from its start."""

from __future__ import annotations

from functools import partial
from typing import Final

from fioagent.factory import certificates
from tests.crash import fioconfig
from tests.crash.recording import Recording
from tests.crash.runs import Scenario, cancel, process, rotate
from tests.crash.servers import Servers
from tests.crash.simulated import Simulation, in_memory


def everything() -> list[Scenario]:
    """In the order of the table."""
    return [
        Scenario("first rotation", registered, rotate("certs-1")),
        Scenario("second rotation", rotated_once, rotate("certs-2"), "certs-2"),
        Scenario("202, then issued", asked_to_wait, rotate("certs-1")),
        Scenario("given up: EST refuses", refused_by_est, rotate("certs-1"), rotates=False),
        Scenario(
            "given up: CA not trusted", issued_by_a_stranger, rotate("certs-1"), rotates=False
        ),
        Scenario("reverted: 502 at first use", forgotten, rotate("certs-1"), rotates=False),
        Scenario("reverted: alert at first use", distrusted, rotate("certs-1"), rotates=False),
        Scenario("held by the lock, then trusted", held, rotate("certs-1"), mend=trust_again),
        Scenario("superseded before the lock", before_the_lock, rotate("certs-2"), "certs-2"),
        Scenario("superseded after the lock", after_the_lock, rotate("certs-2"), "certs-2"),
        Scenario("cancelled", before_the_lock, cancel, rotates=False),
        *(
            Scenario(f"fioconfig's, {left}", partial(fioconfig.left_after, steps), rotate(None))
            for steps, left in _FIOCONFIG.items()
        ),
    ]


# What fioconfig had done when it was taken over from it, by steps.
_FIOCONFIG: Final = {1: "enrolled", 2: "locked", 4: "not switched", 5: "half switched"}


def registered() -> Simulation:
    """Never rotated."""
    return in_memory()


def rotated_once() -> Simulation:
    """The live pair has names of its own, and the stable names are links."""
    device = in_memory()
    process(device, rotate("certs-1"))
    return device


def asked_to_wait() -> Simulation:
    """The EST server wants a person's consent first."""
    device = in_memory()
    device.servers.est_answers = [202, 202]
    return device


def refused_by_est() -> Simulation:
    device = in_memory()
    device.servers.est_answers = [403] * 99
    return device


def issued_by_a_stranger() -> Simulation:
    """The EST server's CA is not among the gateway's."""
    device = in_memory()
    device.servers.est_ca = "foreign-ca"
    return device


def cut_before(request: str) -> Simulation:
    """A first rotation, cut off right before this request."""
    recording = Recording(in_memory())
    process(recording.device, rotate("certs-1"), recording.wrap)
    (cut,) = [each for each in recording.cuts if f"before {request}" in each.points]
    return cut.device


def before_the_lock() -> Simulation:
    """Nobody outside the device has heard of the new key but the EST server."""
    return cut_before("handshake")


def after_the_lock() -> Simulation:
    return cut_before("PATCH /config")


def forgotten() -> Simulation:
    """Another key was announced in place of ours: ours will be refused at its first use."""
    device = cut_before("PATCH /config")
    stranger = certificates.public_pem(certificates.new_key().public_key())
    device.servers.next_public_key = stranger
    device.servers.strangers = [stranger]
    device.servers.foreign_public_key = "accept"
    return device


def distrusted() -> Simulation:
    """The gateway stops to trust the CA after it was asked; it lets another key be announced."""
    device = cut_before("PATCH /device")
    device.servers.distrusted = ["online-ca"]
    device.servers.second_lock = "replace"
    return device


def held() -> Simulation:
    """The same, and the gateway waits for the new key alone: neither forward nor back."""
    device = cut_before("PATCH /device")
    device.servers.distrusted = ["online-ca"]
    return device


def trust_again(servers: Servers) -> None:
    """The operator adds the CA."""
    servers.distrusted = []

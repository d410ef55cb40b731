"""A power switch between the agent and the world: every effect can be cut before or after it.

The ports behind it are the real ones. Once the power is out, nothing that the
agent still tries has any effect, as on a device.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from fioagent import agent
from fioagent.disk import LocalDisk
from fioagent.model import CredentialRef
from fioagent.ports import Disk, Est, Gateway, KeyStore, Services, Sessions
from fioagent.rotation.ledger import Progress
from fioagent.rotation.machine import Phase
from fioagent.rotation.rotator import Outcome
from tests.world import World

EFFECTS: Final = {
    "make_directory": "disk",
    "replace": "disk",
    "append": "disk",
    "link": "disk",
    "rename": "disk",
    "remove": "disk",
    "settle": "disk",
    "check": "gateway",
    "handshake": "peer",
    "device_config": "gateway",
    "patch_config": "gateway",
    "set_next_key": "gateway",
    "post_events": "gateway",
    "csrattrs": "est",
    "cacerts": "est",
    "reenroll": "est",
    "restart": "services",
    "generate": "token",
    "store_certificate": "token",
    "destroy": "token",
}


class PowerCutError(BaseException):
    """Nothing of ours may catch it."""


class Switch:
    """Goes off at the ``cut``-th point; 0 never. Each effect has a point before and one after."""

    def __init__(self, cut: int = 0) -> None:
        self.cut = cut
        self.passed: list[str] = []

    def point(self, name: str) -> None:
        if self.cut and len(self.passed) + 1 >= self.cut:
            raise PowerCutError(name)
        self.passed.append(name)


class StopAt(Switch):
    """Goes off at the ``nth`` point of this name."""

    def __init__(self, name: str, nth: int = 1) -> None:
        super().__init__()
        self.name = name
        self.left = nth

    def point(self, name: str) -> None:
        self.left -= name == self.name
        if self.left <= 0:
            raise PowerCutError(name)


class Wired:
    """``target`` behind the switch."""

    def __init__(self, target: object, switch: Switch) -> None:
        self._target = target
        self._switch = switch

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._target, name)
        if name not in EFFECTS:
            return member

        def effect(*arguments: Any, **named: Any) -> Any:
            self._switch.point(f"before {name}")
            result = member(*arguments, **named)
            self._switch.point(f"after {name}")
            return result

        return effect


class WrappedSessions:
    """``ports.Sessions`` with something between the agent and each peer."""

    def __init__(self, sessions: Sessions, wrap: Callable[[object], object]) -> None:
        self._sessions = sessions
        self._wrap = wrap
        self.trusted_roots = sessions.trusted_roots
        self.probe = sessions.probe

    def gateway(self, credential: CredentialRef) -> Gateway:
        return cast("Gateway", self._wrap(self._sessions.gateway(credential)))

    def est(self, url: str, credential: CredentialRef) -> Est:
        return cast("Est", self._wrap(self._sessions.est(url, credential)))


def rotate_with(world: World, wrap: Callable[[object], object], identifier: str) -> Outcome:
    """``fioagent rotate --now --id``, with ``wrap`` around each peer."""
    with agent.opened([], world.device.env) as opened:
        sessions = WrappedSessions(opened.device.sessions, wrap)
        device = dataclasses.replace(opened.device, sessions=sessions)
        return agent.Agent(device, world.device.env["SECRETS_DIR"]).rotate(
            now=True, est_url=None, rotation_id=identifier, watch=lambda _: None
        )


def rotate_keeping(world: World, wrap: Callable[[KeyStore], KeyStore], identifier: str) -> Outcome:
    """``fioagent rotate --now --id``, with ``wrap`` around the key store."""
    with agent.opened([], world.device.env) as opened:
        device = dataclasses.replace(opened.device, keys=wrap(opened.device.keys))
        return agent.Agent(device, world.device.env["SECRETS_DIR"]).rotate(
            now=True, est_url=None, rotation_id=identifier, watch=lambda _: None
        )


def cut_at(
    world: World, phase: Phase, identifier: str, told: Callable[[], None] = lambda: None
) -> None:
    """The power fails as soon as ``phase`` is durable; ``told`` is called just before."""

    def watch(done: Progress) -> None:
        if done.phase is phase and not done.resumed:
            told()
            raise PowerCutError(phase.value)

    with contextlib.suppress(PowerCutError), agent.opened([], world.device.env) as opened:
        opened.rotate(now=True, est_url=None, rotation_id=identifier, watch=watch)
        raise AssertionError(f"{phase.value} was not reached")


def rotate(
    world: World,
    switch: Switch,
    identifier: str,
    wrap: Callable[[Services], Services] = lambda services: services,
) -> Outcome:
    """``fioagent rotate --now --id``, with the switch in every line. Raises PowerCutError."""
    with _wired(world, switch, wrap) as wired:
        return wired.rotate(now=True, est_url=None, rotation_id=identifier, watch=lambda _: None)


def recover(world: World, switch: Switch) -> Outcome:
    """``fioagent recover``, likewise."""
    with _wired(world, switch, lambda services: services) as wired:
        return wired.recover(lambda _: None)


@contextlib.contextmanager
def _wired(
    world: World, switch: Switch, wrap: Callable[[Services], Services]
) -> Iterator[agent.Agent]:
    disk = cast("Disk", Wired(LocalDisk(), switch))
    with agent.opened([], world.device.env, disk=disk) as opened:
        device = dataclasses.replace(
            opened.device,
            sessions=WrappedSessions(opened.device.sessions, lambda peer: Wired(peer, switch)),
            services=cast("Services", Wired(wrap(opened.device.services), switch)),
        )
        yield agent.Agent(device, world.device.env["SECRETS_DIR"])


def points(passed: Sequence[str]) -> list[str]:
    """Readable ids for the points of a clean run."""
    return [f"{number:03d}-{name.replace(' ', '-')}" for number, name in enumerate(passed, 1)]

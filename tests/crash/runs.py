"""One process of the agent after another, on a simulated device, until its rotation has ended."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fioagent.agent import Agent
from fioagent.errors import AgentError
from fioagent.ports import Moment, Services
from fioagent.rotation.ledger import Progress
from fioagent.rotation.rotator import Outcome, Result
from tests.crash import look, promises
from tests.crash.promises import BROKEN, Broken
from tests.crash.servers import Servers
from tests.crash.simulated import Simulation, Wrap, no_wrap

MAX_RUNS: Final = 8
UNMENDED: Final = 2  # runs before the operator acts


class After(enum.Enum):
    """What follows a cut before the agent is run again."""

    BOOT = "boot"  # recovery, then all programs start
    POLLED_BOOT = "polled"  # and one of them uses the live pair, as aktualizr-lite does
    KILL = "killed"  # nothing: the process alone was gone


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that a device does, and how it may end.

    Attributes:
        name: for the table.
        start: the device right before it.
        act: one process of the agent; repeated until the rotation has ended.
        last_id: of the rotation that has to have ended then.
        rotates: whether the new pair has to be live at the end.
        mend: what the operator changes on the servers before it can end.
        store: where the keys are.
    """

    name: str
    start: Callable[[], Simulation]
    act: Callable[[Agent], Outcome]
    last_id: str = "certs-1"
    rotates: bool = True
    mend: Callable[[Servers], None] | None = None
    store: str = "file"


def silent(progress: Progress) -> None:
    """Nobody watches."""


def rotate(identifier: str | None) -> Callable[[Agent], Outcome]:
    """``fioagent rotate --now --id``."""
    return lambda agent: agent.rotate(now=True, est_url=None, rotation_id=identifier, watch=silent)


def recover(agent: Agent) -> Outcome:
    return agent.recover(silent)


def cancel(agent: Agent) -> Outcome:
    return agent.cancel(silent)


def check_in(agent: Agent) -> Outcome:
    """What runs by a timer: nothing is due, but events may be waiting."""
    return agent.rotate(now=False, est_url=None, rotation_id=None, watch=silent)


def process(
    device: Simulation, act: Callable[[Agent], Outcome], wrap: Wrap = no_wrap
) -> Outcome | AgentError:
    """One run of the agent; what it refuses to begin is an answer too."""
    try:
        with device.opened(wrap) as agent:
            return act(agent)
    except AgentError as error:
        return error


def has_ended(device: Simulation, identifier: str) -> bool:
    """No rotation is open, of ours or of fioconfig, and this one is among the ended ones."""
    found = look.at(device.disk, device.storage)
    if found.open is not None or "cert-rotation.state" in found.files:
        return False
    return any(each.begun["id"] == identifier for each in found.ended)


def to_the_end(device: Simulation, scenario: Scenario, wrap: Wrap = no_wrap) -> list[Broken]:
    """Run after run, until the rotation has ended and is told of."""
    for count in range(MAX_RUNS):
        if has_ended(device, scenario.last_id):
            break
        if count == UNMENDED and scenario.mend is not None:
            scenario.mend(device.servers)
        process(device, scenario.act, wrap)
    else:
        return [(BROKEN, f"not at its end after {MAX_RUNS} runs")]
    return checked_in(device, wrap)


def checked_in(device: Simulation, wrap: Wrap = no_wrap) -> list[Broken]:
    """After the end there is nothing to do but to deliver what was not told yet."""
    outcome = process(device, check_in, wrap)
    if isinstance(outcome, AgentError) or outcome.result is not Result.NOTHING_TO_DO:
        return [(BROKEN, f"a check-in after the end: {outcome}")]
    return []


class _NoServices:
    """At boot, before other programs: there is nothing to restart, and asking for it is a bug."""

    def restart(self, unit: str, changed: Moment, since: Moment | None = None) -> str:
        del changed, since
        raise AssertionError(f"a restart of {unit} before it was started")

    def is_installed(self, program: str) -> bool:
        del program
        return False

    def is_running(self, program: str) -> bool:
        del program
        return False


_NO_SERVICES: Final[Services] = _NoServices()


def offline(port: Any, name: str) -> Any:
    """What runs at boot has no network: asking for it is a bug."""
    if name in ("gateway", "est"):
        raise AssertionError(f"the {name} was asked for offline")
    return _NO_SERVICES if name == "services" else port


def booted(device: Simulation, wrap: Wrap = no_wrap) -> list[Broken]:
    """What runs first at boot, then all programs; and what is broken after it."""
    outcome = process(device, recover, lambda port, name: wrap(offline(port, name), name))
    device.boot()
    broken = promises.at_any_instant(device.disk, device.servers, device.storage)
    if isinstance(outcome, AgentError):
        broken.append((BROKEN, f"recover: {outcome}"))
    return broken


def used_by_another(device: Simulation) -> None:
    """Another program asks the gateway something with the live pair."""
    found = look.at(device.disk, device.storage)
    _, leaf = found.pair(*found.live)
    if leaf is not None and device.servers.alert(leaf) is None:
        device.servers.answer("gateway", leaf, "GET", "/config", b"")


def ended(
    device: Simulation,
    scenario: Scenario,
    sota: bytes,
    *,
    either: bool = False,
    heard: bool = True,
) -> list[Broken]:
    """What is broken at the end.

    ``sota`` is sota.toml as it was before it all; ``either``: both ends will do;
    ``heard``: the gateway has taken every report.
    """
    found = look.at(device.disk, device.storage)
    broken = [
        *promises.at_the_end(device.disk, device.servers, device.storage, heard=heard),
        *promises.only_the_pair_changed(sota, found.files["sota.toml"]),
    ]
    rotated = promises.has_rotated(device.disk, device.storage)
    if scenario.rotates != rotated and not either:
        broken.append((BROKEN, "it has ended the other way"))
    changes = sum(
        each.phases.count("reverting") + (each.phases[-1] == "completed") for each in found.ended
    )
    if device.services.restarts > changes:
        times = f"{device.services.restarts} times for {changes} changes of the pair"
        broken.append((BROKEN, f"services were restarted {times}"))
    if device.services.credential != device.live_key():
        broken.append((BROKEN, "a service goes on with another pair than the live one"))
    return broken


def after_a_cut(
    device: Simulation,
    scenario: Scenario,
    sota: bytes,
    wrap: Wrap = no_wrap,
    *,
    after: After = After.BOOT,
    either: bool = False,
    heard: bool = True,
) -> list[Broken]:
    """From the cut over what comes after it to the end; whatever is broken on that way.

    ``either`` and ``heard`` are those of ``ended``.
    """
    broken = promises.at_any_instant(device.disk, device.servers, device.storage, recovered=False)
    try:
        if after is not After.KILL:
            broken += booted(device, wrap)
        if after is After.POLLED_BOOT:
            used_by_another(device)
        broken += to_the_end(device, scenario, wrap)
        broken += ended(device, scenario, sota, either=either, heard=heard)
    except Exception as error:  # noqa: BLE001  # any that is not for users is a bug, and told
        broken.append((BROKEN, f"it crashed: {error!r}"))
    return broken

"""The checks, one after the other, in the process that does them; builds what they look with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fioagent import agent
from fioagent.doctor.checks import CHECKS, Check
from fioagent.doctor.finding import Finding, State, failed, skipped
from fioagent.doctor.patient import Patient
from fioagent.doctor.ports import Surroundings
from fioagent.errors import AgentError
from fioagent.ports import Clock
from fioagent.surroundings import Machine


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be looked at.

    Attributes:
        config: ``-c`` of the command line.
        offline: nothing that needs the network.
        after: the checks before and up to this one are done; empty: none is.
        failed: those that have failed.
    """

    config: Sequence[str] = ()
    offline: bool = False
    after: str = ""
    failed: Sequence[str] = field(default_factory=tuple)


def names(order: Order) -> list[str]:
    """Of the checks that are left to do, in order."""
    known = [each.name for each in CHECKS]
    left = known[known.index(order.after) + 1 :] if order.after else known
    offline = {each.name for each in CHECKS if not each.online}
    return [name for name in left if not order.offline or name in offline]


def examine(
    order: Order,
    environ: Mapping[str, str],
    begins: Callable[[str], None],
    *,
    clock: Clock | None = None,
    around: Surroundings | None = None,
) -> Iterator[Finding]:
    """Findings as they come; ``begins`` is told the name of each check before it."""
    wanted = set(names(order))
    checks = [each for each in CHECKS if each.name in wanted]
    broken = set(order.failed)
    with contextlib.ExitStack() as stack:
        if checks:
            begins(checks[0].name)
        try:
            opened = stack.enter_context(agent.opened(order.config, environ, clock=clock))
        except AgentError as error:
            yield failed(checks[0].name, error)
            for check in checks[1:]:
                yield skipped(check.name, f"{checks[0].name} failed")
            return
        for check in checks:
            begins(check.name)
            patient = Patient(check.name, opened.device, around or Machine())
            for finding in _done(check, patient, broken):
                if finding.state is State.FAIL:
                    broken.add(check.name)
                yield finding


def _done(check: Check, patient: Patient, broken: set[str]) -> Iterator[Finding]:
    missing = next((name for name in check.needs if name in broken), None)
    if missing is not None:
        yield skipped(check.name, f"{missing} failed")
        return
    try:
        yield from check.act(patient)
    except AgentError as error:
        yield failed(check.name, error)

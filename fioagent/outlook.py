"""Three answers about a device: is it safe today, what happens next, does it need a person. Pure.

By what is on the device alone. Whether its gateway can be reached is another question,
and costs a connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fioagent.model import CredentialRef
from fioagent.rotation import policy
from fioagent.rotation.machine import CANCELLED, Phase, Rotation
from fioagent.rotation.situation import Decision, Setback, Why
from fioagent.x509 import Certificate

_TELL: Final = "tell the operator; 'fioagent log' has the story"
_BY_HAND: Final = "'fioagent rotate --now' tries at once"


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a device without asking anybody.

    Attributes:
        now: device's clock.
        plausible: whether that clock can be believed; None where that cannot be told.
        credential: that sota.toml names.
        certificate: its certificate; None where it cannot be used.
        problem: why it cannot, or what is wrong with the journal.
        remedy: what to do about the problem; None where nothing was said.
        due_at: when this device is due by the settings.
        decision: what is wanted, why and when; None where that cannot be told.
        held: why that cannot be told at this moment, but later.
        setback: the latest attempts that could not begin; None without any.
        open: a rotation under way.
        last: the latest that ended.
        unreported: events that the gateway has not acknowledged.
        at_work: the process of ours that holds the lock; None where none does.
    """

    now: datetime
    plausible: bool | None
    credential: CredentialRef
    certificate: Certificate | None
    problem: str | None
    remedy: str | None
    due_at: datetime | None
    decision: Decision | None
    held: str | None
    setback: Setback | None
    open: Rotation | None
    last: Rotation | None
    unreported: int
    at_work: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        yes: None where nobody can tell.
        said: the rest of it, in words.
        remedy: what to do; None where nothing is to be done.
    """

    yes: bool | None
    said: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """What happens by itself.

    Attributes:
        at: when; None where at once, or where nobody can tell.
        said: what.
    """

    at: datetime | None
    said: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """The three answers, in the order in which they are asked."""

    safe: Answer
    next: Next
    person: Answer


def of(status: Status) -> Outlook:
    """By what is on the device."""
    return Outlook(_safe(status), _next(status), _person(status))


def _safe(status: Status) -> Answer:
    """Whether it has a credential that its gateway takes, as far as the device can tell."""
    certificate, rotation = status.certificate, status.open
    if certificate is None:
        return Answer(False, status.problem or "its credential cannot be used")
    if rotation is not None and rotation.paused is not None and rotation.paused.locked_out:
        return Answer(False, rotation.paused.reason)
    if status.plausible is False:
        return Answer(None, f"the clock says {status.now:%Y-%m-%d %H:%M} UTC, which cannot be")
    until = f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
    if status.now >= certificate.not_after:
        return Answer(False, f"the certificate has expired on {until}")
    return Answer(True, f"the certificate is valid until {until}")


def _next(status: Status) -> Next:
    decision, rotation = status.decision, status.open
    if status.at_work is not None:
        return Next(None, f"now: {status.at_work} is at work")
    if decision is None or (status.certificate is None and rotation is None):
        return Next(None, status.held or "nothing, before that is mended")
    if decision.why is Why.CLOCK:
        return Next(None, "nothing, before the clock is right")
    what = _what(decision, rotation)
    if decision.wanted:
        return Next(None, f"at the service's next look: {what}")
    if decision.next_at is None:
        return Next(None, what)
    return Next(decision.next_at, what)


def _what(decision: Decision, rotation: Rotation | None) -> str:
    if rotation is not None and decision.id in (None, rotation.id):
        return f"{rotation.id} goes on"
    if decision.why in (Why.TRIGGER, Why.PROMISED):
        return f"rotation {decision.id}"
    return "rotation by schedule"


def _person(status: Status) -> Answer:
    """Whether waiting alone will not help; the remedy is what the error said, or the usual one."""
    rotation, setback, last = status.open, status.setback, status.last
    if status.problem is not None:
        return Answer(True, status.problem, status.remedy or _TELL)
    if rotation is not None:
        stuck = _stuck(rotation)
        if stuck is not None:
            return stuck
    elif setback is not None and setback.person:
        return Answer(True, setback.reason, setback.hint or _TELL)
    elif last is not None and _was_refused(last):
        facts = last.facts[Phase.ABANDONED]
        return Answer(True, str(facts["reason"]), str(facts.get("hint", _TELL)))
    if status.plausible is False:
        return Answer(True, "the clock is wrong", "set the clock, or wait for its synchronisation")
    return _by_validity(status)


def _stuck(rotation: Rotation) -> Answer | None:
    paused = rotation.paused
    if rotation.silent_runs > policy.FREE_SILENT_RUNS:
        return Answer(True, policy.reason_to_wait(rotation), _TELL)
    if paused is None or not paused.person:
        return None
    return Answer(True, paused.reason, paused.hint or _TELL)


def _was_refused(rotation: Rotation) -> bool:
    reason = rotation.facts[rotation.phase].get("reason")
    return rotation.phase is Phase.ABANDONED and reason != CANCELLED


def _by_validity(status: Status) -> Answer:
    """A certificate that runs out while nothing gets on needs somebody in time."""
    certificate = status.certificate
    if certificate is None or status.plausible is None:
        return Answer(False, "")
    if status.now >= certificate.not_after:
        hint = "'fioagent rotate --now'; where that is refused, register the device again"
        return Answer(True, "the certificate has expired", hint)
    ending = policy.is_ending(certificate.not_before, certificate.not_after, status.now)
    trouble = _latest_trouble(status)
    if ending and trouble is not None:
        return Answer(True, f"the certificate expires soon, and {trouble}", _BY_HAND)
    return Answer(False, "")


def _latest_trouble(status: Status) -> str | None:
    if status.open is not None and status.open.paused is not None:
        return status.open.paused.reason
    return None if status.setback is None else status.setback.reason

"""The loop that takes a rotation from phase to phase, and what becomes of a failure.

Before the pivot a definite no ends the rotation and leaves nothing behind.
After it there is only forward, with one exception: a gateway that refuses the
new credential at its first use, while it still takes the old one. Whatever else
goes wrong is a pause, and the next run goes on from the recorded phase.
"""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass
from typing import Final

from fioagent.errors import (
    AgentError,
    ConfigError,
    CredentialChangedError,
    CredentialRefusedError,
    LockedOutError,
    PeerError,
    TemporaryError,
)
from fioagent.model import Facts
from fioagent.rotation import enrolment, identity, machine, steps
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import Kind, Phase, Rotation

_TURNS: Final = 5  # forward and back again, before only a person tries it once more


class Result(str, enum.Enum):
    """How a run ended."""

    COMPLETED = "completed"
    NOTHING_TO_DO = "nothing-to-do"
    TRY_AGAIN = "try-again"  # the rotation stays open, or was not begun
    NEEDS_PERSON = "needs-person"  # the same, and waiting alone will not help
    FAILED = "failed"  # over; the old credential is live
    CANCELLED = "cancelled"  # the same, because a person wanted it
    RECOVERED = "recovered"  # what a power cut had left half-done is done


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and the words for it.

    Attributes:
        result: see Result.
        message: one line.
        hint: what to do next; None where nothing is to be done.
        rotation: as it stands now; None where none was begun.
    """

    result: Result
    message: str
    hint: str | None = None
    rotation: Rotation | None = None


def drive(ledger: Ledger, rotation: Rotation, *, by_hand: bool = True) -> Outcome:
    """From the recorded phase as far as it goes.

    ``by_hand``: a person asks, so what was turned back too often is tried again too.
    """
    outcome = None
    turned_back = rotation.turns
    patient = by_hand or rotation.turns < _TURNS
    while outcome is None and rotation.is_open:
        # Forward again once in a run at most: a gateway of two minds must not keep us in a circle.
        may_turn = patient and rotation.turns == turned_back
        try:
            rotation = _advance(ledger, rotation, may_turn=may_turn)
        except AgentError as error:
            rotation, outcome = _failed(ledger, rotation, error, may_turn=may_turn)
        except KeyboardInterrupt:  # a person, or the service that stops
            ledger.stopped()
            raise
    ledger.deliver()
    return outcome or _closed(ledger, rotation)


def _advance(ledger: Ledger, rotation: Rotation, *, may_turn: bool) -> Rotation:
    phase = machine.next_phase(rotation)
    if phase is None:
        raise AssertionError(f"{rotation.phase.value} is an end")
    identity.require_known_credential(rotation, ledger.device)
    if phase is Phase.ABANDONED:
        if not steps.old_still_works(rotation, ledger.device):
            # Somebody has used the new pair since, and the gateway has taken it.
            if not may_turn:
                raise TemporaryError("cannot go on: the gateway refuses now the one, now the other")
            return _forward(ledger, rotation)
        steps.revert_locally(rotation, ledger.device)
        if rotation.put_back is None:
            rotation = ledger.add(Kind.ATTEMPT, phase, steps.now(ledger.device))
        steps.restart_services_back(rotation, ledger.device)
        steps.revert_on_gateway(rotation, ledger.device)
        return ledger.enter(Phase.ABANDONED, rotation.facts[Phase.REVERTING])
    if phase in machine.ATTEMPTS and not rotation.has_attempted(phase):
        rotation = ledger.add(Kind.ATTEMPT, phase)
    if phase is Phase.CERT_ISSUED and enrolment.must_ask_anew(rotation, ledger.device):
        facts = enrolment.generate_key(rotation, ledger.device)
        return ledger.enter(Phase.KEY_GENERATED, facts)
    rotation = ledger.enter(phase, steps.STEPS[phase](rotation, ledger.device))
    if phase is Phase.DEVICE_CONFIG_UPDATED:
        ledger.deliver()  # the last time that the old credential's connection is open
    return rotation


def _failed(
    ledger: Ledger, rotation: Rotation, error: AgentError, *, may_turn: bool
) -> tuple[Rotation, Outcome | None]:
    """What a failure makes of the rotation; an outcome where this run is over.

    ``rotation`` is as it was before the attempt. So a lock that is refused at
    the first try ends it, but one whose answer may have been lost earlier does not.
    """
    phase = machine.next_phase(rotation)
    try:
        if rotation.before_pivot and _ends(phase, error):
            return ledger.enter(Phase.ABANDONED, _reason(error)), None
        if phase is Phase.CONFIRMED and isinstance(error, CredentialRefusedError):
            return _refused(ledger, rotation, error), None
        held = rotation.phase is Phase.REVERTING and rotation.paused is not None
        if held and may_turn and isinstance(error, PeerError):
            return _forward_again(ledger, rotation, error), None
    except AgentError as trouble:
        error = trouble
    return _pause(ledger, rotation, error)


def _refused(ledger: Ledger, rotation: Rotation, error: CredentialRefusedError) -> Rotation:
    """Back, once it is sure that the gateway will not have the new pair but takes the old."""
    waits = _announced_again(ledger, rotation)
    if waits:
        # The lock may have lapsed: with the key announced once more, it may be taken.
        with contextlib.suppress(CredentialRefusedError):
            return ledger.enter(Phase.CONFIRMED, steps.confirm(rotation, ledger.device))
    if not steps.old_still_works(rotation, ledger.device):
        raise LockedOutError(
            f"the gateway refuses the old and the new credential ({error})",
            hint="the operator has to look at this device's keys on the gateway",
        ) from error
    by_alert = error.alert is not None
    facts = {**_reason(error), "gateway_waits": waits is not False, "by_alert": by_alert}
    return ledger.enter(Phase.REVERTING, facts)


def _announced_again(ledger: Ledger, rotation: Rotation) -> bool | None:
    """Whether the gateway waits for the new key; None where its answer does not tell.

    It took the announcement before, so only a word that it waits for another is a no.
    """
    try:
        steps.lock(rotation, ledger.device)
    except PeerError as error:
        return False if error.status == 409 else None
    return True


def _forward_again(ledger: Ledger, rotation: Rotation, error: AgentError) -> Rotation:
    """A gateway that will not be put back may take the new pair by now: it waits for it."""
    facts = rotation.facts[Phase.REVERTING]
    if facts["by_alert"]:
        try:
            ledger.device.sessions.gateway(rotation.new).handshake()
        except PeerError:
            raise error from None
    elif not facts["gateway_waits"]:
        raise error
    return _forward(ledger, rotation)


def _forward(ledger: Ledger, rotation: Rotation) -> Rotation:
    """Out of the way back: the commit is next again, and recovery knows it."""
    facts = rotation.facts[Phase.DEVICE_CONFIG_UPDATED]
    return ledger.enter(Phase.DEVICE_CONFIG_UPDATED, facts)


def _pause(ledger: Ledger, rotation: Rotation, error: AgentError) -> tuple[Rotation, Outcome]:
    phase = machine.next_phase(rotation)
    facts: dict[str, str | int | bool] = {"reason": str(error)}
    if isinstance(error, TemporaryError) and error.retry_after_s is not None:
        facts["retry_after_s"] = int(error.retry_after_s)
    if isinstance(error, TemporaryError) and error.accepted:
        facts["accepted"] = True
    hint = error.hint
    if isinstance(error, PeerError) and Phase.CONFIRMED not in rotation.facts:
        hint = "the rotation stays open: the gateway may know the new key; tell the operator"
    if not isinstance(error, TemporaryError):
        facts["person"] = True
    if hint is not None:
        facts["hint"] = hint
    if isinstance(error, LockedOutError):
        facts["locked_out"] = True
    with contextlib.suppress(ConfigError):  # a disk in trouble takes no word of it
        rotation = ledger.add(Kind.PAUSE, phase, facts)
    waiting = isinstance(error, (TemporaryError, PeerError))
    result = Result.TRY_AGAIN if waiting else Result.NEEDS_PERSON
    return rotation, Outcome(result, str(error), hint, rotation)


def _closed(ledger: Ledger, rotation: Rotation) -> Outcome:
    try:
        ledger.close(rotation)
    except ConfigError as error:
        return Outcome(Result.NEEDS_PERSON, str(error), error.hint, rotation)
    if rotation.phase is Phase.COMPLETED:
        serial = rotation.fact(Phase.CERT_ISSUED, "serial")
        return Outcome(Result.COMPLETED, f"rotated to serial {serial}", None, rotation)
    facts = rotation.facts[rotation.phase]
    hint = facts.get("hint")
    return Outcome(
        Result.FAILED, str(facts["reason"]), None if hint is None else str(hint), rotation
    )


def _ends(phase: Phase | None, error: AgentError) -> bool:
    """Whether a failure before the pivot leaves nothing to try again."""
    if isinstance(error, CredentialChangedError):
        return True
    if phase is Phase.LOCKED:
        # Only an answer counts: an alert on a later connection says nothing of this request.
        return isinstance(error, PeerError) and error.status is not None
    return isinstance(error, PeerError)


def _reason(error: AgentError) -> Facts:
    return {"reason": str(error)} | ({} if error.hint is None else {"hint": error.hint})

"""When a rotation is wanted, under which id, and when to look again. Pure.

Chance is drawn from hashes of what a device is and does, so it differs from
device to device and is the same whenever a device is asked: after a reboot, on
another day, in a simulation of the fleet (tests/bench/fleet.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from fioagent import forms
from fioagent.config.trigger import Trigger
from fioagent.errors import one_line
from fioagent.rotation import policy
from fioagent.rotation.machine import BEFORE_PIVOT, Phase, Rotation
from fioagent.rotation.situation import Decision, Ended, Rules, Situation, Why

_EARLY: Final = (Phase.BEGUN, Phase.KEY_GENERATED)  # it has no certificate yet


def draw(*words: str) -> float:
    """From 0 to 1, evenly; another for other words, the same for the same."""
    digest = hashlib.sha256("\n".join(words).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def due_at(not_before: datetime, not_after: datetime, rules: Rules) -> datetime:
    """The earliest moment at which a device of this fleet is due."""
    if rules.due_before_expiry is None:
        return policy.due_at(not_before, not_after, rules.due_at)
    return max(not_before, not_after - rules.due_before_expiry)


def scheduled_at(not_before: datetime, not_after: datetime, rules: Rules, device: str) -> datetime:
    """When this device is due: its own place in the spread, the same whenever it is asked.

    The spread takes a third of the life that is left at most, so there is time to
    try again.
    """
    due = due_at(not_before, not_after, rules)
    room = min(rules.spread, (not_after - due) / 3)
    return due + room * draw("schedule", device)


def slot(
    trigger: Trigger, seen_at: datetime, not_after: datetime, rules: Rules, device: str
) -> datetime:
    """When this device answers a trigger: its own place in the window.

    The window begins when the device sees the file, or at START if that is later.
    It never takes more than half of the life that is left of the certificate.
    """
    begin = max(seen_at, trigger.start or seen_at)
    return begin + _window(trigger, begin, not_after, rules) * draw("slot", device, trigger.id)


def _window(trigger: Trigger, begin: datetime, not_after: datetime, rules: Rules) -> timedelta:
    window = rules.window if trigger.window is None else trigger.window
    return max(timedelta(), min(window, (not_after - begin) / 2))


def is_over(trigger: Trigger, ended: Sequence[Ended]) -> bool:
    """Whether a trigger has had its rotation.

    Done once is done for ever; one that was refused or cancelled is tried again
    when the operator has changed the file.
    """
    return any(
        each.id == trigger.id
        and (each.phase is not Phase.ABANDONED or each.trigger == trigger.digest)
        for each in ended
    )


def decide(situation: Situation, rules: Rules) -> Decision:
    """What is wanted now, and otherwise when."""
    going_on = situation.open
    if going_on is None:
        return _beginning(situation, rules)
    decision = _going_on(going_on, situation)
    trigger = situation.trigger
    if trigger is None or not situation.plausible or not _differs(situation, trigger):
        return decision
    asked = _after_setback(_triggered(trigger, situation, rules), situation)
    if asked.wanted or (trigger.id == going_on.id and going_on.phase in _EARLY):
        said = f"{asked.said}, in place of {going_on.id}"
        if trigger.id == going_on.id:
            said = f"the operator has corrected {trigger.id}"
        return dataclasses.replace(asked, wanted=True, next_at=None, said=said)
    times = [at for at in (decision.next_at, asked.next_at) if at is not None]
    return dataclasses.replace(decision, next_at=min(times, default=None))


def _differs(situation: Situation, trigger: Trigger) -> bool:
    """Whether the file asks for something else than what is under way, and may have it."""
    rotation = situation.open
    if rotation is None or rotation.id != trigger.id:
        return situation.replaceable
    begun = rotation.facts[Phase.BEGUN]
    corrected = trigger.est_url not in ("", rotation.est_url)
    return corrected and begun.get("trigger") != trigger.digest and rotation.phase in _EARLY


def _going_on(rotation: Rotation, situation: Situation) -> Decision:
    said = f"rotation {rotation.id} is open at {rotation.phase.value}"
    if not rotation.is_open:
        return Decision(True, None, Why.OPEN, f"rotation {rotation.id} is over but not put away")
    if rotation.phase in BEFORE_PIVOT and not rotation.announced and not situation.plausible:
        # Asking for a certificate needs the time; what comes after does not.
        return Decision(False, None, Why.CLOCK, f"{said}; {_clock(situation)}")
    until = policy.wait_until(rotation, situation.now)
    if until is None:
        return Decision(True, None, Why.OPEN, said)
    return Decision(False, until, Why.OPEN, f"{said}; {policy.reason_to_wait(rotation)}")


def _beginning(situation: Situation, rules: Rules) -> Decision:
    if not situation.plausible:
        return Decision(False, None, Why.CLOCK, _clock(situation), held_up=True)
    if situation.promised is not None:
        identifier, est_url = situation.promised
        said = f"rotation {identifier} was promised"
        decision = Decision(True, None, Why.PROMISED, said, identifier, est_url)
    else:
        decision = _scheduled(situation, rules)
        if situation.trigger is not None:
            decision = _earlier(_triggered(situation.trigger, situation, rules), decision)
    return _after_setback(decision, situation)


def _clock(situation: Situation) -> str:
    return f"the clock says {situation.now:%Y-%m-%d %H:%M} UTC, which cannot be"


def _triggered(trigger: Trigger, situation: Situation, rules: Rules) -> Decision:
    """Its own place in the window; a first look from the future was by a wrong clock."""
    seen_at = min(situation.seen_at or situation.now, situation.now)
    begin = max(seen_at, trigger.start or seen_at)
    window = _window(trigger, begin, situation.not_after, rules)
    at = slot(trigger, seen_at, situation.not_after, rules, situation.device)
    wanted = at <= situation.now
    said = f"the operator asks for {trigger.id}"
    if window:
        said += f" within {forms.duration_text(window)} from {begin:%Y-%m-%d %H:%M} UTC"
    if trigger.unknown:
        said += f" (not known: {one_line(', '.join(trigger.unknown), 60)})"
    return Decision(
        wanted=wanted,
        next_at=None if wanted else at,
        why=Why.TRIGGER,
        said=said,
        id=trigger.id,
        est_url=trigger.est_url,
        trigger=trigger.digest,
        patience=policy.patience(window) if window else None,
    )


def _scheduled(situation: Situation, rules: Rules) -> Decision:
    not_before, not_after = situation.not_before, situation.not_after
    at = scheduled_at(not_before, not_after, rules, situation.device)
    now = situation.now
    if now >= not_after:
        said = f"the certificate has expired on {not_after:%Y-%m-%d %H:%M} UTC; it is tried all "
        said += "the same, some servers allow it"
    else:
        word = "was" if at <= now else "is"
        said = f"the certificate is valid until {not_after:%Y-%m-%d}, "
        said += f"rotation {word} due on {at:%Y-%m-%d}"
    refused = policy.wait_after_refusals(
        [each.at for each in _refusals(situation.ended)], not_after, draw("again", situation.device)
    )
    held_up = refused is not None and now >= at and refused[0] <= now < refused[1]
    if refused is not None and held_up:
        said += f"; the last {len(_refusals(situation.ended))} tries were refused"
        at = refused[1]
    wanted = at <= now
    return Decision(
        wanted=wanted,
        next_at=None if wanted else at,
        held_up=held_up,
        why=Why.SCHEDULE,
        said=said,
        patience=policy.patience(rules.spread),
    )


def _refusals(ended: Sequence[Ended]) -> list[Ended]:
    """The latest ones in a row."""
    found: list[Ended] = []
    for each in reversed(ended):
        if each.phase is not Phase.ABANDONED:
            break
        found.insert(0, each)
    return found


def _earlier(triggered: Decision, scheduled: Decision) -> Decision:
    """One rotation serves both, under the operator's id."""
    if scheduled.wanted and not triggered.wanted:
        return dataclasses.replace(
            triggered, wanted=True, next_at=None, said=f"{scheduled.said}; {triggered.said}"
        )
    times = [at for at in (triggered.next_at, scheduled.next_at) if at is not None]
    return (
        triggered
        if triggered.wanted
        else dataclasses.replace(triggered, next_at=min(times, default=None))
    )


def _after_setback(decision: Decision, situation: Situation) -> Decision:
    setback = situation.setback
    if setback is None or not decision.wanted or setback.cause != decision.cause:
        return decision
    until = setback.at + policy.wait_to_begin(
        setback.failures,
        setback.retry_after_s,
        left=situation.not_after - setback.at,
        patience=decision.patience,
        draw=draw("begin", situation.device, str(setback.failures), setback.at.isoformat()),
    )
    if not setback.at <= situation.now < until:
        return decision
    said = f"{decision.said}; {setback.reason}"
    return dataclasses.replace(decision, wanted=False, held_up=True, next_at=until, said=said)

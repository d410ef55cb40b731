"""Journal records to update events, as operators see them with ``fioctl devices updates``.

Names and bodies are fioconfig's (internal/rotate_events.go); the truth in them
is ours: ``CertRotationCompleted`` comes once, and with success only when the
new credential was confirmed. An event's id is fixed by the rotation and its
place, so sending it again is no second event. Pure.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fioagent.model import Target
from fioagent.rotation.machine import Kind, Phase, Record

MAX_FAILURES: Final = 10  # different ones a rotation tells of
MAX_DETAILS: Final = 2048  # characters, as foundriesio/fioup cuts them
_STARTED: Final = "CertRotationStarted"
_COMPLETED: Final = "CertRotationCompleted"
_ENDS: Final = {Phase.COMPLETED: True, Phase.ABANDONED: False, Phase.SUPERSEDED: False}
_STEPS: Final[Mapping[Phase, str]] = {
    Phase.BEGUN: _STARTED,
    Phase.KEY_GENERATED: "Generate new certificate",
    Phase.CERT_ISSUED: "Generate new certificate",
    Phase.LOCKED: "Lock device configuration on server",
    Phase.CONFIG_STAGED: "Update local configuration with new key",
    Phase.DEVICE_CONFIG_UPDATED: "Update device specific configuration on server with new key",
    Phase.COMMITTED: "Finalize aktualizr configuration",
    Phase.CONFIRMED: "Finalize aktualizr configuration",
    Phase.REVERTING: "Finalize aktualizr configuration",
    Phase.ABANDONED: "Finalize aktualizr configuration",  # a pause on the way back
}
# Reached silently: the key is half of "Generate new certificate", and what
# follows COMMITTED is told by the last event.
_SILENT: Final = frozenset((Phase.KEY_GENERATED, Phase.CONFIRMED))


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, without its place in the series."""

    name: str
    success: bool
    at: str
    details: str


def of(records: Sequence[Record]) -> list[dict[str, object]]:
    """Bodies for POST /events, in order; the first n stay the same as records are added."""
    if not records:
        return []
    facts = records[0].facts
    seed = uuid.UUID(str(facts["event_seed"]))
    target = Target(str(facts["target_name"]), str(facts["target_version"]))
    return [
        body(event, uuid.uuid5(seed, _mark(place, event)), str(facts["id"]), target)
        for place, event in enumerate(_told(records))
    ]


def body(
    event: Event, identifier: uuid.UUID, correlation_id: str, target: Target
) -> dict[str, object]:
    """One event for POST /events."""
    return {
        "id": str(identifier),
        "deviceTime": event.at,
        "event": {
            "correlationId": correlation_id,
            "success": event.success,
            "targetName": target.name,
            "version": target.version,
            **({"details": event.details} if event.details else {}),
        },
        "eventType": {"id": event.name, "version": 0},
    }


def _mark(place: int, event: Event) -> str:
    """What tells an event from the others of its rotation.

    The end counts by itself: of a journal that was damaged fewer came before it.
    """
    return "end" if event.name == _COMPLETED else str(place)


def _told(records: Sequence[Record]) -> list[Event]:
    told: list[Event] = []
    failures: set[tuple[str | None, str]] = set()
    phases: set[Phase | None] = set()
    for record in records:
        name, success, details = _event(record)
        if record.kind is Kind.PAUSE:
            # A server that is down for a week is one event, not a thousand.
            said = (name, details) in failures or record.facts.get("untold", False)
            if said or len(failures) >= MAX_FAILURES:
                continue
            failures.add((name, details))
        elif record.kind is Kind.PHASE:
            if record.phase in phases:
                continue  # back and forward again
            phases.add(record.phase)
        if name is not None:
            told.append(Event(name, success, rfc3339(record.at), _cut(details)))
    return told


def _event(record: Record) -> tuple[str | None, bool, str]:
    """Name, success and details; no name where the record is not for operators."""
    phase, reason = record.phase, str(record.facts.get("reason", ""))
    if phase is None or record.kind is Kind.ATTEMPT:
        return None, False, ""
    if record.kind is Kind.PAUSE:
        return _STEPS.get(phase), False, reason
    if phase in _ENDS:
        return _COMPLETED, _ENDS[phase], reason
    name = None if phase in _SILENT else _STEPS.get(phase)
    return name, phase is not Phase.REVERTING, reason


def rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cut(details: str) -> str:
    if len(details) <= MAX_DETAILS:
        return details
    return f"{details[:MAX_DETAILS]}...[TRUNCATED]"

"""A rotation's story, out of its own journal: ``fioagent log``. Pure.

The journal is in storage.path, so the story outlasts a reboot where systemd's journal does
not. Times are the device's clock, which may have been wrong, or set in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from fioagent.rotation import policy
from fioagent.rotation.machine import Kind, Phase, Record, Rotation
from fioagent.statuswords import span
from fioagent.words import folded, live, meaning, proof, proof_json, shown

_INDENT: Final = 24


def told(records: Sequence[Record], rotation: Rotation) -> Iterator[str]:
    """Header, one line for each thing that happened, and the end or where it stands."""
    yield f"rotation {rotation.id}"
    yield from folded(f"EST server {rotation.est_url}", 2)
    before: datetime | None = None
    for place, record in enumerate(records):
        said = _said(records, place)
        if said is None:
            continue
        yield from _day(record.at, before)
        took = "" if before is None else f"+{span(record.at - before)}"
        yield from folded(f"{record.at:%H:%M:%S}  {took:>12}  {said}", _INDENT)
        before = record.at
    yield from _end(rotation)


def told_json(records: Sequence[Record], rotation: Rotation) -> Iterator[dict[str, object]]:
    """The same for machines, whole: each record, then the end."""
    begun = {"id": rotation.id, "est_server": rotation.est_url}
    yield {"event": "rotation", **begun, "begun_at": rotation.begun_at.isoformat()}
    before: datetime | None = None
    for place, record in enumerate(records):
        yield {
            "event": "record",
            "kind": record.kind.value,
            "at": record.at.isoformat(),
            "after_s": None if before is None else _seconds(record.at - before),
            "phase": None if record.phase is None else record.phase.value,
            "said": _said(records, place),
            "facts": shown(record.facts),
        }
        before = record.at
    yield {
        "event": "end",
        "result": "open" if rotation.is_open else rotation.phase.value,
        "phase": rotation.phase.value,
        "at": rotation.reached[rotation.phase].isoformat(),
        "took_s": _seconds(rotation.reached[rotation.phase] - rotation.begun_at),
        "live": live(rotation),
        "next_try_at": _next_try(rotation),
        "proof": proof_json(rotation) if rotation.phase is Phase.COMPLETED else None,
    }


def _seconds(length: timedelta) -> float:
    """Below zero where the clock was set back in between."""
    return round(length.total_seconds(), 3)


def _next_try(rotation: Rotation) -> str | None:
    until = policy.next_try(rotation) if rotation.is_open else None
    return None if until is None else until.isoformat()


def _day(at: datetime, before: datetime | None) -> Iterator[str]:
    """Whenever it is another one, and where the clock was set back."""
    if before is not None and at < before:
        yield f"the clock was set back by {span(before - at)}"
    if before is None or at.date() != before.date():
        yield f"{at:%Y-%m-%d} UTC"


def _said(records: Sequence[Record], place: int) -> str | None:
    """In words; None where the next line says it, or it is for machines."""
    record, later = records[place], records[place + 1 :]
    phase = "" if record.phase is None else record.phase.value
    match record.kind:
        case Kind.PHASE if record.phase is not None:
            return f"{phase}: {meaning(record.phase, record.facts)}"
        case Kind.ATTEMPT:
            reached = bool(later) and (later[0].kind, later[0].phase) == (Kind.PHASE, record.phase)
            return None if reached else f"{phase}: tried; whether it was done is not known yet"
        case Kind.PAUSE:
            return f"{phase} not reached: {record.facts.get('reason', '')}{_times(record)}"
        case Kind.RUN:
            return f"goes on{_after_what(records[:place])}{_times(record)}"
        case Kind.AMEND:
            return f"another EST server: {record.facts['est_url']}"
        case _:
            return None


def _after_what(earlier: Sequence[Record]) -> str:
    """A run that ended in a word has left that; one that was cut short, nothing."""
    kinds = [each.kind for each in earlier if each.kind is not Kind.REPORTED]
    return "" if kinds[-1] is Kind.PAUSE else " after a power cut, a restart or a stop"


def _times(record: Record) -> str:
    times, latest = record.facts.get("times"), record.facts.get("latest")
    if times is None:
        return ""
    if latest is None:
        return f" ({times} times)"
    at = datetime.fromisoformat(str(latest))
    return f" ({times} times, the last at {at:%Y-%m-%d %H:%M:%S} UTC)"


def _end(rotation: Rotation) -> Iterator[str]:
    took = span(rotation.reached[rotation.phase] - rotation.begun_at)
    if rotation.phase is Phase.COMPLETED:
        yield f"completed after {took}"
        yield from proof(rotation)
    elif not rotation.is_open:
        yield f"{rotation.phase.value} after {took}; the {live(rotation)} certificate is live"
        hint = rotation.facts[rotation.phase].get("hint")
        yield from folded(f"  {hint}", 2) if hint is not None else []
    else:
        until = policy.next_try(rotation)
        when = "" if until is None else f", next try {until:%Y-%m-%d %H:%M:%S} UTC"
        said = f"open at {rotation.phase.value}, the {live(rotation)} certificate is live{when}"
        yield from folded(said, 2)

"""What the agent says to the person at the device: short lines, ASCII, no colour. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from fioagent.agent import Status
from fioagent.model import Exit, Facts
from fioagent.rotation import policy
from fioagent.rotation.ledger import Progress
from fioagent.rotation.machine import Phase, Rotation
from fioagent.rotation.rotator import Outcome, Result
from fioagent.rotation.situation import Decision

EXIT: Final = {
    Result.COMPLETED: Exit.DONE,
    Result.NOTHING_TO_DO: Exit.DONE,
    Result.TRY_AGAIN: Exit.TRY_AGAIN,
    Result.NEEDS_PERSON: Exit.CONFIG,
    Result.FAILED: Exit.FAILED,
    Result.CANCELLED: Exit.DONE,
    Result.RECOVERED: Exit.DONE,
}
WIDTH: Final = 79  # columns of a serial console
# Not for eyes: the request is long, the seed means nothing to anybody.
_HIDDEN: Final = frozenset(("csr", "event_seed"))


def shown(facts: Facts) -> dict[str, str | int | bool]:
    return {name: value for name, value in facts.items() if name not in _HIDDEN}


def progress(done: Progress, elapsed_s: float) -> list[str]:
    """Seconds since the start, phase, what is true now; folded for a console of 80 columns."""
    said = f"goes on with {done.rotation.id}" if done.resumed else meaning(done.phase, done.facts)
    line = f"{elapsed_s:7.2f} s  {done.phase.value:<21}  {said}"
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=" " * 34, break_long_words=False, break_on_hyphens=False
    )


def progress_json(done: Progress, elapsed_s: float) -> dict[str, object]:
    event = "resumed" if done.resumed else "phase"
    fields = {"elapsed_s": round(elapsed_s, 3), "facts": shown(done.facts)}
    return {"event": event, "phase": done.phase.value, **fields}


def meaning(phase: Phase, facts: Facts) -> str:
    """What is true now."""
    if phase is Phase.BEGUN and "lost" in facts:
        return f"{_MEANINGS[phase].format_map(facts)} (no key opens {facts['lost']})"
    if phase is Phase.KEY_GENERATED and "notes" in facts:
        return f"{_MEANINGS[phase]} (note: {facts['notes']})"
    if phase in _MEANINGS:
        return _MEANINGS[phase].format_map(facts)
    if phase is Phase.CERT_ISSUED:
        said = f"serial {facts['serial']}, valid until {str(facts['not_after'])[:10]}"
        return f"{said} (note: {facts['warnings']})" if "warnings" in facts else said
    if phase is Phase.CONFIG_STAGED:
        return _CONFIGS.get(str(facts.get("config")), "local configuration re-encrypted")
    return "; ".join(f"{unit}: {done}" for unit, done in facts.items()) or "nothing to restart"


_CONFIGS: Final = {
    "none": "no local configuration",
    "unreadable": "local configuration is damaged, left for the next check-in",
}
_MEANINGS: Final = {
    Phase.BEGUN: "{id} with {est_url}",
    Phase.KEY_GENERATED: "new key on the device, request signed",
    Phase.LOCKED: "gateway knows the next key",
    Phase.DEVICE_CONFIG_UPDATED: "configuration on the gateway: {device_config}",
    Phase.COMMITTED: "sota.toml names the new pair",
    Phase.CONFIRMED: "gateway accepts the new certificate ({status})",
    Phase.RETIRED: "old key and certificate removed",
    Phase.COMPLETED: "done",
    Phase.REVERTING: "{reason}",
    Phase.ABANDONED: "{reason}",
    Phase.SUPERSEDED: "{reason}, which goes on with the same key",
}


def outcome(result: Outcome) -> Iterator[str]:
    """The closing lines of a rotation that did what it should."""
    rotation = result.rotation
    if result.result is not Result.COMPLETED or rotation is None:
        yield result.message
        return
    if result.hint is not None:
        yield result.hint
    old, new = rotation.fact(Phase.BEGUN, "old_serial"), rotation.fact(Phase.CERT_ISSUED, "serial")
    yield f"gateway accepts serial {new}"
    yield f"removed old serial     {old}"


def status(now: Status) -> Iterator[str]:
    certificate = now.certificate
    if certificate is not None:
        yield f"certificate  {certificate.subject}"
        yield f"serial       {certificate.serial}"
        yield f"valid        {_minute(certificate.not_before)} to {_minute(certificate.not_after)}"
    if now.problem is not None:
        yield f"problem      {now.problem}"
    yield f"key          {now.credential.key}"
    if now.due_at is not None:
        yield f"due          {_minute(now.due_at)}"
    if now.decision is not None:
        yield from _wanted(now.decision)
    yield from _rotation("rotation", now.open, "none open")
    yield from _rotation("last", now.last, "none yet")
    if now.unreported:
        yield f"events       {now.unreported} not yet delivered to the gateway"


def _wanted(decision: Decision) -> Iterator[str]:
    """Whether a rotation is wanted, why, and when."""
    answer = "now" if decision.wanted else "not now"
    if decision.next_at is not None:
        answer = f"at {decision.next_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"wanted       {answer} ({decision.why.value})"
    yield from textwrap.wrap(
        decision.said, WIDTH, initial_indent=" " * 13, subsequent_indent=" " * 13
    )


def _rotation(title: str, rotation: Rotation | None, absent: str) -> Iterator[str]:
    if rotation is None:
        yield f"{title:<12} {absent}"
        return
    yield f"{title:<12} {rotation.id} {rotation.phase.value}, begun {_minute(rotation.begun_at)}"
    if rotation.is_open and rotation.paused is not None:
        yield f"             waits: {rotation.paused.reason}"
    until = policy.next_try(rotation) if rotation.is_open else None
    if until is not None:
        yield f"             next try: {until:%Y-%m-%d %H:%M:%S} UTC"
    if "reason" in rotation.facts[rotation.phase]:
        yield f"             because: {rotation.facts[rotation.phase]['reason']}"


def status_json(now: Status) -> dict[str, object]:
    return {
        "certificate": _certificate_json(now),
        "problem": now.problem,
        "key": {"store": now.credential.store.value, "place": now.credential.key},
        "due_at": None if now.due_at is None else now.due_at.isoformat(),
        "wanted": None if now.decision is None else now.decision.as_json(),
        "rotation": _rotation_json(now.open),
        "last": _rotation_json(now.last),
        "undelivered_events": now.unreported,
    }


def _certificate_json(now: Status) -> dict[str, object] | None:
    certificate = now.certificate
    if certificate is None:
        return None
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "file": now.credential.certificate,
    }


def _rotation_json(rotation: Rotation | None) -> dict[str, object] | None:
    if rotation is None:
        return None
    paused = rotation.paused
    return {
        "id": rotation.id,
        "phase": rotation.phase.value,
        "begun_at": rotation.begun_at.isoformat(),
        "est_server": rotation.est_url,
        "waits_because": None if paused is None else paused.reason,
        "next_try_at": next_try(rotation),
        "failed_because": rotation.facts[rotation.phase].get("reason"),
    }


def next_try(rotation: Rotation | None) -> str | None:
    """When an open rotation is tried again, ISO 8601; None where nothing speaks against at once."""
    until = policy.next_try(rotation) if rotation is not None and rotation.is_open else None
    return None if until is None else until.isoformat()


def settings(rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Each as TOML writes it, then where that is from, and what it means."""
    for row in rows:
        value = row["value"]
        yield f"{row['key']} = {'(not set)' if value is None else json.dumps(value)}"
        origin = f"{row['origin']}; {row['unit']}: {row['meaning']}"
        yield from textwrap.wrap(origin, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

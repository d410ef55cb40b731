"""What the agent says to the person at the device: short lines, ASCII, no colour. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fioagent.model import Exit, Facts
from fioagent.rotation import beginning, policy
from fioagent.rotation.ledger import Progress
from fioagent.rotation.machine import Phase, Rotation, next_phase
from fioagent.rotation.rehearsal import Check
from fioagent.rotation.rotator import Outcome, Result
from fioagent.terminal import WIDTH

EXIT: Final = {
    Result.COMPLETED: Exit.DONE,
    Result.NOTHING_TO_DO: Exit.DONE,
    Result.TRY_AGAIN: Exit.TRY_AGAIN,
    Result.NEEDS_PERSON: Exit.CONFIG,
    Result.FAILED: Exit.FAILED,
    Result.CANCELLED: Exit.DONE,
    Result.RECOVERED: Exit.DONE,
}
# Not for eyes: the request is long, the seed means nothing to anybody.
_HIDDEN: Final = frozenset(("csr", "event_seed"))


def shown(facts: Facts) -> dict[str, str | int | bool]:
    return {name: value for name, value in facts.items() if name not in _HIDDEN}


# Before the first phase line: what a person with a hand on the plug has to know.
SAFE: Final = "safe to unplug: yes, always; the next run goes on where this one stopped"
HEADINGS: Final = f"   time  {'phase':<21}  live  what is true now"


def progress(done: Progress, elapsed_s: float) -> list[str]:
    """Seconds since the start, phase, which pair works, what is true now; for 80 columns."""
    said = f"goes on with {done.rotation.id}" if done.resumed else meaning(done.phase, done.facts)
    which = live(done.rotation)
    return folded(f"{elapsed_s:5.1f} s  {done.phase.value:<21}  {which:<4}  {said}", 38)


def progress_json(done: Progress, elapsed_s: float) -> dict[str, object]:
    return {
        "event": "resumed" if done.resumed else "phase",
        "rotation": done.rotation.id,
        "phase": done.phase.value,
        "live": live(done.rotation),
        "elapsed_s": round(elapsed_s, 3),
        "facts": shown(done.facts),
    }


def live(rotation: Rotation) -> str:
    """The pair by which the device reaches its gateway if the power fails at this moment.

    In the middle of a commit or a way back that is so after ``fioagent recover``.
    """
    return "new" if rotation.phase in _NEW_IS_LIVE else "old"


def folded(line: str, indent: int) -> list[str]:
    """For a console of 80 columns, whatever a server's words are."""
    return textwrap.wrap(
        line,
        WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,  # an address shall be copied whole
        break_on_hyphens=False,
    )


_NEW_IS_LIVE: Final = (
    *(Phase.COMMITTED, Phase.CONFIRMED, Phase.SERVICES_RESTARTED),
    *(Phase.RETIRED, Phase.COMPLETED),
)
# What is under way until the next phase is reached.
_WORK: Final = {
    Phase.KEY_GENERATED: "asking the EST server, making the new key",
    Phase.CERT_ISSUED: "asking the EST server for a certificate",
    Phase.LOCKED: "telling the gateway the next key",
    Phase.CONFIG_STAGED: "encrypting the configuration for the new key",
    Phase.DEVICE_CONFIG_UPDATED: "updating the gateway's copy of the configuration",
    Phase.COMMITTED: "writing sota.toml",
    Phase.CONFIRMED: "proving the new certificate to the gateway",
    Phase.SERVICES_RESTARTED: "restarting services",
    Phase.RETIRED: "removing the old key",
    Phase.COMPLETED: "putting the journal away",
    Phase.ABANDONED: "putting the old pair back",
}
PREFLIGHT: Final = "looking at device and gateway, nothing is changed yet"


def under_way(rotation: Rotation) -> str:
    following = next_phase(rotation)
    return "putting the journal away" if following is None else _WORK[following]


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
    """The closing lines of a run, beside what went wrong."""
    rotation = result.rotation
    if result.result is Result.COMPLETED and rotation is not None:
        yield from [] if result.hint is None else [result.hint]
        yield from proof(rotation)
    elif EXIT[result.result] is Exit.DONE:
        yield result.message
    elif rotation is not None and rotation.is_open:
        yield from still_open(rotation)
    elif rotation is not None:
        yield f"{rotation.id} is over; the {live(rotation)} certificate is live"


def proof(rotation: Rotation) -> Iterator[str]:
    """Who has accepted what and when, and what is no more; of a rotation that is complete."""
    shown = proof_json(rotation)
    yield f"gateway accepted serial {shown['accepted_serial']}"
    yield f"  at {rotation.reached[Phase.CONFIRMED]:%Y-%m-%d %H:%M:%S} UTC"
    if shown["destroyed_serial"] is None:
        yield "no old key is known to have been destroyed"
    else:
        yield f"old serial {shown['destroyed_serial']} destroyed"


def proof_json(rotation: Rotation) -> dict[str, object]:
    """The same; a serial is None where its key is not known to be gone, or was never known."""
    facts, reached = rotation.facts, rotation.reached
    old = rotation.fact(Phase.BEGUN, "old_serial")
    gone = old != beginning.UNKNOWN and facts[Phase.RETIRED].get("old_key_gone") is True
    return {
        "accepted_serial": rotation.fact(Phase.CERT_ISSUED, "serial"),
        "accepted_at": reached[Phase.CONFIRMED].isoformat(),
        "destroyed_serial": old if gone else None,
        "destroyed_at": reached[Phase.RETIRED].isoformat() if gone else None,
    }


def end_json(
    result: str, code: Exit, message: str, hint: str | None, rotation: Rotation | None = None
) -> dict[str, object]:
    """The last line for machines, of whatever command."""
    said: dict[str, object] = {"result": result, "exit": int(code), "message": message}
    done = rotation is not None and rotation.phase is Phase.COMPLETED
    return {
        "event": "end",
        **said,
        "hint": hint,
        "next_at": next_try(rotation),
        "rotation": None if rotation is None else rotation.id,
        "phase": None if rotation is None else rotation.phase.value,
        "live": None if rotation is None else live(rotation),
        "proof": proof_json(rotation) if rotation is not None and done else None,
    }


def still_open(rotation: Rotation) -> Iterator[str]:
    """The closing lines of a run that has left the rotation open."""
    said = f"safe to unplug: yes; {rotation.id} is open at {rotation.phase.value}, "
    said += f"the {live(rotation)} certificate is live"
    yield from folded(said, 2)
    until = policy.next_try(rotation)
    when = "" if until is None else f"the service goes on from {until:%Y-%m-%d %H:%M:%S} UTC; "
    yield from folded(f"{when}'fioagent rotate --now' goes on at once", 2)


INTERRUPTED: Final = "interrupted; the same command may be given again"


def interrupted(rotation: Rotation | None) -> str:
    """What becomes of what Control-C has stopped."""
    if rotation is None:
        return "nothing was begun; the live certificate is as it was"
    if not rotation.is_open:
        return f"{rotation.id} is over, the {live(rotation)} certificate is live"
    return (
        f"{rotation.id} is open at {rotation.phase.value}, the {live(rotation)} certificate is "
        "live; 'fioagent rotate --now' goes on"
    )


def checked(check: Check) -> Iterator[str]:
    """What was looked at, and where that would stop a rotation the remedy, a line each."""
    mark = "ok" if check.error is None else "fail"
    yield from folded(f"{mark:<4}  {check.name:<10}  {check.said}", 18)
    if check.remedy is not None:
        yield from folded(f"{'':<6}{'do:':<10}  {check.remedy}", 18)


def rehearsed(failed: int) -> tuple[str, str]:
    """Result and closing line; ``failed`` is how many looks found something."""
    if failed:
        return "would-stop", f"nothing was changed; a rotation would stop at {failed} of these"
    return "would-rotate", "nothing was changed; nothing seen here would stop a rotation"


def checked_json(check: Check) -> dict[str, object]:
    said = {"check": check.name, "ok": check.error is None}
    return {"event": "check", **said, "message": check.said, "hint": check.remedy}


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

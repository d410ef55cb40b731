"""``fioagent status`` in words: three answers first, one line each, then the details. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from fioagent import outlook
from fioagent.outlook import Answer, Next, Outlook, Status
from fioagent.rotation import policy
from fioagent.rotation.machine import Rotation
from fioagent.rotation.situation import Decision
from fioagent.terminal import WIDTH
from fioagent.words import next_try

_LABEL: Final = 13  # columns
_YES_OR_NO: Final = {True: "yes", False: "NO", None: "unknown"}
_DAY: Final = 86_400


def status(now: Status) -> Iterator[str]:
    """Three lines that fit a console, then the details, folded."""
    answers = outlook.of(now)
    yield _cut(f"safe today   {_safe(answers.safe)}{_left(now, answers.safe)}")
    yield _cut(f"next         {_when(answers.next, now.now)}{answers.next.said}")
    yield _cut(f"needs you    {_need(answers.person)}")
    yield ""
    yield from _details(now, answers)


def short(now: Status) -> str:
    """One line, for a banner at login."""
    answers = outlook.of(now)
    safe = {True: "safe", False: "NOT SAFE", None: "safety unknown"}[answers.safe.yes]
    if answers.person.yes:
        return _cut(f"device: {safe}; NEEDS YOU: {answers.person.said}; see 'fioagent status'")
    return _cut(f"device: {safe}; next {_when(answers.next, now.now)}{answers.next.said}")


def status_json(now: Status) -> dict[str, object]:
    """For machines; every moment is ISO 8601 in UTC."""
    answers = outlook.of(now)
    return {
        "now": now.now.isoformat(),
        "safe": {"yes": answers.safe.yes, "said": answers.safe.said},
        "next": {"at": _iso(answers.next.at), "said": answers.next.said},
        "needs_person": {
            "yes": answers.person.yes,
            "said": answers.person.said,
            "hint": answers.person.remedy,
        },
        "at_work": now.at_work,
        "certificate": _certificate_json(now),
        "problem": now.problem,
        "key": {"store": now.credential.store.value, "place": now.credential.key},
        "due_at": _iso(now.due_at),
        "wanted": None if now.decision is None else now.decision.as_json(),
        "rotation": _rotation_json(now.open),
        "last": _rotation_json(now.last),
        "undelivered_events": now.unreported,
    }


def span(length: timedelta) -> str:
    """In the two units that matter: "6 d 3 h", "12 min", "0.2 s"; never negative."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 9.95:  # what is rounded must not become ten
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{int(seconds)} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // _DAY)
    if days >= 10:
        return f"{days} d"
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes >= 10 else f"{minutes} min {int(seconds % 60)} s"


def _safe(answer: Answer) -> str:
    return f"{_YES_OR_NO[answer.yes]}: {answer.said}"


def _left(now: Status, answer: Answer) -> str:
    if not answer.yes or now.certificate is None:
        return ""
    return f", {span(now.certificate.not_after - now.now)}"


def _when(following: Next, now: datetime) -> str:
    if following.at is None:
        return ""
    if following.at <= now:
        return "now: "
    return f"in {span(following.at - now)}, {following.at:%Y-%m-%d %H:%M} UTC: "


def _need(answer: Answer) -> str:
    return f"YES: {answer.said}" if answer.yes else "no"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def _details(now: Status, answers: Outlook) -> Iterator[str]:
    if answers.person.remedy is not None:
        yield from _folded("do", answers.person.remedy)
    certificate = now.certificate
    if certificate is not None:
        yield f"certificate  {certificate.subject}"
        yield f"serial       {certificate.serial}"
        yield f"valid        {_minute(certificate.not_before)} to {_minute(certificate.not_after)}"
    if now.problem is not None:
        yield from _folded("problem", now.problem)
    yield f"key          {now.credential.key}"
    if now.due_at is not None:
        yield f"due          {_minute(now.due_at)}"
    if now.at_work is not None:
        yield from _folded("at work", now.at_work)
    if now.decision is not None:
        yield from _wanted(now.decision)
    yield from _rotation("rotation", now.open, "none open")
    yield from _rotation("last", now.last, "none yet")
    if now.unreported:
        yield f"events       {now.unreported} not yet delivered to the gateway"


def _folded(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{label:<{_LABEL}}{text}",
        WIDTH,
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _wanted(decision: Decision) -> Iterator[str]:
    """Whether a rotation is wanted, why, and when."""
    answer = "now" if decision.wanted else "not now"
    if decision.next_at is not None:
        answer = f"at {decision.next_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"wanted       {answer} ({decision.why.value})"
    yield from _folded("", decision.said)


def _rotation(title: str, rotation: Rotation | None, absent: str) -> Iterator[str]:
    if rotation is None:
        yield f"{title:<12} {absent}"
        return
    begun = f"begun {_minute(rotation.begun_at)}"
    yield from _folded(title, f"{rotation.id} {rotation.phase.value}, {begun}")
    if rotation.is_open and rotation.paused is not None:
        times = f" ({rotation.failures} times)" if rotation.failures > 1 else ""
        yield from _folded("", f"waits: {rotation.paused.reason}{times}")
    until = policy.next_try(rotation) if rotation.is_open else None
    if until is not None:
        yield f"             next try: {until:%Y-%m-%d %H:%M:%S} UTC"
    if "reason" in rotation.facts[rotation.phase]:
        yield from _folded("", f"because: {rotation.facts[rotation.phase]['reason']}")


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
        "phase_at": rotation.reached[rotation.phase].isoformat(),
        "begun_at": rotation.begun_at.isoformat(),
        "est_server": rotation.est_url,
        "failures": rotation.failures,
        "waits_because": None if paused is None else paused.reason,
        "next_try_at": next_try(rotation),
        "failed_because": rotation.facts[rotation.phase].get("reason"),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

"""What a journal keeps of the same failure, said again and again: a count. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fioagent.rotation.machine import Kind, Record

MAX_PAUSES: Final = 16  # records of different failures at one phase; what follows is counted only


def extended(records: Sequence[Record], record: Record) -> list[Record]:
    """``records`` and ``record``, where saying the same again only counts.

    So a server that is down for a year costs one line, not ten thousand. What
    events were made of is never changed by it.
    """
    if record.kind is Kind.RUN and records and records[-1].kind is Kind.RUN:
        times = int(records[-1].facts.get("times", 1)) + 1
        return [*records[:-1], replace(record, facts={"times": times})]
    if record.kind is not Kind.PAUSE:
        return [*records, record]
    # It ended in a word, so the run before it was no silent one.
    kept = [each for each in records if each.kind is not Kind.RUN]
    since = max(i for i, each in enumerate(kept) if each.kind is Kind.PHASE)
    pauses = [i for i in range(since, len(kept)) if kept[i].kind is Kind.PAUSE]
    if pauses and _counts_with(kept[pauses[-1]], record):
        kept[pauses[-1]] = _counted(kept[pauses[-1]], record)
        return kept
    if len(pauses) >= MAX_PAUSES:
        record = replace(record, facts={**record.facts, "untold": True})
    return [*kept, record]


def forgiven(records: Sequence[Record]) -> list[Record]:
    """``records`` without the latest run, if that got nowhere: it was stopped, it did not die."""
    since = max((i for i, each in enumerate(records) if each.kind is Kind.PHASE), default=0)
    runs = [i for i in range(since, len(records)) if records[i].kind is Kind.RUN]
    if not runs:
        return list(records)
    latest = runs[-1]
    times = int(records[latest].facts.get("times", 1)) - 1
    fewer = [replace(records[latest], facts={"times": times})] if times else []
    return [*records[:latest], *fewer, *records[latest + 1 :]]


def _counts_with(earlier: Record, later: Record) -> bool:
    same = earlier.facts.get("reason") == later.facts.get("reason")
    return same or bool(earlier.facts.get("untold"))


def _counted(earlier: Record, later: Record) -> Record:
    """``earlier`` again: its time is when it was first said, and its wait what was asked last."""
    # Of the latest alone.
    asked = ("retry_after_s", "accepted", "person", "hint", "locked_out")
    kept = {name: value for name, value in earlier.facts.items() if name not in asked}
    facts = {
        **kept,
        **later.facts,
        "times": int(earlier.facts.get("times", 1)) + 1,
        "latest": later.at.isoformat(),
    }
    return replace(earlier, facts=facts)

"""``fioagent status`` for Prometheus, as node_exporter's textfile collector reads it. Pure.

The text format is prometheus.io/docs/instrumenting/exposition_formats.
Names and units as prometheus.io/docs/practices/naming wants them: seconds, unix time in
``*_timestamp_seconds``, no unit twice. What is not known has no sample. No moment is put
on a sample: the collector refuses a file with one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from fioagent import __version__, outlook
from fioagent.outlook import Status
from fioagent.rotation.machine import Phase, Rotation

# All are gauges: what is true now. Each with its help, in the order of the output.
HELP: Final[Mapping[str, str]] = {
    "fioagent_build_info": "Version of fioagent; always 1.",
    "fioagent_safe": "1 where the device has a usable credential, 0 where it has none; no "
    "sample where the clock cannot tell.",
    "fioagent_needs_person": "1 where waiting alone will not help.",
    "fioagent_certificate_not_before_timestamp_seconds": "Begin of the live certificate's "
    "validity.",
    "fioagent_certificate_not_after_timestamp_seconds": "End of the live certificate's validity.",
    "fioagent_certificate_info": "Serial number of the live certificate and where its key is; "
    "always 1.",
    "fioagent_rotation_due_timestamp_seconds": "When this device is due by its settings.",
    "fioagent_rotation_next_timestamp_seconds": "When a rotation is begun or tried again.",
    "fioagent_rotation_wanted": "1 where a rotation is wanted now.",
    "fioagent_rotation_open": "1 where a rotation is under way.",
    "fioagent_rotation_phase": "1 for the phase of the open rotation, 0 for each other one.",
    "fioagent_rotation_begun_timestamp_seconds": "When the open rotation began.",
    "fioagent_rotation_failures": "Failures of the open rotation since its latest phase.",
    "fioagent_last_rotation_success": "1 where the latest rotation that ended was completed.",
    "fioagent_last_rotation_end_timestamp_seconds": "When the latest rotation ended.",
    "fioagent_undelivered_events": "Update events that the gateway has not acknowledged.",
}
_Sample = tuple[str, Mapping[str, str], float]


def of(status: Status) -> Iterator[str]:
    """Lines of the file."""
    yield from _lines([*_build(), *_answers(status), *_validity(status), *_rotations(status)])


def of_none() -> Iterator[str]:
    """Of a device of which not even that can be told, as where sota.toml cannot be read."""
    yield from _lines(
        [*_build(), ("fioagent_safe", {}, 0), ("fioagent_needs_person", {}, 1)],
    )


def _lines(samples: list[_Sample]) -> Iterator[str]:
    for name, text in HELP.items():
        found = [(labels, value) for each, labels, value in samples if each == name]
        if found:
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} gauge"
        for labels, value in found:
            yield f"{name}{_labels(labels)} {value:.15g}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _build() -> Iterator[_Sample]:
    yield "fioagent_build_info", {"version": __version__}, 1


def _answers(status: Status) -> Iterator[_Sample]:
    answers = outlook.of(status)
    if answers.safe.yes is not None:
        yield "fioagent_safe", {}, answers.safe.yes
    yield "fioagent_needs_person", {}, bool(answers.person.yes)


def _validity(status: Status) -> Iterator[_Sample]:
    certificate = status.certificate
    if certificate is None:
        return
    prefix = "fioagent_certificate"
    yield f"{prefix}_not_before_timestamp_seconds", {}, certificate.not_before.timestamp()
    yield f"{prefix}_not_after_timestamp_seconds", {}, certificate.not_after.timestamp()
    labels = {"serial": certificate.serial, "store": status.credential.store.value}
    yield f"{prefix}_info", labels, 1


def _rotations(status: Status) -> Iterator[_Sample]:
    decision, rotation = status.decision, status.open
    yield from _moment("fioagent_rotation_due", status.due_at)
    if decision is not None:
        yield from _moment("fioagent_rotation_next", decision.next_at)
        yield "fioagent_rotation_wanted", {}, decision.wanted
    yield "fioagent_rotation_open", {}, rotation is not None
    for phase in Phase:
        is_it = rotation is not None and rotation.phase is phase
        yield "fioagent_rotation_phase", {"phase": phase.value}, is_it
    if rotation is not None:
        yield from _moment("fioagent_rotation_begun", rotation.begun_at)
        yield "fioagent_rotation_failures", {}, rotation.failures
    yield from _last(status.last)
    yield "fioagent_undelivered_events", {}, status.unreported


def _last(rotation: Rotation | None) -> Iterator[_Sample]:
    if rotation is not None:
        yield "fioagent_last_rotation_success", {}, rotation.phase is Phase.COMPLETED
        yield from _moment("fioagent_last_rotation_end", rotation.reached[rotation.phase])


def _moment(name: str, at: datetime | None) -> Iterator[_Sample]:
    if at is not None:
        yield f"{name}_timestamp_seconds", {}, at.timestamp()

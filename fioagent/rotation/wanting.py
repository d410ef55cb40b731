"""Whether a rotation is wanted: what ``timing`` has to know, read off the device.

Reads only; what has to be remembered of a look is written by ``remember``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass

from fioagent import causes
from fioagent.config import document, trigger
from fioagent.config.trigger import Trigger
from fioagent.errors import AgentError, ConfigError, TemporaryError
from fioagent.model import Facts, ObjectIds, RotationId
from fioagent.rotation import beginning, memory, opening, policy, timing
from fioagent.rotation.journal import Journal
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import Kind, Phase, Rotation
from fioagent.rotation.memory import Seen
from fioagent.rotation.situation import Decision, Ended, Rules, Setback, Situation, Why
from fioagent.settings import Settings
from fioagent.site import Device
from fioagent.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Order:
    """A rotation to begin, or to go on with.

    Attributes:
        id: None: of the open one, or a fresh one.
        est_url: None where the settings have to know.
        ids: of the new credential in a token; empty where the operator's file has to know.
        facts: for its first record, what asked for it among them.
    """

    id: RotationId | None
    est_url: str | None = None
    ids: ObjectIds = dataclasses.field(default_factory=ObjectIds)
    facts: Facts = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """The operator's file, as it stands.

    Attributes:
        pending: it asks for a rotation; None where there is none, or where that is over.
        seen: what is to be remembered of it; None where there is no file.
        known: what is remembered already.
        problem: why the file cannot be used; None where it can.
    """

    pending: Trigger | None = None
    seen: Seen | None = None
    known: Seen | None = None
    problem: ConfigError | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What is wanted, and by what it was judged."""

    decision: Decision
    asked: Asked
    plausible: bool

    @property
    def order(self) -> Order:
        return order_of(self.decision)


def rules(settings: Settings) -> Rules:
    return Rules(
        settings.rotation_due_at,
        settings.rotation_due_before_expiry,
        settings.rotation_spread,
        settings.rotation_window,
    )


def order_of(decision: Decision) -> Order:
    facts: dict[str, str | int | bool] = {}
    if decision.trigger:
        facts["trigger"] = decision.trigger
    if decision.patience is not None:
        facts["patience_s"] = int(decision.patience.total_seconds())
    return Order(decision.id, decision.est_url or None, facts=facts)


def asked(ledger: Ledger, secrets: str) -> Asked:
    """Changes nothing."""
    device = ledger.device
    try:
        content = trigger_file(device, secrets)
        if content is None:
            return Asked()
        found = trigger.parse(content)
    except ConfigError as error:
        return Asked(problem=error)
    known = memory.seen(device)
    same = known is not None and (known.id, known.digest) == (found.id, found.digest)
    seen = known if known is not None and same else Seen(found.id, found.digest, device.clock.now())
    ended = [each for each in map(_ended, ledger.journal.ended()) if each is not None]
    end = _end_of(ledger, found, [*seen.ended(), *ended])
    pending = found if end is None else None
    return Asked(pending, dataclasses.replace(seen, end=end), known)


def _end_of(ledger: Ledger, found: Trigger, ended: list[Ended]) -> Phase | None:
    if opening.is_done(ledger, found.id):
        return Phase.COMPLETED
    over = [each for each in ended if timing.is_over(found, [each])]
    return over[-1].phase if over else None


def trigger_file(device: Device, secrets: str) -> bytes | None:
    """As extracted, else as it stands in config.encrypted; None where there is none.

    Raises:
        ConfigError: one of the two cannot be read.
    """
    extracted = device.disk.read_if_there(os.path.join(secrets, trigger.FILE_NAME))
    if extracted is not None:
        return extracted
    config = device.disk.read_if_there(device.site.config)
    if config is None:
        return None
    entries = {file.name: file for file in document.files(config, device.site.config)}
    entry = entries.get(trigger.FILE_NAME)
    return entry.value.encode() if entry is not None and entry.unencrypted else None


def look(ledger: Ledger, secrets: str, open_one: Rotation | None) -> View:
    """What is wanted now. Changes nothing.

    Raises:
        AgentError: no rotation is open, and the device is not in a state to begin one.
    """
    device = ledger.device
    file = asked(ledger, secrets)
    try:
        certificate = _certificate(device)
    except ConfigError:
        if open_one is None:
            raise
        # A commit that was cut in half perhaps: going on with it is what helps.
        until = policy.wait_until(open_one, device.clock.now())
        said = f"rotation {open_one.id} is open at {open_one.phase.value}"
        return View(Decision(until is None, until, Why.OPEN, said), file, plausible=False)
    journals = ledger.journal.ended()
    rotations = [each.rotation for each in journals if each.rotation is not None]
    now = device.clock.now()
    floors = (certificate.not_before, device.clock.image_time(), *beginning.issued(rotations))
    plausible = policy.clock_is_plausible(now, *floors)
    wish = opening.wished(ledger) if open_one is None else None
    situation = Situation(
        now=now,
        plausible=plausible,
        device=name_of(certificate),
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        open=open_one,
        replaceable=open_one is not None and opening.may_be_replaced(ledger, open_one),
        promised=None if wish is None else (wish.id, wish.est_url),
        trigger=file.pending,
        seen_at=None if file.seen is None else file.seen.at,
        ended=[each for each in map(_ended, journals) if each is not None],
        setback=memory.setback(device),
    )
    return View(timing.decide(situation, rules(device.settings)), file, plausible)


def remember(device: Device, view: View) -> None:
    """When a trigger was seen first, and that it is over; by a clock that can be believed.

    Raises:
        ConfigError: the disk.
    """
    seen = view.asked.seen
    if seen is not None and view.plausible and seen != view.asked.known:
        memory.remember(device, seen)


def note_failure(device: Device, decision: Decision, error: AgentError) -> None:
    """It could not even begin; not at the next check-in again."""
    before = memory.setback(device)
    again = before is not None and before.cause == decision.cause
    wait = error.retry_after_s if isinstance(error, TemporaryError) else None
    setback = Setback(
        cause=decision.cause,
        at=device.clock.now(),
        failures=before.failures + 1 if before is not None and again else 1,
        retry_after_s=None if wait is None else int(wait),
        reason=str(error),
        person=not isinstance(error, TemporaryError),
        hint=error.hint,
    )
    with contextlib.suppress(ConfigError):  # a disk in trouble takes no word of it
        memory.note_setback(device, setback)


def name_of(certificate: Certificate) -> str:
    """This device's alone, and the same after each rotation: EST servers hold it to be."""
    return certificate.subject_der.hex()


def by_hand(ledger: Ledger, open_one: Rotation | None, file: Asked, order: Order) -> Order:
    """What a person asks for, with what the operator's file adds to it.

    Without an id a person means the rotation that is asked for already: what is
    promised, or what the operator's latest file names.
    """
    pending = file.pending
    if pending is None or order.id not in (None, pending.id):
        return order
    if open_one is None and order.id is None and opening.wished(ledger) is not None:
        return order
    if (
        open_one is not None
        and order.id is None
        and open_one.id != pending.id
        and not opening.may_be_replaced(ledger, open_one)
    ):
        return order
    begun = {} if open_one is None else open_one.facts[Phase.BEGUN]
    est_url = order.est_url
    if est_url is None and begun.get("trigger") != pending.digest:
        est_url = pending.est_url or None
    return Order(pending.id, est_url, order.ids, {"trigger": pending.digest})


def est_url_of_trigger(device: Device, secrets: str) -> str:
    """Of the operator's latest file, whether its rotation is over or not; empty without one."""
    with contextlib.suppress(ConfigError):
        content = trigger_file(device, secrets)
        return "" if content is None else trigger.parse(content).est_url
    return ""


def ids_of_trigger(device: Device, secrets: str) -> ObjectIds:
    """Likewise; empty where it names none."""
    with contextlib.suppress(ConfigError):
        content = trigger_file(device, secrets)
        if content is not None:
            found = trigger.parse(content)
            return ObjectIds(found.key_ids, found.certificate_ids)
    return ObjectIds()


def _certificate(device: Device) -> Certificate:
    credential = device.live_credential()
    certificate = device.keys.certificate(credential)
    if certificate is None:
        raise ConfigError.of(causes.NO_CERTIFICATE, {"path": credential.certificate})
    return certificate


def _ended(journal: Journal) -> Ended | None:
    rotation = journal.rotation
    if rotation is None:
        return None
    at = max((i for i, each in enumerate(journal.records) if each.kind is Kind.PHASE), default=0)
    asked_by = str(rotation.facts[Phase.BEGUN].get("trigger", ""))
    return Ended(rotation.id, rotation.phase, journal.records[at].at, asked_by)

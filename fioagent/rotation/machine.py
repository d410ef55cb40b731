"""The phases of a rotation: one table, and what each of them means to be durably true.

Pure. History in, decision out: a rotation is what its journal records fold to,
and the next phase depends on that alone, never on what files look like.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from fioagent.model import CredentialRef, Facts, RotationId, Store


class Phase(str, enum.Enum):
    """Named for what is durably true once it is recorded."""

    BEGUN = "begun"
    KEY_GENERATED = "key-generated"
    CERT_ISSUED = "cert-issued"
    LOCKED = "locked"
    CONFIG_STAGED = "config-staged"
    DEVICE_CONFIG_UPDATED = "device-config-updated"
    COMMITTED = "committed"
    CONFIRMED = "confirmed"
    SERVICES_RESTARTED = "services-restarted"
    RETIRED = "retired"
    COMPLETED = "completed"
    REVERTING = "reverting"
    ABANDONED = "abandoned"
    SUPERSEDED = "superseded"


# What may follow what. The first is the way forward.
TRANSITIONS: Final[Mapping[Phase, tuple[Phase, ...]]] = MappingProxyType(
    {
        # BEGUN
        #   * references of the old and the new credential are fixed
        Phase.BEGUN: (Phase.KEY_GENERATED, Phase.ABANDONED, Phase.SUPERSEDED),
        # KEY_GENERATED
        #   * the new key is at its place, and the signed CSR is recorded; nobody has seen either
        #   * again, where the EST server wants another request than the one that was made
        Phase.KEY_GENERATED: (
            Phase.CERT_ISSUED,
            Phase.KEY_GENERATED,
            Phase.ABANDONED,
            Phase.SUPERSEDED,
        ),
        # CERT_ISSUED
        #   * the new certificate is at its place, passed every check, and its CA is trusted
        Phase.CERT_ISSUED: (Phase.LOCKED, Phase.ABANDONED, Phase.SUPERSEDED),
        # ---- pivot: from here on the gateway knows the new key. Forward, or held. ----
        # LOCKED
        #   * the gateway accepts both keys, and refuses operators' writes to the config
        Phase.LOCKED: (Phase.CONFIG_STAGED, Phase.SUPERSEDED),
        # CONFIG_STAGED
        #   * a copy of config.encrypted under the new key lies beside the original
        Phase.CONFIG_STAGED: (Phase.DEVICE_CONFIG_UPDATED, Phase.SUPERSEDED),
        # DEVICE_CONFIG_UPDATED
        #   * the gateway holds the device's own config under the new key
        #   * next is local alone: recovery finishes it at boot, half-done or not begun
        Phase.DEVICE_CONFIG_UPDATED: (Phase.COMMITTED, Phase.SUPERSEDED),
        # COMMITTED
        #   * sota.toml names the new credential, and it is there and matches
        #   * config.encrypted is readable with the new key
        #   * the gateway accepts both keys; it has not seen the new one used
        #   * the old credential is still on the device
        Phase.COMMITTED: (Phase.CONFIRMED, Phase.REVERTING, Phase.SUPERSEDED),
        # CONFIRMED
        #   * the gateway answered the new credential; it denies the old one
        Phase.CONFIRMED: (Phase.SERVICES_RESTARTED, Phase.SUPERSEDED),
        # SERVICES_RESTARTED
        #   * no program goes on with the old credential in memory
        Phase.SERVICES_RESTARTED: (Phase.RETIRED, Phase.SUPERSEDED),
        # RETIRED
        #   * the old credential and staged copies are gone; stable names lead to the new one
        Phase.RETIRED: (Phase.COMPLETED, Phase.SUPERSEDED),
        # REVERTING
        #   * the gateway refused the new credential, and still takes the old one
        #   * both credentials are on the device, until the gateway needs the new one no more
        #   * should the gateway take the new one after all, it is committed again
        Phase.REVERTING: (Phase.ABANDONED, Phase.DEVICE_CONFIG_UPDATED, Phase.SUPERSEDED),
        # The ends.
        Phase.COMPLETED: (),
        Phase.ABANDONED: (),
        # SUPERSEDED
        #   * another rotation goes on with the new key, because the gateway may wait for it
        #   * after the commit only where the device has got another identity meanwhile
        Phase.SUPERSEDED: (),
    }
)

BEFORE_PIVOT: Final = frozenset((Phase.BEGUN, Phase.KEY_GENERATED, Phase.CERT_ISSUED))
BEFORE_COMMIT: Final = BEFORE_PIVOT | {
    Phase.LOCKED,
    Phase.CONFIG_STAGED,
    Phase.DEVICE_CONFIG_UPDATED,
}
# Durable before the request goes out, because its answer may be lost.
ATTEMPTS: Final = frozenset((Phase.LOCKED, Phase.CONFIRMED))
CANCELLED: Final = "cancelled at the device"  # the reason, where a person gave it up
ENDS: Final = frozenset(phase for phase, following in TRANSITIONS.items() if not following)


class Kind(str, enum.Enum):
    """What a journal record says."""

    PHASE = "phase"  # it is reached
    ATTEMPT = "attempt"  # it acts, from here on, in a way that cannot be taken back
    PAUSE = "pause"  # an attempt at it failed; to be tried again
    RUN = "run"  # a process goes on with it: without a word after it, it died
    AMEND = "amend"  # the person at the device gave another EST server
    REPORTED = "reported"  # so many events have reached the gateway


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the journal.

    Attributes:
        kind: see Kind.
        at: device's clock, UTC.
        phase: reached, attempted or failed; None where the kind has none.
        facts: references and digests, never a secret.
    """

    kind: Kind
    at: datetime
    phase: Phase | None = None
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pause:
    """Why the rotation does not go on right now.

    Attributes:
        at: of the latest failure, device's clock.
        phase: that could not be reached.
        reason: in the words of the error.
        retry_after_s: as the peer asked; None where it did not.
        accepted: the peer has taken the request and works on it.
        person: waiting alone will not help.
        hint: what to do next; None where nothing was said.
        locked_out: the gateway refuses every credential of this device.
    """

    at: datetime
    phase: Phase
    reason: str
    retry_after_s: int | None
    accepted: bool = False
    person: bool = False
    hint: str | None = None
    locked_out: bool = False


@dataclass(frozen=True, slots=True)
class Rotation:
    """Everything its records say of it.

    Attributes:
        id: also the correlation id of its events.
        begun_at: device's clock.
        est_url: base URL of the EST server.
        old: the credential that is live when it begins.
        new: the one that shall be.
        phase: the latest reached.
        facts: what each phase wrote down.
        reached: when each phase was recorded last, device's clock.
        announced: the gateway may have been told of the new key.
        seen: the gateway may have seen the new key in use.
        paused: the latest failure since the latest phase.
        failures: how many there were since the latest phase.
        silent_runs: processes that went on with it and left neither a phase nor a pause.
        ran_at: when the latest of them began, device's clock.
        turns: how often the gateway has turned it back.
        put_back: when the old pair was named again, since it was turned back last.
        reported: how many of its events the gateway has acknowledged.
    """

    id: RotationId
    begun_at: datetime
    est_url: str
    old: CredentialRef
    new: CredentialRef
    phase: Phase
    facts: Mapping[Phase, Facts]
    reached: Mapping[Phase, datetime]
    announced: bool = False
    seen: bool = False
    paused: Pause | None = None
    failures: int = 0
    silent_runs: int = 0
    ran_at: datetime | None = None
    turns: int = 0
    put_back: Facts | None = None
    reported: int = 0

    def fact(self, phase: Phase, name: str) -> str:
        """A fact that its phase always writes down."""
        return str(self.facts[phase][name])

    @property
    def is_open(self) -> bool:
        return self.phase not in ENDS

    @property
    def before_pivot(self) -> bool:
        """Backing out is free: the gateway cannot have heard of the new key."""
        return self.phase in BEFORE_PIVOT and not self.announced

    @property
    def may_be_superseded(self) -> bool:
        """The old credential is live, and nobody can have seen the new one in use."""
        return self.phase in BEFORE_COMMIT and not self.seen

    def has_attempted(self, phase: Phase) -> bool:
        return self.seen if phase is Phase.CONFIRMED else self.announced

    @property
    def live(self) -> CredentialRef:
        """The credential to show to the gateway."""
        forward = self.seen and self.phase not in (Phase.REVERTING, Phase.ABANDONED)
        return self.new if forward else self.old


class HistoryError(ValueError):
    """Records that no run of ours can have written."""


def fold(records: Iterable[Record], rotation: Rotation | None = None) -> Rotation | None:
    """The rotation that ``records`` tell of, going on with ``rotation``; None without any.

    Raises:
        HistoryError: out of order, or incomplete.
    """
    for record in records:
        rotation = _begin(record) if rotation is None else _after(rotation, record)
    return rotation


def next_phase(rotation: Rotation) -> Phase | None:
    """The phase to reach next; None at an end."""
    following = TRANSITIONS[rotation.phase]
    return following[0] if following else None


def _begin(record: Record) -> Rotation:
    if record.kind is not Kind.PHASE or record.phase is not Phase.BEGUN:
        raise HistoryError("the first record is not a beginning")
    try:
        old, new = (_reference(record.facts, which) for which in ("old", "new"))
        return Rotation(
            id=RotationId(str(record.facts["id"])),
            begun_at=record.at,
            est_url=str(record.facts["est_url"]),
            old=old,
            new=new,
            phase=Phase.BEGUN,
            facts={Phase.BEGUN: record.facts},
            reached={Phase.BEGUN: record.at},
            announced=bool(record.facts.get("announced", False)),
        )
    except (KeyError, ValueError) as error:
        raise HistoryError(f"the beginning lacks {error}") from error


def _after(rotation: Rotation, record: Record) -> Rotation:
    phase, facts = record.phase, record.facts
    if record.kind is Kind.REPORTED:
        return replace(rotation, reported=int(facts["events"]))
    if record.kind is Kind.AMEND:
        known = {**rotation.facts, Phase.BEGUN: {**rotation.facts[Phase.BEGUN], **facts}}
        return replace(rotation, est_url=str(facts["est_url"]), facts=known)
    if record.kind is Kind.RUN:
        runs = rotation.silent_runs + int(facts.get("times", 1))
        return replace(rotation, silent_runs=runs, ran_at=record.at)
    if phase is None:
        raise HistoryError(f"a record of kind {record.kind.value} without a phase")
    if record.kind is Kind.ATTEMPT:
        return replace(
            rotation,
            announced=True,
            seen=rotation.seen or phase is Phase.CONFIRMED,
            put_back=facts if phase is Phase.ABANDONED else rotation.put_back,
        )
    if record.kind is Kind.PAUSE:
        failures = rotation.failures + int(facts.get("times", 1))
        return replace(rotation, paused=_pause(record, phase), failures=failures, silent_runs=0)
    if phase not in TRANSITIONS[rotation.phase]:
        raise HistoryError(f"{phase.value} follows {rotation.phase.value}")
    if phase in ATTEMPTS and not rotation.has_attempted(phase):
        raise HistoryError(f"{phase.value} without its attempt")
    return replace(
        rotation,
        phase=phase,
        facts={**rotation.facts, phase: facts},
        reached={**rotation.reached, phase: record.at},
        # Superseded is what goes on because it may be; ended otherwise it is discarded.
        announced=rotation.announced or phase is Phase.SUPERSEDED,
        paused=None,
        failures=0,
        silent_runs=0,
        turns=rotation.turns + (phase is Phase.REVERTING),
        put_back=None if phase is Phase.REVERTING else rotation.put_back,
    )


def _pause(record: Record, phase: Phase) -> Pause:
    wait = record.facts.get("retry_after_s")
    latest, hint = record.facts.get("latest"), record.facts.get("hint")
    return Pause(
        at=record.at if latest is None else datetime.fromisoformat(str(latest)),
        phase=phase,
        reason=str(record.facts.get("reason", "")),
        retry_after_s=None if wait is None else int(wait),
        accepted=bool(record.facts.get("accepted", False)),
        person=bool(record.facts.get("person", False)),
        hint=None if hint is None else str(hint),
        locked_out=bool(record.facts.get("locked_out", False)),
    )


def _reference(facts: Facts, which: str) -> CredentialRef:
    return CredentialRef(
        Store(facts["store"]), str(facts[f"{which}_key"]), str(facts[f"{which}_certificate"])
    )

"""Records of rotations as the rotator writes them, whole and cut short."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import strategies as st

from fioagent.model import Facts
from fioagent.rotation.machine import ATTEMPTS, TRANSITIONS, Kind, Phase, Record

AT = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)
BEGINNING: Facts = {
    "id": "certs-1763683200",
    "est_url": "https://est.example:8443/.well-known/est",
    "store": "file",
    "old_key": "/var/sota/pkey.pem",
    "old_certificate": "/var/sota/client.pem",
    "old_serial": "07",
    "new_key": "/var/sota/pkey.certs-1763683200.pem",
    "new_certificate": "/var/sota/client.certs-1763683200.pem",
    "target_name": "intel-corei7-64-lmp-42",
    "target_version": "42",
    "event_seed": "6f1f6b7e-9f4c-4d5c-8f0e-0d6a3b1c2d3e",
}
_FACTS: dict[Phase, Facts] = {
    Phase.BEGUN: BEGINNING,
    Phase.KEY_GENERATED: {"csr": "MIIBETCBuAIBADAA", "spki_sha256": "ab" * 32},
    Phase.CERT_ISSUED: {"serial": "0F", "issuer": "CN=est-ca", "warnings": "it's é"},
    Phase.LOCKED: {"spki_sha256": "ab" * 32},
    Phase.CONFIG_STAGED: {"source_sha256": "cd" * 32, "staged_sha256": "ef" * 32},
    Phase.DEVICE_CONFIG_UPDATED: {"device_config": "re-encrypted", "files": 2},
    Phase.COMMITTED: {"boot_id": "b", "monotonic_us": 123456789012},
    Phase.CONFIRMED: {"status": 200},
    Phase.SERVICES_RESTARTED: {"aktualizr-lite.service": "restarted"},
    Phase.REVERTING: {"reason": "gw:8443 refuses the device's certificate: unknown ca"},
    Phase.ABANDONED: {"reason": "gw:8443 refuses the device's certificate: unknown ca"},
    Phase.SUPERSEDED: {"reason": "superseded by rotation certs-2"},
}
_ASIDE = (Phase.REVERTING, Phase.ABANDONED, Phase.SUPERSEDED)
FORWARD = tuple(phase for phase in Phase if phase not in _ASIDE)


def reached(phase: Phase, after_s: int = 0, facts: Facts | None = None) -> Record:
    given = _FACTS.get(phase, {}) if facts is None else facts
    return Record(Kind.PHASE, AT + timedelta(seconds=after_s), phase, given)


def attempt(phase: Phase, after_s: int = 0) -> Record:
    return Record(Kind.ATTEMPT, AT + timedelta(seconds=after_s), phase)


def paused(phase: Phase, reason: str, after_s: int = 0) -> Record:
    return Record(Kind.PAUSE, AT + timedelta(seconds=after_s), phase, {"reason": reason})


def reported(events: int) -> Record:
    return Record(Kind.REPORTED, AT, facts={"events": events})


def until(phase: Phase) -> list[Record]:
    """All goes well up to ``phase``; one second for each step."""
    records = []
    for second, each in enumerate(FORWARD[: FORWARD.index(phase) + 1]):
        if each in ATTEMPTS:
            records.append(attempt(each, second))
        records.append(reached(each, second))
    return records


def refused() -> list[Record]:
    """The gateway will not have the new credential, and the device goes back."""
    return [
        *until(Phase.COMMITTED),
        attempt(Phase.CONFIRMED, 10),
        reached(Phase.REVERTING, 11),
        reached(Phase.ABANDONED, 12),
    ]


@st.composite
def any_history(draw: st.DrawFn) -> list[Record]:
    """Any legal way through the table, with pauses and deliveries in between."""
    records = [reached(Phase.BEGUN)]
    phase = Phase.BEGUN
    reasons = st.sampled_from(["timed out", "disk full", "", "ü" * 3000])
    while TRANSITIONS[phase]:
        if draw(st.integers(0, 11)) == 0:
            break  # and so far it has come
        following = draw(st.sampled_from(list(TRANSITIONS[phase])))
        for _ in range(draw(st.integers(0, 2))):
            records.append(paused(following, draw(reasons), len(records)))
        if following in ATTEMPTS:
            records.append(attempt(following, len(records)))
        if draw(st.booleans()):
            records.append(reported(draw(st.integers(0, 5))))
        records.append(reached(following, len(records)))
        phase = following
    return records

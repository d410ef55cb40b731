"""What is fixed when a rotation begins: its references, and the pair that it goes on with."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from fioagent import causes, esturl
from fioagent.errors import TemporaryError, one_line
from fioagent.model import CredentialRef, Facts, ObjectIds, RotationId, sha256_hex
from fioagent.rotation import current_target, policy, preflight
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Kind, Phase, Rotation
from fioagent.site import Device

UNKNOWN: Final = "unknown"  # serial and digest of a certificate that is not there
_SHOWN: Final = 200  # characters of names that are not ours


def plan(
    device: Device,
    journal: Journal,
    identifier: RotationId,
    est_url: str,
    pair: CredentialRef | None,
    ids: ObjectIds,
) -> Facts:
    """The facts of the first record, once nothing speaks against the rotation.

    ``pair`` is one to go on with; without it, that of the rotation that was
    superseded last, if nothing has completed since.

    Raises:
        AgentError: preflight found a reason; nothing was written.
    """
    est_url = esturl.labelled(esturl.base_url(est_url), device.settings.est_label)
    journals = [*journal.ended(), journal]
    require_quota(device, journals)
    ended = [each.rotation for each in journals[:-1] if each.rotation]
    waiting = next((r for r in reversed(ended) if r.phase is not Phase.ABANDONED), None)
    if pair is None and waiting is not None and waiting.phase is Phase.SUPERSEDED:
        pair = pair_of(device, waiting)
    new = pair or device.keys.place_for(identifier, device.live_credential(), ids)
    found = preflight.check(device, new, adopted=pair is not None, seen=issued(ended))
    begun = facts(device, identifier, est_url, found.live, new)
    lost = {"lost": one_line(", ".join(found.lost), _SHOWN)} if found.lost else {}
    return {**begun, **lost, "announced": pair is not None}


def facts(
    device: Device, identifier: RotationId, est_url: str, old: CredentialRef, new: CredentialRef
) -> Facts:
    """References and digests of a beginning."""
    certificate = device.keys.certificate(old)
    target = current_target.read(device.disk, device.site.storage)
    return {
        "id": identifier,
        "est_url": est_url,
        "store": new.store.value,
        "old_key": old.key,
        "old_certificate": old.certificate,
        "old_serial": UNKNOWN if certificate is None else certificate.serial,
        "old_sha256": UNKNOWN if certificate is None else sha256_hex(certificate.der),
        **({} if certificate is None else {"old_not_after": certificate.not_after.isoformat()}),
        "sota_paths": ",".join(device.site.sota_paths),
        "new_key": new.key,
        "new_certificate": new.certificate,
        "target_name": target.name,
        "target_version": target.version,
        "event_seed": str(uuid.uuid4()),
    }


def pair_of(device: Device, predecessor: Rotation) -> CredentialRef | None:
    """The pair of a superseded rotation that the gateway may be waiting for; None where it cannot.

    No answer of a gateway to a second key is known, and what it holds of the
    configuration may be readable by the first alone (docs/adr/0006).

    Raises:
        ConfigError: it is there and cannot be read. It must not count as lost.
    """
    if not predecessor.announced or device.live_credential() != predecessor.old:
        return None
    certificate = device.keys.certificate(predecessor.old)
    begun = predecessor.facts[Phase.BEGUN]
    if certificate is None or sha256_hex(certificate.der) != begun["old_sha256"]:
        return None  # registered again since
    if not device.keys.has_key(predecessor.new):
        return None
    device.keys.private_key(predecessor.new)
    return predecessor.new


def issued(rotations: Iterable[Rotation]) -> list[datetime]:
    """When servers made the certificates that earlier rotations were given."""
    times = (rotation.facts.get(Phase.CERT_ISSUED, {}).get("not_before") for rotation in rotations)
    return [datetime.fromisoformat(str(at)) for at in times if at is not None]


def require_quota(device: Device, journals: Sequence[Journal]) -> None:
    """However wrong a trigger or a script is: a CA is not asked without end.

    Raises:
        TemporaryError: as many as allowed were requested within a day.
    """
    requested = [
        record.at
        for journal in journals
        for record in journal.records
        if record.kind is Kind.PHASE and record.phase is Phase.KEY_GENERATED
    ]
    limit = device.settings.rotation_issuances_per_day
    if policy.too_many(requested, device.clock.now(), limit):
        raise TemporaryError.of(causes.TOO_MANY, {"limit": limit})

"""One function per phase: the effect that makes the phase true.

Each may run again after a power cut at any point in it, knows its own earlier
run by looking, and decides nothing but that. What it returns is recorded with
the phase: references and digests, never a secret.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fioagent import causes, sota, x509
from fioagent.config import document
from fioagent.errors import (
    AgentError,
    CredentialRefusedError,
    MalformedError,
    NotSupportedError,
    PeerError,
    TemporaryError,
)
from fioagent.model import SOTA_KEYS, CredentialRef, Facts, sha256_hex
from fioagent.ports import Moment
from fioagent.rotation import enrolment
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Phase, Rotation
from fioagent.rotation.preflight import require_pair, unsupported
from fioagent.site import Device

_ON_GATEWAY: Final = "the device's configuration on the gateway"
_NO_CONFIG: Final = "none"
_CONFLICT: Final = 409  # the status that says so: contract of the lock
_LOOKS: Final = 8  # at a copy that is malformed, before the old key goes all the same


def lock(rotation: Rotation, device: Device) -> Facts:
    """Tell the gateway which key comes next. The same value again is no change."""
    public = device.keys.private_key(rotation.new).public_key()
    try:
        device.sessions.gateway(rotation.old).set_next_key(x509.spki_pem(public))
    except NotSupportedError as error:
        raise unsupported(error) from error
    except PeerError as error:
        if error.status != _CONFLICT:
            raise
        facts = {"error": error, "rotation": _announced_before(rotation, device)}
        raise PeerError.of(causes.WAITS_FOR_ANOTHER, facts, status=_CONFLICT) from error
    return {"spki_sha256": x509.spki_sha256(public)}


def _announced_before(rotation: Rotation, device: Device) -> str:
    """In words: the latest rotation before this one whose key the gateway may have kept."""
    ended = (each.rotation for each in Journal(device.disk, device.site.state_directory).ended())
    known = [each for each in ended if each is not None and each.id != rotation.id]
    waiting = [each.id for each in known if each.announced and each.phase is not Phase.COMPLETED]
    return f"rotation {waiting[-1]}" if waiting else "another rotation"


def stage_config(rotation: Rotation, device: Device) -> Facts:
    """config.encrypted under the new key, beside the original."""
    config = device.disk.read_if_there(device.site.config)
    if config is None:
        return {"config": _NO_CONFIG}
    staged = _resealed(config, rotation.new, rotation, device)
    if staged is None:
        return {"config": "unreadable"}
    device.disk.replace(device.site.staged_config, staged, mode=0o600)
    return {"source_sha256": sha256_hex(config), "staged_sha256": sha256_hex(staged)}


def update_device_config(rotation: Rotation, device: Device) -> Facts:
    """The device's own layer on the gateway, under the new key."""
    keys = [device.keys.private_key(rotation.old)]
    return _rewrite_device_config(device, rotation.old, keys, rotation.new)


def _rewrite_device_config(
    device: Device, speaker: CredentialRef, keys: Sequence[document.Key], new: CredentialRef
) -> Facts:
    gateway = device.sessions.gateway(speaker)
    config = gateway.device_config()
    if config is None:
        return {"device_config": _NO_CONFIG}
    recipient = device.keys.private_key(new)
    if document.opens_with(config, recipient, _ON_GATEWAY):  # power may have failed after the PATCH
        return {"device_config": "readable already"}
    sealed = document.resealed(config, keys, recipient, _ON_GATEWAY)
    files = document.files(sealed, _ON_GATEWAY)
    pem = x509.spki_pem(recipient.public_key())
    try:
        gateway.patch_config(files, pem)
    except PeerError as refused:
        # The lock may have lapsed since; the same announcement again is no change.
        try:
            gateway.set_next_key(pem)
            gateway.patch_config(files, pem)
        except PeerError:
            raise refused from None
    return {"device_config": "re-encrypted", "files": len(files)}


def commit(rotation: Rotation, device: Device) -> Facts:
    """sota.toml, then config.encrypted. Local alone: it can be finished without a network."""
    require_pair(device, rotation.new)
    point_sota_at(rotation.new, device)
    _put_config_in_place(rotation, device)
    return now(device)


def point_sota_at(credential: CredentialRef, device: Device) -> None:
    """sota.toml names ``credential``; one write, none where it does already."""
    keys = SOTA_KEYS[credential.store]
    merged = device.sota()
    wanted = dict(zip(keys, (credential.key, credential.certificate), strict=True))
    if {key: merged.get(key) for key in keys} == wanted:
        return
    file = sota.file_to_edit(merged, keys, device.disk.can_replace)
    device.disk.replace(file.path, sota.edited(file, wanted))


def _put_config_in_place(rotation: Rotation, device: Device) -> None:
    """The staged copy, or, where the original changed since, the original resealed now."""
    current = device.disk.read_if_there(device.site.config)
    if current is None:
        return
    facts = rotation.facts[Phase.CONFIG_STAGED]
    staged = device.disk.read_if_there(device.site.staged_config) or b""
    found = (sha256_hex(current), sha256_hex(staged))
    if found == (facts.get("source_sha256"), facts.get("staged_sha256")):
        _replace_config(staged, current, device)
    else:
        _replace_config(_resealed(current, rotation.new, rotation, device), current, device)


def _replace_config(config: bytes | None, current: bytes, device: Device) -> None:
    if config not in (None, current):
        # fioconfig keeps the config's Last-Modified in the file's time.
        device.disk.replace(device.site.config, config, keep_time=True)


def _resealed(config: bytes, to: CredentialRef, rotation: Rotation, device: Device) -> bytes | None:
    """None for what is no config: preflight has seen a good one, the next check-in brings another.

    By then the gateway may know the new key, and a damaged file must not hold the rotation.
    """
    keys, recipient = _keys_at_hand(rotation, device), device.keys.private_key(to)
    try:
        return document.resealed(config, keys, recipient, device.site.config)
    except MalformedError:
        return None


def _keys_at_hand(rotation: Rotation, device: Device) -> list[document.Key]:
    """Both, but after a cut in the middle of retiring, when the old one is gone already.

    Raises:
        ConfigError: one is there and cannot be read. What it opens must not count as lost.
    """
    pair = (rotation.old, rotation.new)
    return [device.keys.private_key(each) for each in pair if device.keys.has_key(each)]


def confirm(rotation: Rotation, device: Device) -> Facts:
    """The first request with the new certificate: the gateway switches over."""
    status = device.sessions.gateway(rotation.new).check()
    return {"status": status}


def old_still_works(rotation: Rotation, device: Device) -> bool:
    """Whether the gateway takes the old credential, asked after it refused the new one."""
    try:
        device.sessions.gateway(rotation.old).check()
    except CredentialRefusedError:
        return False
    return True


def restart_services(rotation: Rotation, device: Device) -> Facts:
    committed = _moment(rotation.facts[Phase.COMMITTED])
    return {
        unit: device.services.restart(unit, committed) for unit in device.settings.services_restart
    }


def restart_services_back(rotation: Rotation, device: Device) -> None:
    """Programs that were started since the commit have read the pair that is refused."""
    committed = _moment(rotation.facts[Phase.COMMITTED])
    put_back = _moment(rotation.put_back or now(device))
    for unit in device.settings.services_restart:
        device.services.restart(unit, put_back, committed)


def now(device: Device) -> Facts:
    """This moment, to tell later which programs were started before it."""
    moment = device.clock.moment()
    return {"boot_id": moment.boot_id, "monotonic_us": moment.monotonic_us}


def _moment(facts: Facts) -> Moment:
    return Moment(str(facts["boot_id"]), int(facts["monotonic_us"]))


def retire(rotation: Rotation, device: Device) -> Facts:
    """The old pair and the staged copy are gone; nothing else is.

    Another program may have written either configuration under the old key since
    they were re-encrypted. So both are looked at once more, while it is there. A
    gateway that will not show or take its copy any more does not hold us: it got it
    before. One that refuses the new pair does: the old one may be needed again.
    """
    _put_config_in_place(rotation, device)
    keys = _keys_at_hand(rotation, device)
    facts: Facts = {}
    try:
        _rewrite_device_config(device, rotation.new, keys, rotation.new)
    except CredentialRefusedError:
        raise
    except (PeerError, MalformedError) as error:
        if isinstance(error, MalformedError) and rotation.failures < _LOOKS:
            raise TemporaryError(f"cannot look at the gateway's copy again: {error}") from error
        facts = {"note": f"the gateway's copy was not looked at again: {error}"}
    device.keys.retire(rotation.old, rotation.new)
    device.disk.remove(device.site.staged_config)
    return {**facts, "old_key_gone": _is_gone(rotation, device)}


def _is_gone(rotation: Rotation, device: Device) -> bool:
    """Whether nothing leads to the old key any more; its name may lead to the new one.

    For the proof at the end alone: who cannot look claims nothing, and nothing waits for it.
    """
    try:
        if not device.keys.has_key(rotation.old):
            return True
        left, live = (device.keys.private_key(each) for each in (rotation.old, rotation.new))
        return x509.spki_der(left.public_key()) == x509.spki_der(live.public_key())
    except AgentError:
        return False


def complete(rotation: Rotation, device: Device) -> Facts:
    """The marker that keeps the stock handler from rotating for this id again."""
    marker = {
        "RotationId": rotation.id,  # first: the handler greps '"RotationId":"<id>",'
        "StepIdx": 5,
        "EstServer": rotation.est_url,
        "DeviceConfigUpdated": True,
        "Finalized": True,
    }
    text = json.dumps(marker, separators=(",", ":")).encode()
    device.disk.replace(device.site.completed_marker, text, mode=0o640)
    return {}


def revert_locally(rotation: Rotation, device: Device) -> None:
    """The old credential in place again, and the local configuration readable by it.

    sota.toml first: from that write on the device can be reached again.
    """
    require_pair(device, rotation.old)
    point_sota_at(rotation.old, device)
    current = device.disk.read_if_there(device.site.config)
    if current is not None:
        _replace_config(_resealed(current, rotation.old, rotation, device), current, device)


def revert_on_gateway(rotation: Rotation, device: Device) -> None:
    """Its copy of the configuration, and what it waits for, as before the rotation."""
    keys = [device.keys.private_key(rotation.new)]
    _rewrite_device_config(device, rotation.old, keys, rotation.old)
    if rotation.facts[Phase.REVERTING]["gateway_waits"]:
        # Else the gateway would wait for ever for a key that is destroyed next.
        old = device.keys.private_key(rotation.old).public_key()
        device.sessions.gateway(rotation.old).set_next_key(x509.spki_pem(old))


def discard(rotation: Rotation, device: Device) -> None:
    """Nothing of a rotation that was given up is left but its journal.

    Of one that was superseded the pair stays: the rotation that follows goes on with it.
    """
    if rotation.phase is Phase.ABANDONED:
        device.keys.destroy(rotation.new)
    device.disk.remove(device.site.staged_config)


STEPS: Final[Mapping[Phase, Callable[[Rotation, Device], Facts]]] = {
    Phase.KEY_GENERATED: enrolment.generate_key,
    Phase.CERT_ISSUED: enrolment.issue_certificate,
    Phase.LOCKED: lock,
    Phase.CONFIG_STAGED: stage_config,
    Phase.DEVICE_CONFIG_UPDATED: update_device_config,
    Phase.COMMITTED: commit,
    Phase.CONFIRMED: confirm,
    Phase.SERVICES_RESTARTED: restart_services,
    Phase.RETIRED: retire,
    Phase.COMPLETED: complete,
}

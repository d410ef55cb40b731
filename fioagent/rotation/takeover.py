"""A rotation that fioconfig has left half-done, taken over into a journal of ours.

fioconfig keeps it in ``cert-rotation.state`` (internal/rotate.go, state.go): JSON,
the new private key in the middle of it. The key moves to a file of its own, the
journal says how far the rotation is, and the state file goes. What it says of its
steps is not trusted any further than needed: all of ours that come next look
first, and do again what may have been done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fioagent import causes, esturl, pem_files, x509
from fioagent.config import document
from fioagent.errors import ConfigError, MalformedError, TemporaryError
from fioagent.keystore import object_ids
from fioagent.model import CredentialRef, Facts, ObjectIds, RotationId, Store, sha256_hex
from fioagent.rotation import beginning, hindsight, leftovers, steps
from fioagent.rotation.machine import Kind, Phase, Record, Rotation
from fioagent.rotation.preflight import require_pair
from fioagent.site import Device
from fioagent.x509 import Certificate, CertificateError

_PROGRAM: Final = "fioconfig"
_NO_EST: Final = "https://est.invalid/.well-known/est"  # RFC 6761: reaches nobody
_SECRETS: Final = ("NewKey", "NewCert", "FullConfigEncrypted")


@dataclass(frozen=True, slots=True)
class ForeignState:
    """What of fioconfig's state is of use.

    Attributes:
        id: of the rotation, as far as event servers and file names take it.
        est_url: as the operator gave it, unchecked.
        key: PEM, or object id in a token; empty before the first step is done.
        certificate: PEM, or object id likewise.
        config: config.encrypted under the new key; empty where it is not made yet.
    """

    id: RotationId
    est_url: str
    key: str
    certificate: str
    config: str


def found(device: Device) -> ForeignState | None:
    """The rotation of fioconfig; None where it has none.

    Raises:
        ConfigError: damaged. There may be the only copy of a key in it, so a person decides.
        TemporaryError: fioconfig runs, and would go on with it.
    """
    path = device.site.foreign_state
    content = device.disk.read_if_there(path)
    if content is None:
        return None
    state = _parsed(device, content)
    if device.services.is_running(_PROGRAM):
        raise TemporaryError.of(causes.FIOCONFIG_RUNS, {"path": path})
    if device.site.store is Store.PKCS11 and state.key and not _is_in_token(state, device):
        return replace(state, key="")  # it had chosen a place, and has made no key there
    return state


def is_fioconfigs_own(device: Device) -> bool:
    """Whether there is one, and a fioconfig on the device that finds it when it starts."""
    return device.disk.is_there(device.site.foreign_state) and device.services.is_installed(
        _PROGRAM
    )


def records(state: ForeignState, device: Device) -> list[Record]:
    """A journal for it, with the files in place that it speaks of; ``state`` has a key.

    Raises:
        ConfigError: the key cannot be read, or the live pair cannot be used.
    """
    if device.site.store is Store.PKCS11:
        return _records_of_token(state, device)
    spki = _spki(state, device)
    live = _whole_live_pair(state, spki, device)
    certificate = require_pair(device, live)
    if spki == certificate.spki_der:
        return _switched(state, live, certificate, device)
    new = _place(state, spki, device)
    device.disk.replace(new.key, state.key.encode(), mode=0o600)
    issued = _certificate(state)
    if issued is not None and issued.spki_der == spki:
        # One of another key is asked for again: fioconfig does not look.
        device.keys.store_certificate(new, issued)
    facts = _beginning(state, live, new, device)
    return [Record(Kind.PHASE, device.clock.now(), Phase.BEGUN, facts)]


def finish(state: ForeignState, rotation: Rotation, device: Device) -> None:
    """The journal is durable, so nothing that fioconfig has left holds its key any more.

    Raises:
        ConfigError: it is another key than the rotation's, and the gateway may wait for either.
    """
    if state.key and device.site.store is Store.PKCS11:
        if not object_ids.same(state.key, rotation.new.key):
            raise _refused(device, f"rotation {rotation.id} is open with another key")
    elif state.key:
        spki = _spki(state, device)
        ours = device.keys.has_key(rotation.new) and device.keys.private_key(rotation.new)
        if not ours or x509.spki_der(ours.public_key()) != spki:
            raise _refused(device, f"rotation {rotation.id} is open with another key")
        copies = [*_key_files(device).get(spki, ())]
        certificates = pem_files.certificates(device.disk, device.site.storage)
        copies += [path for path, each in certificates if each.spki_der == spki]
        live = {device.disk.real_path(p) for p in (rotation.new.key, rotation.new.certificate)}
        for path in copies:
            # Of attempts that were cut before sota.toml named them.
            if device.disk.real_path(path) not in live:
                device.disk.remove(path)
    _remove_state(device)


def forget_wish(device: Device) -> None:
    """A state without a key is no loss: the rotation that it wished for has begun."""
    content = device.disk.read_if_there(device.site.foreign_state)
    if content is not None and not _parsed(device, content).key:
        _remove_state(device)


def _remove_state(device: Device) -> None:
    # sotatoml/safewrite.go writes <name>.tmp first; a power cut leaves it, with the key.
    device.disk.remove(f"{device.site.foreign_state}.tmp")
    device.disk.remove(device.site.foreign_state)


def holds_secrets(content: bytes | None) -> bool:
    """Whether it may have the key material in it that fioconfig leaves in its files."""
    return content is not None and any(name.encode() in content for name in _SECRETS)


def clean_marker(device: Device) -> None:
    """``cert-rotation.state.completed`` without the key material that fioconfig leaves in it."""
    path = device.site.completed_marker
    if device.disk.is_there(f"{path}.tmp"):
        device.disk.remove(f"{path}.tmp")
    content = device.disk.read_if_there(path)
    if content is None or not holds_secrets(content):
        return
    try:
        marker = json.loads(content)
    except (ValueError, RecursionError):
        marker = None
    if not isinstance(marker, dict):
        device.disk.remove(path)  # nobody can read an id out of it, but a key perhaps
        return
    kept = {name: value for name, value in marker.items() if name not in _SECRETS}
    first = {"RotationId": kept.pop("RotationId", "")}  # the stock handler greps for it
    text = json.dumps({**first, **kept}, separators=(",", ":")).encode()
    device.disk.replace(path, text, mode=0o640)


def _parsed(device: Device, content: bytes) -> ForeignState:
    try:
        state = json.loads(content)
        fields = [_text(state, name) for name in ("RotationId", "EstServer", *_SECRETS)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _refused(device, "it is damaged") from None  # the cause may quote a key
    identifier, est_url, key, certificate, config = fields
    usable = re.sub(r"[^A-Za-z0-9_-]", "-", identifier)[:63]
    # An early fioconfig gave it none.
    fresh = f"certs-{int(device.clock.now().timestamp())}"
    return ForeignState(RotationId(usable or fresh), est_url, key, certificate, config)


def _refused(device: Device, why: str) -> ConfigError:
    return ConfigError(
        f"cannot take over the rotation of fioconfig, {device.site.foreign_state}: {why}",
        hint="the live credential stays in use; keep a copy for the operator, there may be "
        "a key in it, then move the file away",
    )


def _is_in_token(state: ForeignState, device: Device) -> bool:
    live = device.live_credential()
    return device.keys.has_key(CredentialRef(Store.PKCS11, state.key, live.certificate))


def _records_of_token(state: ForeignState, device: Device) -> list[Record]:
    """Objects are where it has put them; sota.toml tells on which side of the commit it is."""
    live = device.live_credential()
    certificate = require_pair(device, live)
    if object_ids.same(state.key, live.key):
        return _switched(state, live, certificate, device)
    place = device.keys.place_for(state.id, live, ObjectIds(keys=(live.key, state.key)))
    new = replace(place, certificate=state.certificate or place.certificate)
    facts = _beginning(state, live, new, device)
    return [Record(Kind.PHASE, device.clock.now(), Phase.BEGUN, facts)]


def _no_pair(live: CredentialRef, device: Device) -> CredentialRef:
    """A place where the pair before would have been."""
    if live.store is Store.PKCS11:
        return device.keys.place_for(RotationId("none"), live, ObjectIds())
    storage = device.site.storage
    return CredentialRef(live.store, f"{storage}/pkey.none.pem", f"{storage}/client.none.pem")


def _spki(state: ForeignState, device: Device) -> bytes:
    try:
        return x509.spki_der(x509.private_key(state.key.encode()).public_key())
    except ValueError as error:
        raise _refused(device, f"its new key cannot be read: {error}") from None


def _text(state: dict[str, Any], name: str) -> str:
    value = state.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(name)
    value.encode()  # a lone surrogate is no text
    return value


def _whole_live_pair(state: ForeignState, spki: bytes, device: Device) -> CredentialRef:
    """What sota.toml names, mended where fioconfig has left it in pieces.

    It syncs no directory, so sota.toml may name files that a power cut took; and
    it does not look at the certificate, so they may not belong together. Both
    halves are in its state, or the pair before is on the device still.
    """
    live = device.live_credential()
    certificate = device.keys.certificate(live)
    key = None
    if device.keys.has_key(live):
        key = x509.spki_der(device.keys.private_key(live).public_key())
    issued = _certificate(state)
    usable = issued is not None and issued.spki_der == spki
    if key is None and certificate is not None and certificate.spki_der == spki:
        device.disk.replace(live.key, state.key.encode())
    elif certificate is None and key in (None, spki) and issued is not None and usable:
        if key is None:
            device.disk.replace(live.key, state.key.encode())
        device.keys.store_certificate(live, issued)
    elif key == spki and certificate is not None and certificate.spki_der != spki:
        before = leftovers.pair_of(certificate, device)
        if before is not None:
            steps.point_sota_at(before, device)
            return before
    return live


def _switched(
    state: ForeignState, live: CredentialRef, certificate: Certificate, device: Device
) -> list[Record]:
    """sota.toml names the new pair already: what is left is from the commit on."""
    # Without one the rotation still goes forward; only a way back it has not.
    old = leftovers.pair_before(certificate, device) or _no_pair(live, device)
    facts: dict[Phase, Facts] = {
        Phase.BEGUN: _beginning(state, old, live, device),
        Phase.CONFIG_STAGED: _staged(state, (old, live), device),
        Phase.DEVICE_CONFIG_UPDATED: {"device_config": "re-encrypted by fioconfig"},
    }
    return hindsight.until_commit(None, certificate, device.clock.now(), facts)


def _staged(state: ForeignState, pair: Sequence[CredentialRef], device: Device) -> Facts:
    """The copy of fioconfig counts only where the original is readable by no key at hand."""
    config = device.disk.read_if_there(device.site.config)
    keys = [device.keys.private_key(each) for each in pair if device.keys.has_key(each)]
    if config is None or not state.config or not _is_lost(config, keys, device):
        return {"config": "as it is"}
    device.disk.replace(device.site.staged_config, state.config.encode())
    made = sha256_hex(state.config.encode())
    return {"source_sha256": sha256_hex(config), "staged_sha256": made}


def _is_lost(config: bytes, keys: Sequence[document.Key], device: Device) -> bool:
    """Or a part of it."""
    try:
        return bool(document.lost(config, keys, device.site.config))
    except MalformedError:
        return True


def _beginning(
    state: ForeignState, old: CredentialRef, new: CredentialRef, device: Device
) -> Facts:
    try:
        est_url = esturl.base_url(state.est_url)
    except ConfigError:
        est_url = _NO_EST  # asked only if the certificate is of no use; can be given then
    facts = beginning.facts(device, state.id, est_url, old, new)
    return {**facts, "announced": True}


def _place(state: ForeignState, spki: bytes, device: Device) -> CredentialRef:
    """Where its pair goes: nothing but an earlier try of ours may be there."""
    wanted = state.id
    for name in (wanted, f"{wanted[:50]}-fioconfig"):
        place = device.keys.place_for(RotationId(name), device.live_credential(), ObjectIds())
        there = device.disk.is_there(place.key) or device.disk.is_there(place.certificate)
        if not there or place.key in _key_files(device).get(spki, ()):
            return place
    raise _refused(device, f"{place.key} is there already")


def _key_files(device: Device) -> dict[bytes, list[str]]:
    return pem_files.keys(device.disk, device.site.storage)


def _certificate(state: ForeignState) -> Certificate | None:
    try:
        return Certificate.from_pem(state.certificate.encode())
    except CertificateError:
        return None

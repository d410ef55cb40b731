"""A rotation that fioconfig has left half-done, taken over into a journal of ours.

fioconfig keeps it in ``cert-rotation.state`` (internal/rotate.go, state.go): JSON,
the new private key in the middle of it. The key moves to a file of its own, the
journal says how far the rotation is, and the state file goes. What it says of its
steps is not trusted any further than needed: all of ours that come next look
first, and do again what may have been done.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fioagent import esturl, x509
from fioagent.config import document
from fioagent.errors import ConfigError, TemporaryError
from fioagent.model import CredentialRef, Facts, RotationId, sha256_hex
from fioagent.rotation import beginning
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
        key: PEM; empty before the first step is done.
        certificate: PEM; empty likewise.
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
        raise TemporaryError(
            f"cannot take over the rotation of fioconfig, {path}: fioconfig is running",
            hint="systemctl disable --now fioconfig.service fioconfig.path, then try again",
        )
    return state


def records(state: ForeignState, device: Device) -> list[Record]:
    """A journal for it, with the files in place that it speaks of; ``state`` has a key.

    Raises:
        ConfigError: the key cannot be read, or the live pair cannot be used.
    """
    live = device.live_credential()
    certificate = require_pair(device, live)
    spki = _spki(state, device)
    if spki == certificate.spki_der:
        return _switched(state, live, certificate, device)
    new = _place(state, spki, device)
    device.disk.replace(new.key, state.key.encode(), mode=0o600)
    issued = _certificate(state.certificate)
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
    if state.key:
        spki = _spki(state, device)
        copies = [*_key_files(device).get(spki, ())]
        if rotation.new.key not in copies:
            raise _refused(device, f"rotation {rotation.id} is open with another key")
        copies += [path for path, each in _certificates(device) if each.spki_der == spki]
        for path in copies:
            # Of attempts that were cut before sota.toml named them.
            if path not in (rotation.new.key, rotation.new.certificate):
                device.disk.remove(path)
    device.disk.remove(device.site.foreign_state)


def clean_marker(device: Device) -> None:
    """``cert-rotation.state.completed`` without the key material that fioconfig leaves in it."""
    path = device.site.completed_marker
    content = device.disk.read_if_there(path)
    if content is None or not any(name.encode() in content for name in _SECRETS):
        return
    try:
        marker = json.loads(content)
    except ValueError:
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
    except (ValueError, TypeError, AttributeError):
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


def _spki(state: ForeignState, device: Device) -> bytes:
    try:
        return x509.spki_der(x509.private_key(state.key.encode()).public_key())
    except ValueError as error:
        raise _refused(device, f"its new key cannot be read: {error}") from None


def _text(state: dict[str, Any], name: str) -> str:
    value = state.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _switched(
    state: ForeignState, live: CredentialRef, certificate: Certificate, device: Device
) -> list[Record]:
    """sota.toml names the new pair already: what is left is from the commit on.

    The gateway may have seen it in use, by any program of the device.
    """
    now = device.clock.now()
    old = _older_pair(certificate, live, device)
    spki: Facts = {"spki_sha256": sha256_hex(certificate.spki_der)}
    facts_of: dict[Phase, Facts] = {
        Phase.BEGUN: _beginning(state, old, live, device),
        Phase.KEY_GENERATED: spki,
        Phase.CERT_ISSUED: certificate.described(),
        Phase.LOCKED: spki,
        Phase.CONFIG_STAGED: _staged(state, (old, live), device),
        Phase.DEVICE_CONFIG_UPDATED: {"device_config": "re-encrypted by fioconfig"},
    }
    reached = [Record(Kind.PHASE, now, phase, facts) for phase, facts in facts_of.items()]
    return [*reached, Record(Kind.ATTEMPT, now, Phase.CONFIRMED)]


def _staged(state: ForeignState, pair: Sequence[CredentialRef], device: Device) -> Facts:
    """The copy of fioconfig counts only where the original is readable by no key at hand."""
    config = device.disk.read_if_there(device.site.config)
    keys = [device.keys.private_key(each) for each in pair if device.keys.has_key(each)]
    try:
        if config is not None:
            document.require_opens(config, keys, device.site.config)
    except ConfigError:
        if state.config:
            device.disk.replace(device.site.staged_config, state.config.encode())
            made = sha256_hex(state.config.encode())
            return {"source_sha256": sha256_hex(config or b""), "staged_sha256": made}
    return {"config": "as it is"}


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
        place = device.site.new_credential(RotationId(name))
        there = device.disk.is_there(place.key) or device.disk.is_there(place.certificate)
        if not there or place.key in _key_files(device).get(spki, ()):
            return place
    raise _refused(device, f"{place.key} is there already")


def _older_pair(certificate: Certificate, live: CredentialRef, device: Device) -> CredentialRef:
    """The pair that the device had before: fioconfig removes none, and writes down none.

    The latest beside the live one that is whole and of this device. Where there is
    none, the rotation still goes forward; only a way back it has not.
    """
    keys, storage = _key_files(device), device.site.storage
    older = [
        (each.not_before, keys[each.spki_der][0], path)
        for path, each in _certificates(device)
        if each.subject_der == certificate.subject_der
        and each.spki_der != certificate.spki_der
        and each.spki_der in keys
    ]
    if not older:
        return CredentialRef(live.store, f"{storage}/pkey.none.pem", f"{storage}/client.none.pem")
    _, key, path = max(older)
    return CredentialRef(live.store, key, path)


def _key_files(device: Device) -> dict[bytes, list[str]]:
    """Files with a private key in storage.path, by the SPKI of the key."""
    found: dict[bytes, list[str]] = {}
    for path in _pem_files("pkey", device):
        with contextlib.suppress(ValueError, ConfigError):
            key = x509.private_key(device.disk.read(path))
            found.setdefault(x509.spki_der(key.public_key()), []).append(path)
    return found


def _certificates(device: Device) -> list[tuple[str, Certificate]]:
    found = []
    for path in _pem_files("client", device):
        content = device.disk.read_if_there(path) or b""
        certificate = _certificate(content.decode("utf-8", "replace"))
        if certificate is not None:
            found.append((path, certificate))
    return found


def _pem_files(prefix: str, device: Device) -> list[str]:
    storage = device.site.storage
    names = device.disk.names(storage)
    return [
        os.path.join(storage, name)
        for name in names
        if name.startswith(prefix) and name.endswith(".pem")
    ]


def _certificate(pem: str) -> Certificate | None:
    try:
        return Certificate.from_pem(pem.encode())
    except CertificateError:
        return None

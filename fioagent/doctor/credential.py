"""What needs the private key, in a file or a token: it is asked as a rotation asks it."""

from __future__ import annotations

from collections.abc import Iterator

from fioagent import causes
from fioagent.config import document
from fioagent.config.household import keys_at_hand, open_rotation
from fioagent.doctor.finding import Finding, State, fine, skipped
from fioagent.doctor.patient import Patient
from fioagent.errors import ConfigError
from fioagent.keystore.object_ids import LABEL
from fioagent.model import RotationId, Store
from fioagent.rotation import policy, preflight, wanting


def token(patient: Patient) -> Iterator[Finding]:
    """Is it there, does it take the PIN, and how many wrong ones would it take still?"""
    device = patient.device
    if device.site.store is Store.FILE:
        yield skipped(patient.check, "the key is in a file")
        return
    merged = device.sota()
    module, label = merged.require("p11.module"), merged.get("p11.label") or LABEL
    tries = patient.around.tries(module, label)
    if tries is not None and tries.last and not tries.locked:
        # A PIN that is wrong would lock it, and nobody knows whether it is.
        place = f"the token {label!r} of {module}"
        raise ConfigError.of(causes.PIN_LAST_TRY, {"place": place})
    device.keys.has_key(device.live_credential())  # the PIN is taken, or this is raised
    told = "" if tries is None else f"; {tries.said}"
    yield fine(patient.check, f"{label!r} takes the PIN{told}")


def pair(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    certificate = preflight.require_pair(device, device.live_credential())
    now = device.clock.now()
    if certificate.not_after <= now:
        raise ConfigError.of(causes.EXPIRED, {"date": f"{certificate.not_after:%Y-%m-%d}"})
    said = f"serial {certificate.serial}, valid until {certificate.not_after:%Y-%m-%d %H:%M} UTC"
    if policy.is_ending(certificate.not_before, certificate.not_after, now):
        hint = "'fioagent rotate --now'"
        yield Finding(patient.check, State.WARN, f"{said}: about to expire", hint)
    else:
        yield fine(patient.check, said)


def derive(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    preflight.require_derives(device.keys.private_key(device.live_credential()))
    yield fine(patient.check, "the key opens what is encrypted to it")


def config(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    content = device.disk.read_if_there(device.site.config)
    if content is None:
        yield fine(patient.check, "no configuration is stored")
        return
    preflight.lost_here(device, keys_at_hand(device), ending=False)
    count = len(document.files(content, device.site.config))
    yield fine(patient.check, f"{count} files, and every encrypted one opens")


def slot(patient: Patient) -> Iterator[Finding]:
    """Where the next pair would go."""
    device = patient.device
    open_one = open_rotation(device)
    if open_one is not None:
        yield fine(patient.check, f"{open_one.new.key} is that of rotation {open_one.id}")
        return
    ids = wanting.ids_of_trigger(device, device.settings.config_secrets_directory)
    fresh = RotationId(f"certs-{int(device.clock.now().timestamp())}")
    place = device.keys.place_for(fresh, device.live_credential(), ids)
    device.keys.require_free(place)
    yield fine(patient.check, f"{place.key} is free for the next key")

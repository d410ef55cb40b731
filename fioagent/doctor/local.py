"""What needs no network and no key: clock, sota.toml, modes, trust, room, rotations, leftovers.

Each check asks what a rotation asks, by the same code, and tells what was found.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from typing import Final

from fioagent import causes, pem_files, sota
from fioagent.config.household import open_rotation
from fioagent.doctor.finding import Finding, State, failed, fine, warned
from fioagent.doctor.patient import Patient
from fioagent.errors import ConfigError
from fioagent.model import SOTA_KEYS, CredentialRef, Store
from fioagent.rotation import beginning, policy, preflight, takeover, wanting
from fioagent.rotation.journal import Journal
from fioagent.rotation.ledger import Ledger
from fioagent.site import Device

_PRIVATE: Final = b"PRIVATE KEY"  # of every PEM form of one


def configuration(patient: Patient) -> Iterator[Finding]:
    """Reached only where it can be used."""
    device = patient.device
    named = sorted(set(device.settings.origins.values())) or ["defaults alone"]
    files = ", ".join(file.path for file in device.sota().files)
    yield fine(patient.check, f"{files}; settings: {', '.join(named)}")


def clock(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    certificate = None
    if device.site.store is Store.FILE:  # a token is asked later, with a limit
        with contextlib.suppress(ConfigError):
            certificate = device.keys.certificate(device.live_credential())
    journals = Journal(device.disk, device.site.state_directory).ended()
    seen = beginning.issued(each.rotation for each in journals if each.rotation is not None)
    preflight.require_clock(device, certificate, *seen)
    yield fine(patient.check, f"{device.clock.now():%Y-%m-%d %H:%M} UTC")


def sota_toml(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    live = device.live_credential()
    preflight.require_editable_sota(device, live)
    file = sota.file_to_edit(device.sota(), SOTA_KEYS[live.store], device.disk.can_replace)
    yield fine(patient.check, f"{file.path}: the same as TOML and as INI, and ours to edit")


def files(patient: Patient) -> Iterator[Finding]:
    """Secrets that others can read; files that are not ours."""
    device = patient.device
    found = list(_modes(patient))
    yield from found or [fine(patient.check, f"secrets in {device.site.storage} are ours alone")]


def _modes(patient: Patient) -> Iterator[Finding]:
    device, around = patient.device, patient.around
    directory = around.entry(device.site.storage)
    is_open = directory is not None and bool(directory.mode & 0o011)
    for path in _secret_files(device):
        entry = around.entry(device.disk.real_path(path))
        if entry is None:
            continue
        mode = stat.S_IMODE(entry.mode)
        if is_open and mode & 0o044:
            facts = {"path": path, "mode": f"{mode:04o}", "wanted": f"{mode & 0o700:04o}"}
            yield warned(patient.check, causes.READABLE_BY_OTHERS, facts)
        if entry.uid != around.user():
            owners = {"path": path, "owner": entry.uid, "us": around.user()}
            yield warned(patient.check, causes.NOT_OURS, owners)


def _secret_files(device: Device) -> list[str]:
    storage = device.site.storage
    found = {path for paths in pem_files.keys(device.disk, storage).values() for path in paths}
    found |= {file.path for file in device.sota().files if file.value("p11.pass")}
    kept = (device.site.foreign_state, device.site.completed_marker)
    found |= {path for path in kept if _PRIVATE in (device.disk.read_if_there(path) or b"")}
    return sorted(found)


def trust(patient: Patient) -> Iterator[Finding]:
    roots = patient.device.sessions.trusted_roots()
    now = patient.device.clock.now()
    latest = max(roots, key=lambda root: root.not_after)
    if latest.not_after <= now:
        facts = {"subject": latest.subject, "date": f"{latest.not_after:%Y-%m-%d}"}
        raise ConfigError.of(causes.ROOT_EXPIRED, facts)
    yield fine(patient.check, f"roots: {len(roots)}, the last until {latest.not_after:%Y-%m-%d}")


def room(patient: Patient) -> Iterator[Finding]:
    device = patient.device
    preflight.require_room(device)
    free = device.disk.free_bytes(device.site.storage) // 1024
    yield fine(patient.check, f"{free} KiB free in {device.site.storage}")


def rotation(patient: Patient) -> Iterator[Finding]:
    """One that is open, one that fioconfig has begun, and a file that asks for one."""
    device = patient.device
    journal = Journal(device.disk, device.site.state_directory)
    found = journal.load()
    if found is not None and found.is_open:
        facts = {"id": found.id, "phase": found.phase.value}
        cause = causes.WAITS_FOR_OURS if found.announced else causes.OPEN
        yield warned(patient.check, cause, facts)
        if found.paused is not None:
            until = policy.next_try(found)
            when = "" if until is None else f"; next try {until:%Y-%m-%d %H:%M} UTC"
            yield Finding(patient.check, State.WARN, f"it waits: {found.paused.reason}{when}")
    state = takeover.found(device)
    if state is not None:
        facts = {"path": device.site.foreign_state, "id": state.id}
        yield warned(patient.check, causes.FIOCONFIGS_ROTATION, facts)
    secrets = device.settings.config_secrets_directory
    problem = wanting.asked(Ledger(device, lambda _: None), secrets).problem
    if problem is not None:
        yield failed(patient.check, problem)
    elif state is None and (found is None or not found.is_open):
        yield fine(patient.check, "none is open")


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Private keys that fioconfig and power cuts leave behind."""
    device = patient.device
    found = [warned(patient.check, causes.KEY_LEFT, {"path": p}) for p in _holding_keys(device)]
    facts = [{"path": path} for path in _unnamed(device)]
    found += [warned(patient.check, causes.KEY_UNNAMED, each) for each in facts]
    yield from found or [fine(patient.check, "no private key beside those in use")]


def _holding_keys(device: Device) -> list[str]:
    marker = device.site.completed_marker
    paths = (marker, f"{marker}.tmp")
    return [path for path in paths if takeover.holds_secrets(device.disk.read_if_there(path))]


def _unnamed(device: Device) -> list[str]:
    """Key files that neither sota.toml nor an open rotation names."""
    named: list[CredentialRef] = [device.live_credential()]
    open_one = open_rotation(device)
    if open_one is not None:
        named += [open_one.old, open_one.new]
    known = {device.disk.real_path(each.key) for each in named}
    found = pem_files.keys(device.disk, device.site.storage).values()
    paths = sorted(path for paths in found for path in paths)
    half = f"{device.site.foreign_state}.tmp"  # a power cut leaves it
    if takeover.holds_secrets(device.disk.read_if_there(half)):
        paths.append(half)
    return [path for path in paths if device.disk.real_path(path) not in known]

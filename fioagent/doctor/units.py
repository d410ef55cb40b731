"""What systemd runs of us and beside us, and how many starts aktualizr-lite has left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from fioagent import causes
from fioagent.doctor.finding import Finding, fine, skipped, warned
from fioagent.doctor.patient import Patient
from fioagent.errors import ConfigError

OURS: Final = (
    "fioagent.service",
    "fioagent.path",
    "fioagent-extract.service",
    "fioagent-recover.service",
)
FIOCONFIGS: Final = ("fioconfig.service", "fioconfig.path")
_RUNS: Final = ("active", "activating", "reloading")
_NO_SYSTEMD: Final = "systemd does not run this machine"


def units(patient: Patient) -> Iterator[Finding]:
    restarted = patient.device.settings.services_restart
    names = (*OURS[:2], *FIOCONFIGS, *restarted)
    found = patient.around.units(names)
    if found is None:
        yield skipped(patient.check, _NO_SYSTEMD)
        return
    for name in FIOCONFIGS:
        state = found[name].get("ActiveState", "unknown")
        if state in _RUNS or found[name].get("UnitFileState") == "enabled":
            facts = {"unit": name, "state": state if state in _RUNS else "enabled"}
            raise ConfigError.of(causes.BESIDE_FIOCONFIG, facts)
    for name in (*OURS[:2], *restarted):
        state = _state(found[name])
        needed = name in OURS or found[name].get("ActiveState") == "failed"
        if state.split()[0] not in _RUNS and needed:
            yield warned(patient.check, causes.NOT_RUNNING, {"unit": name, "state": state})
        else:
            yield fine(patient.check, f"{name} is {state}")


def _state(properties: Mapping[str, str]) -> str:
    if properties.get("LoadState") in ("not-found", "masked"):
        return "not installed" if properties["LoadState"] == "not-found" else "masked"
    active = properties.get("ActiveState", "unknown")
    result = properties.get("Result", "success")
    return active if result in ("success", "") else f"{active} ({result})"


def starts(patient: Patient) -> Iterator[Finding]:
    """A rotation restarts each of these once; LmP's aktualizr-lite reboots at the fourth start.

    ``reset-failed`` sets the count back and is in no journal, so this is the most that it can be.
    """
    names = patient.device.settings.services_restart
    found = patient.around.units(names) if names else {}
    if found is None:
        yield skipped(patient.check, _NO_SYSTEMD)
        return
    for name, properties in found.items():
        limit = int(properties.get("StartLimitBurst") or 0)
        interval = seconds(properties.get("StartLimitIntervalUSec", ""))
        if properties.get("LoadState") != "loaded" or not limit or not interval:
            yield fine(patient.check, f"{name}: no limit here")
            continue
        used = patient.around.starts(name, interval)
        told = {"unit": name, "used": used, "limit": limit, "interval": f"{interval:g}"}
        if used is None:
            yield skipped(patient.check, f"no journal tells how often {name} was started")
        elif used >= limit:
            yield warned(patient.check, causes.START_LIMIT, told)
        else:
            yield fine(patient.check, "{unit}: {used} of {limit} in {interval} s".format(**told))


def seconds(text: str) -> float:
    """Of a time span as systemd shows it ("9min 1s"); 0 for what is none."""
    units_s = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
    total = 0.0
    for part in text.split():
        digits = part.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = part[len(digits) :]
        try:
            total += float(digits) * units_s[unit]
        except (ValueError, KeyError):
            return 0.0
    return total

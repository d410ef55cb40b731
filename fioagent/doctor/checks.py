"""Every check there is, in order: what it asks, what it needs, how long it may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from fioagent.doctor import credential, local, network, units
from fioagent.doctor.finding import Finding
from fioagent.doctor.patient import Patient


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        name: stable; what lines begin with.
        act: what is found.
        needs: checks that must not have failed before.
        online: it needs the network.
    """

    name: str
    act: Callable[[Patient], Iterator[Finding]]
    needs: tuple[str, ...] = ()
    online: bool = False


_KEY: Final = ("token", "pair")
CHECKS: Final = (
    Check("configuration", local.configuration),
    Check("clock", local.clock),
    Check("sota.toml", local.sota_toml),
    Check("files", local.files),
    Check("trust", local.trust),
    Check("room", local.room),
    Check("token", credential.token),
    Check("pair", credential.pair, ("token",)),
    Check("derive", credential.derive, _KEY),
    Check("config", credential.config, _KEY),
    Check("slot", credential.slot, ("token",)),
    Check("rotation", local.rotation, ("token",)),
    Check("leftovers", local.leftovers),
    Check("units", units.units),
    Check("starts", units.starts),
    Check("dns", network.dns, (), online=True),
    Check("proxy", network.proxy, (), online=True),
    Check("gateway", network.gateway, (*_KEY, "trust"), online=True),
    Check("support", network.supports_rotation, (*_KEY, "gateway"), online=True),
    Check("est", network.est, (*_KEY, "trust"), online=True),
)

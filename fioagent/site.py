"""What a rotation may touch on this device: its places, its settings, its ports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from fioagent import causes, forms, sota
from fioagent.errors import ConfigError
from fioagent.model import SOTA_KEYS, CredentialRef, Store
from fioagent.ports import Clock, Disk, KeyStore, Services, Sessions
from fioagent.settings import Settings
from fioagent.sota import Sota


@dataclass(frozen=True, slots=True)
class Site:
    """Where things are.

    Attributes:
        storage: ``storage.path``: credentials, config.encrypted, our journal.
        store: where private keys live.
        sota_paths: search list of sota.toml in use.
        usual_paths: the one that other programs of this environment use.
    """

    storage: str
    store: Store
    sota_paths: tuple[str, ...]
    usual_paths: tuple[str, ...]

    @property
    def state_directory(self) -> str:
        """Ours; in storage.path because a factory reset that keeps sota keeps it."""
        return os.path.join(self.storage, "fioagent")

    @property
    def config(self) -> str:
        return os.path.join(self.storage, "config.encrypted")

    @property
    def staged_config(self) -> str:
        return os.path.join(self.storage, "config.encrypted.staged")

    @property
    def foreign_state(self) -> str:
        """A rotation that fioconfig has under way."""
        return os.path.join(self.storage, "cert-rotation.state")

    @property
    def completed_marker(self) -> str:
        """The stock handler looks in it for the rotation id that is done."""
        return os.path.join(self.storage, "cert-rotation.state.completed")

    @property
    def roots_marker(self) -> str:
        """The same, of the stock handler that asks for new roots."""
        return os.path.join(self.storage, "root-ca-update.state.completed")

    @property
    def roots_request(self) -> str:
        """Ours: new roots that an operator has asked for, until they are trusted."""
        return os.path.join(self.state_directory, "root-renewal.json")


@dataclass(frozen=True, slots=True)
class Device:
    """A site with everything that acts on it."""

    site: Site
    settings: Settings
    disk: Disk
    keys: KeyStore
    sessions: Sessions
    services: Services
    clock: Clock

    def sota(self) -> Sota:
        return read_sota(self.disk, self.site.sota_paths)

    def live_credential(self) -> CredentialRef:
        """What sota.toml names at this moment."""
        return named_by(self.sota(), self.site.store)


def named_by(merged: Sota, store: Store) -> CredentialRef:
    """The credential that a sota.toml names. Raises ConfigError: none."""
    key, certificate = SOTA_KEYS[store]
    return CredentialRef(store, merged.require(key), merged.require(certificate))


def read_sota(disk: Disk, paths: Sequence[str]) -> Sota:
    """Raises ConfigError: nothing found, unreadable, or not TOML."""
    found = []
    for path in paths:
        if disk.is_directory(path):
            names = [name for name in disk.names(path) if name.endswith(".toml")]
            inside = [os.path.join(path, name) for name in names]
        else:
            inside = [path]
        found += [(file, raw) for file in inside if (raw := disk.read_if_there(file)) is not None]
    if not found:
        raise ConfigError.of(causes.NOT_REGISTERED, {"paths": ", ".join(paths)})
    return sota.merge(found)


def site_of(merged: Sota, paths: tuple[str, ...], usual: tuple[str, ...]) -> Site:
    """Raises ConfigError for a missing or contradictory key."""
    if merged.require("tls.ca_source") != "file":
        raise merged.refuse("tls.ca_source", 'only "file" is known')
    source = merged.require("tls.pkey_source")
    if source not in tuple(Store):
        raise merged.refuse("tls.pkey_source", 'it is "file" or "pkcs11"')
    # aktualizr-lite reads both, fioconfig only the key's; registration writes them alike.
    if merged.get("tls.cert_source") not in (None, source):
        raise merged.refuse("tls.cert_source", f'tls.pkey_source is "{source}"')
    if not forms.is_https(merged.require("tls.server")):
        raise merged.refuse("tls.server", "only https://HOST[:PORT] is safe")
    return Site(os.path.abspath(merged.require("storage.path")), Store(source), paths, usual)

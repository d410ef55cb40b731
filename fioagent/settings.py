"""The agent's own few settings, each with its default and a reason to touch it.

Files are read in order, later ones win key by key: ``/usr/lib/fioagent/*.toml``
(image), ``/etc/fioagent/*.toml`` (device). ``FIOAGENT_CONFIG`` names one file
instead of all of them. An unknown key is an error: a typo must not pass as set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fioagent.certcheck import Policy
from fioagent.errors import ConfigError
from fioagent.ports import Disk

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_ISSUANCES = 9  # as many as the kept journals can tell of
DIRECTORIES = ("/usr/lib/fioagent", "/etc/fioagent")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, typed; names are ``section_key``.

    Attributes:
        est_server: base URL of the EST server, ``https://host:port/.well-known/est``.
        est_allow_san_loss: take a certificate without the SubjectAltName of the old one.
        est_require_chain: refuse a certificate whose issuer is nowhere at hand.
        rotation_due_at: share of the certificate's life after which it is due, 0 to 1.
        rotation_issuances_per_day: certificates that may be requested within a day, 1 to 9.
        rotation_trust_check: who has to accept the new pair in a handshake before the
            gateway is told of it: "gateway", "est" or "none".
        handlers_directory: where the programs of OnChanged have to lie.
        handlers_run: "direct" as our children, "systemd-run" as units of their own, or
            "auto": the latter where we run in a sandbox.
        handlers_timeout_s: what each of them may take, in seconds, 1 to 3600.
        actions_directory: remote actions that this image knows.
        services_manager: "auto" (systemd where it runs the machine), "systemd" or "none".
        services_restart: units that hold the credential in memory.
        origins: file that set a value, by ``section.key``.
    """

    est_server: str | None = None
    est_allow_san_loss: bool = False
    est_require_chain: bool = False
    rotation_due_at: float = 0.66
    rotation_issuances_per_day: int = 6
    rotation_trust_check: str = "gateway"
    handlers_directory: str = "/usr/share/fioconfig/handlers"
    handlers_run: str = "auto"
    handlers_timeout_s: int = 300
    actions_directory: str = "/usr/share/fioconfig/actions"
    services_manager: str = "auto"
    services_restart: tuple[str, ...] = ("aktualizr-lite.service",)
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def certificate_policy(self) -> Policy:
        return Policy(
            allow_san_loss=self.est_allow_san_loss,
            require_chain=self.est_require_chain,
            minimum_life=timedelta(days=1),
        )


_CHOICES = {
    "rotation.trust_check": ("gateway", "est", "none"),
    "handlers.run": ("auto", "direct", "systemd-run"),
    "services.manager": ("auto", "systemd", "none"),
}
_RANGES = {
    "rotation.issuances_per_day": (1, MOST_ISSUANCES),
    "handlers.timeout_s": (1, 3600),
}
_KEYS: dict[str, type] = {
    "est.server": str,
    "est.allow_san_loss": bool,
    "est.require_chain": bool,
    "rotation.due_at": float,
    "rotation.issuances_per_day": int,
    "rotation.trust_check": str,
    "handlers.directory": str,
    "handlers.run": str,
    "handlers.timeout_s": int,
    "actions.directory": str,
    "services.manager": str,
    "services.restart": list,
}


def load(disk: Disk, environ: Mapping[str, str]) -> Settings:
    """Raises ConfigError naming file and key."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in _files(disk, environ):
        for key, value in _parse(path, disk.read(path)).items():
            values[key.replace(".", "_")] = value
            origins[key] = path
    return Settings(**values, origins=origins)


def _files(disk: Disk, environ: Mapping[str, str]) -> list[str]:
    named = environ.get("FIOAGENT_CONFIG")
    if named:
        return [named]
    return [
        os.path.join(directory, name)
        for directory in DIRECTORIES
        for name in disk.names(directory)
        if name.endswith(".toml")
    ]


def _parse(path: str, raw: bytes) -> dict[str, Any]:
    try:
        data = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: not valid TOML: {error}") from error
    found = {}
    for section, table in data.items():
        if not isinstance(table, dict):
            raise ConfigError(f"cannot use {section} in {path}: it belongs under a [section]")
        for name, value in table.items():
            key = f"{section}.{name}"
            found[key] = _checked(path, key, value)
    return found


def _checked(path: str, key: str, value: Any) -> Any:
    wanted = _KEYS.get(key)
    if wanted is None:
        raise ConfigError(
            f"cannot use {key} in {path}: there is no such setting",
            hint=f"settings are: {', '.join(_KEYS)}",
        )
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise ConfigError(f"cannot use {key} in {path}: it is not {_WORDS[wanted]}")
    choices = _CHOICES.get(key)
    if choices and value not in choices:
        raise ConfigError(f"cannot use {key} in {path}: it is none of {', '.join(choices)}")
    least, most = _RANGES.get(key, (0, 0))
    if wanted is int and value not in range(least, most + 1):
        raise ConfigError(f"cannot use {key} in {path}: it is not between {least} and {most}")
    if isinstance(value, float) and not 0.0 < value <= 1.0:
        raise ConfigError(f"cannot use {key} in {path}: it is not between 0 and 1")
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f"cannot use {key} in {path}: it is not a list of strings")
        return tuple(value)
    return value


_WORDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list of strings",
}

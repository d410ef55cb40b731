"""The agent's own few settings, each with its default and a reason to touch it.

Sources in order, later ones win key by key: ``/usr/lib/fioagent/*.toml`` (image),
``/etc/fioagent/*.toml`` (device), and for what fioconfig knows too its variables, of
``/etc/default/fioconfig`` and of the process. ``FIOAGENT_CONFIG`` names one file
instead of all of them. An unknown key is an error: a typo must not pass as set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from fioagent import causes, forms, proxy, sota
from fioagent.catalogue import KEYS
from fioagent.certcheck import Policy
from fioagent.errors import ConfigError
from fioagent.keystore import object_ids
from fioagent.ports import Disk
from fioagent.proxy import Proxy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DIRECTORIES: Final = ("/usr/lib/fioagent", "/etc/fioagent")
# systemd reads both for the service, the later one last.
_LOWER: Final = {"HTTPS_PROXY": "https_proxy", "NO_PROXY": "no_proxy"}  # as curl takes them
ENVIRONMENT_FILES: Final = ("/etc/default/fioconfig", "/etc/default/fioagent")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, typed; names are ``section_key``, meanings in ``KEYS``.

    Attributes:
        origins: file or variable that set a value, by ``section.key``.
    """

    config_secrets_directory: str = "/var/run/secrets"
    config_unsafe_handlers: bool = False
    config_url: str | None = None
    daemon_interval: timedelta = timedelta(minutes=5)
    est_server: str | None = None
    est_label: str | None = None
    est_trust_file: str | None = None
    est_timeout: timedelta = timedelta(minutes=1)
    est_csrattrs: bool = True
    est_cacerts: bool = True
    est_proof_of_possession: str = "asked"
    est_send_chain: bool = False
    est_strict_x509: bool = False
    est_accept_common_name: bool = False
    est_allow_san_loss: bool = False
    est_require_chain: bool = False
    est_minimum_life: timedelta | None = None
    est_clock_skew: timedelta = timedelta(minutes=10)
    rotation_due_at: float = 0.66
    rotation_due_before_expiry: timedelta | None = None
    rotation_spread: timedelta = timedelta(days=14)
    rotation_window: timedelta = timedelta()
    rotation_issuances_per_day: int = 6
    rotation_trust_check: str = "gateway"
    token_key_ids: tuple[str, ...] = object_ids.USUAL.keys
    token_certificate_ids: tuple[str, ...] = object_ids.USUAL.certificates
    proxy_url: str | None = None
    proxy_use_for: tuple[str, ...] = ()
    proxy_except: tuple[str, ...] = ()
    handlers_directory: str = "/usr/share/fioconfig/handlers"
    handlers_run: str = "auto"
    handlers_timeout: timedelta = timedelta(minutes=5)
    actions_directory: str = "/usr/share/fioconfig/actions"
    services_manager: str = "auto"
    services_restart: tuple[str, ...] = ("aktualizr-lite.service",)
    sota_paths: tuple[str, ...] = sota.SEARCH_LIST
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def certificate_policy(self) -> Policy:
        return Policy(
            allow_san_loss=self.est_allow_san_loss,
            require_chain=self.est_require_chain,
            skew=self.est_clock_skew,
            minimum_life=self.est_minimum_life,
        )

    def proxy_to(self, peer: str, host: str, port: int) -> Proxy | None:
        """On the way to ``peer``, "est" or "gateway"; None where none is to be used."""
        if self.proxy_url is None or peer not in self.proxy_use_for:
            return None
        if proxy.is_excepted(host, port, self.proxy_except):
            return None
        try:
            return proxy.parse(self.proxy_url)
        except ValueError as error:
            # Only now: the variable belongs to other programs too, which know other kinds.
            origin = self.origins.get("proxy.url", "the settings")
            raise ConfigError(f"cannot use proxy.url, {origin}: {error}") from error


def load(disk: Disk, environ: Mapping[str, str]) -> Settings:
    """Raises ConfigError naming file and key, or the variable."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in _files(disk, environ):
        for key, value in _parse(path, disk.read(path)).items():
            values[key.replace(".", "_", 1)] = value
            origins[key] = path
    for origin, variables in _environments(disk, environ):
        for key, known in KEYS.items():
            name = known.variable or ""
            text = variables.get(name, "") or variables.get(_LOWER.get(name, ""), "")
            if text and known.read_text is not None:
                name = f"{known.variable} in {origin}"
                values[key.replace(".", "_", 1)] = _checked(name, known.read_text, text)
                origins[key] = name
    return Settings(**values, origins=origins)


def _environments(disk: Disk, environ: Mapping[str, str]) -> list[tuple[str, Mapping[str, str]]]:
    """The service gets the file from systemd; a person at the device shall see the same."""
    found: list[tuple[str, Mapping[str, str]]] = []
    for path in () if environ.get("FIOAGENT_CONFIG") else ENVIRONMENT_FILES:
        content = disk.read_if_there(path) or b""
        found.append((path, forms.assignments(content.decode("utf-8", "replace"))))
    return [*found, ("the environment", environ)]


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
    except (ValueError, RecursionError) as error:  # TOML's own, a number too long, nesting too deep
        raise ConfigError(f"cannot read {path}: not valid TOML: {error}") from error
    found = {}
    for section, table in data.items():
        if not isinstance(table, dict):
            raise ConfigError(f"cannot use {section} in {path}: it belongs under a [section]")
        for name, value in table.items():
            key = f"{section}.{name}"
            known = KEYS.get(key)
            if known is None:
                facts = {"key": key, "path": path, "known": ", ".join(KEYS)}
                raise ConfigError.of(causes.UNKNOWN_SETTING, facts)
            found[key] = _checked(f"{key} in {path}", known.read, value)
    return found


def _checked(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cannot use {name}: {error}") from error


def value_of(settings: Settings, key: str) -> str | bool | float | list[str] | None:
    """As TOML and JSON write it; a duration is text such as "24h"."""
    value = getattr(settings, key.replace(".", "_", 1))
    if key == "proxy.url" and value is not None:
        return proxy.shown(value)
    if isinstance(value, timedelta):
        return forms.duration_text(value)
    found: str | bool | float | list[str] | None = (
        list(value) if isinstance(value, tuple) else value
    )
    return found


def shown(settings: Settings) -> list[dict[str, object]]:
    """Each setting with its value, where that is from, its unit and its meaning."""
    return [
        {
            "key": key,
            "value": value_of(settings, key),
            "origin": settings.origins.get(key, "default"),
            "unit": known.unit,
            "meaning": known.meaning,
            "variable": known.variable,
        }
        for key, known in KEYS.items()
    ]

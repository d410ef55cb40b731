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

from fioagent import forms, sota
from fioagent.certcheck import Policy
from fioagent.errors import ConfigError
from fioagent.ports import Disk

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_ISSUANCES: Final = 9  # as many as the kept journals can tell of
DIRECTORIES: Final = ("/usr/lib/fioagent", "/etc/fioagent")
# systemd reads both for the service, the later one last.
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
    est_allow_san_loss: bool = False
    est_require_chain: bool = False
    rotation_due_at: float = 0.66
    rotation_due_before_expiry: timedelta | None = None
    rotation_spread: timedelta = timedelta(days=14)
    rotation_window: timedelta = timedelta()
    rotation_issuances_per_day: int = 6
    rotation_trust_check: str = "gateway"
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
            minimum_life=timedelta(days=1),
        )


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a setting.

    Attributes:
        read: from TOML; TypeError or ValueError says what is wrong with it.
        unit: of the value, in words.
        meaning: one line.
        variable: fioconfig's name of it; None where it has none.
        read_text: from that variable.
    """

    read: Callable[[Any], Any]
    unit: str
    meaning: str
    variable: str | None = None
    read_text: Callable[[str], Any] | None = None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it is not a string")
    return value


def _some_text(value: Any) -> str:
    if not _text(value):
        raise ValueError("it is empty")
    return str(value)


def _https(value: Any) -> str:
    if not forms.is_https(_text(value)):
        raise ValueError("only https://HOST[:PORT]/PATH is safe")
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("it is not true or false")
    return value


def _flag_text(value: str) -> bool:
    # Go's strconv.ParseBool, by which fioconfig reads it.
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise ValueError("it is not true or false")


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("it is not a number")
    if not 0.0 < value <= 1.0:
        raise ValueError("it is not between 0 and 1")
    return float(value)


def _issuances(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("it is not a whole number")
    if value not in range(1, MOST_ISSUANCES + 1):
        raise ValueError(f"it is not between 1 and {MOST_ISSUANCES}")
    return value


def _duration(value: Any) -> timedelta:
    return forms.duration(_text(value))


def _handler_limit(value: Any) -> timedelta:
    found = _duration(value)
    if not timedelta(seconds=1) <= found <= timedelta(hours=1):
        raise ValueError("it is not between 1s and 1h")
    return found


def _interval(value: str) -> timedelta:
    found = forms.duration(_text(value))
    if found < timedelta(seconds=1):
        raise ValueError("it is less than a second")
    return found


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it is not a list of strings")
    return tuple(value)


def _paths_text(value: str) -> tuple[str, ...]:
    found = tuple(path for path in value.split(",") if path)
    if not found:
        raise ValueError("it names no path")
    return found


def _choice(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if _text(value) not in choices:
            raise ValueError(f"it is none of {', '.join(choices)}")
        return str(value)

    return read


KEYS: Final[Mapping[str, Key]] = {
    "config.secrets_directory": Key(
        _some_text, "path", "where configuration is extracted to", "SECRETS_DIR", _some_text
    ),
    "config.unsafe_handlers": Key(
        _flag,
        "true or false",
        "run handlers from anywhere, not from /usr/share/fioconfig/handlers alone",
        "UNSAFE_CALLBACKS",
        _flag_text,
    ),
    "config.url": Key(
        _https, "URL", "of the configuration, instead of tls.server/config", "CONFIG_URL", _https
    ),
    "daemon.interval": Key(
        _interval, "duration", "from check-in to check-in", "DAEMON_INTERVAL", _interval
    ),
    "est.server": Key(_text, "URL", "EST server, https://HOST:PORT/.well-known/est"),
    "est.allow_san_loss": Key(
        _flag, "true or false", "take a certificate without the SubjectAltName of the old one"
    ),
    "est.require_chain": Key(
        _flag, "true or false", "refuse a certificate whose issuer is nowhere at hand"
    ),
    "rotation.due_at": Key(
        _share, "share, 0 to 1", "of the certificate's life, after which it is due"
    ),
    "rotation.due_before_expiry": Key(
        _duration, "duration", "due so long before the end instead of by rotation.due_at"
    ),
    "rotation.spread": Key(
        _duration, "duration", "over which devices with equal certificates spread"
    ),
    "rotation.window": Key(
        _duration, "duration", "over which a fleet spreads after a trigger without WINDOW"
    ),
    "rotation.issuances_per_day": Key(
        _issuances, "count, 1 to 9", "certificates that may be requested within a day"
    ),
    "rotation.trust_check": Key(
        _choice("gateway", "est", "none"),
        "gateway, est, none",
        "who has to take the new pair in a handshake before the gateway is told of it",
    ),
    "handlers.directory": Key(_some_text, "path", "where the programs of OnChanged have to lie"),
    "handlers.run": Key(
        _choice("auto", "direct", "systemd-run"),
        "auto, direct, systemd-run",
        "as children, as units of their own, or auto: the latter from inside a sandbox",
    ),
    "handlers.timeout": Key(_handler_limit, "duration, 1s to 1h", "that each handler may take"),
    "actions.directory": Key(_some_text, "path", "remote actions that this image knows"),
    "services.manager": Key(
        _choice("auto", "systemd", "none"), "auto, systemd, none", "who restarts services"
    ),
    "services.restart": Key(_texts, "units", "that hold the credential in memory"),
    "sota.paths": Key(
        _texts, "paths", "where sota.toml is searched, in order", "SOTA_DIR", _paths_text
    ),
}


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
            text = variables.get(known.variable or "", "")
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
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: not valid TOML: {error}") from error
    found = {}
    for section, table in data.items():
        if not isinstance(table, dict):
            raise ConfigError(f"cannot use {section} in {path}: it belongs under a [section]")
        for name, value in table.items():
            key = f"{section}.{name}"
            known = KEYS.get(key)
            if known is None:
                raise ConfigError(
                    f"cannot use {key} in {path}: there is no such setting",
                    hint=f"settings are: {', '.join(KEYS)}",
                )
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

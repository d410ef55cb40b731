"""sota.toml of a new device: sections, keys and order of factory-registration-ref."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fioagent.factory.errors import RefusedError

# Section, key and value as it stands in the file, with quotes.
Overrides = Mapping[str, Mapping[str, str | None]]

KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
# sota.toml is read as TOML by some and as INI by others, and SOTA_DIR is a list with commas.
UNFIT_FOR_PATH: Final = frozenset('"\\,;#\n\r\t')
# What lmp-device-register sends when the key is in a token.
IN_TOKEN: Final[Overrides] = {
    "tls": {"pkey_source": '"pkcs11"', "cert_source": '"pkcs11"'},
    "storage": {"tls_pkey_path": "", "tls_clientcert_path": ""},
    "import": {"tls_pkey_path": "", "tls_clientcert_path": ""},
}


def render(gateway: str, hardware_id: str, directory: str, overrides: Overrides) -> str:
    """The file for a device that keeps its own in ``directory``.

    An override that is empty or None leaves the key out; ``""`` in quotes is an empty value.
    """
    sections: dict[str, dict[str, str | None]] = _sections(gateway, hardware_id, directory)
    for section, values in overrides.items():
        sections.setdefault(section, {}).update(values)
    return "\n".join(
        f"[{section}]\n" + "".join(_line(key, value) for key, value in values.items())
        for section, values in sections.items()
    )


def _line(key: str, value: str | None) -> str:
    return f"{key} = {value}\n" if value else f"# {key} is not set\n"


def _sections(gateway: str, hardware_id: str, directory: str) -> dict[str, dict[str, str | None]]:
    sections = {
        "tls": {
            "server": gateway,
            "ca_source": "file",
            "pkey_source": "file",
            "cert_source": "file",
        },
        "provision": {"server": gateway, "primary_ecu_hardware_id": hardware_id},
        "uptane": {"repo_server": f"{gateway}/repo", "key_source": "file"},
        "pacman": {
            "type": "ostree+compose_apps",
            "ostree_server": f"{gateway}/treehub",
            "compose_apps_root": f"{directory}/compose-apps",
        },
        "storage": {"type": "sqlite", "path": f"{directory}/"},
        "import": {
            "tls_cacert_path": f"{directory}/root.crt",
            "tls_pkey_path": f"{directory}/pkey.pem",
            "tls_clientcert_path": f"{directory}/client.pem",
        },
    }
    return {
        section: {key: f'"{value}"' for key, value in values.items()}
        for section, values in sections.items()
    }


def check_overrides(asked: Any) -> Overrides:
    """What a device sent as ``overrides``. RefusedError: it would not be lines of the file."""
    if not isinstance(asked, dict):
        raise RefusedError(400, "Invalid data type for 'overrides'")
    for section, values in asked.items():
        if not isinstance(values, dict):
            raise RefusedError(400, f"Invalid data type for 'overrides' of {section!r}")
        for key, value in values.items():
            if not (KEY.fullmatch(section) and KEY.fullmatch(key)):
                raise RefusedError(400, f"Invalid name in 'overrides': {section!r}.{key!r}")
            if not (value is None or (isinstance(value, str) and value.isprintable())):
                raise RefusedError(400, f"Invalid value in 'overrides': {section}.{key}")
    return asked

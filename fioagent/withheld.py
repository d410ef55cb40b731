"""The secrets of this device, as far as they can be known: what must not be in a support bundle."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from fioagent import redaction, sota
from fioagent.config import document, trigger
from fioagent.config.household import keys_at_hand
from fioagent.errors import AgentError, ConfigError
from fioagent.keystore.object_ids import PIN_CREDENTIAL
from fioagent.ports import Disk
from fioagent.site import Device


def secrets(
    environ: Mapping[str, str],
    device: Device | None,
    disk: Disk,
    paths: Sequence[str],
    *,
    can_ask: bool,
) -> Iterator[bytes]:
    """Every one that can be known.

    Args:
        environ: of the agent.
        device: None where sota.toml or the settings cannot be used.
        disk: to read with.
        paths: what sota.toml is made of.
        can_ask: the private key may be asked to open values.
    """
    for path in paths:
        with contextlib.suppress(ConfigError):
            pin = sota.SotaFile.parse(path, disk.read_if_there(path) or b"").value("p11.pass")
            yield (pin or "").encode()
    environ = {**os.environ, **environ}
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        with contextlib.suppress(ConfigError):
            yield disk.read_if_there(os.path.join(directory, PIN_CREDENTIAL)) or b""
    for value in environ.values():
        yield from redaction.passwords(value) if "@" in value else ()
    if device is not None:
        yield from redaction.passwords(device.settings.proxy_url or "")
        yield from _values(device, disk, can_ask=can_ask)


def _values(device: Device, disk: Disk, *, can_ask: bool) -> Iterator[bytes]:
    """Of the configuration: as they are opened, and as they lie extracted."""
    plain = {trigger.FILE_NAME}
    with contextlib.suppress(AgentError):
        content = disk.read_if_there(device.site.config)
        if content is not None:
            files = document.files(content, device.site.config)
            plain |= {each.name for each in files if each.unencrypted}
            keys = keys_at_hand(device) if can_ask else []
            opened = document.values(content, keys, device.site.config)
            yield from (each.content or b"" for each in opened if each.name not in plain)
    secrets = device.settings.config_secrets_directory
    for directory, _, names in os.walk(secrets):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.relpath(path, secrets) not in plain:
                with contextlib.suppress(ConfigError):
                    yield disk.read_if_there(path) or b""

"""What a device tells about itself in its configuration: remote actions, WireGuard's public key.

fioconfig internal/remote_actions.go, init_funcs.go. Told only where it differs
from what the gateway has: once, and again when an update brings another action.
It is asked after the configuration was fetched, so that nothing that an operator
has set is overwritten by a device that has just lost its copy.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fioagent.config.extraction import Value
from fioagent.config.household import Household, open_rotation
from fioagent.errors import AgentError, ConfigError
from fioagent.ports import ConfigFile

ACTIONS_FILE: Final = "fio-remote-actions"
VPN_FILE: Final = "wireguard-client"
VPN_HANDLER: Final = "factory-config-vpn"
_VPN_KEY: Final = "wg-priv"


def tell(household: Household, values: Sequence[Value]) -> None:
    """Never fails the check-in: a gateway without the route is as good as before.

    While a rotation is open the gateway takes configuration for the next key alone.
    """
    known = {value.name: value.content for value in values}
    if open_rotation(household.device) is not None:
        return
    try:
        files = [*_actions(household, known), *_vpn(household, known)]
        if files:
            device = household.device
            device.sessions.gateway(device.live_credential()).initial_config(files)
            household.say(f"told the gateway: {', '.join(file.name for file in files)}")
    except AgentError as error:
        household.say(str(error))


def _actions(household: Household, known: Mapping[str, bytes | None]) -> list[ConfigFile]:
    """The list of remote actions; an image without the directory knows of none."""
    disk = household.device.disk
    if not disk.is_directory(household.actions):
        return []
    # A name that is no text is none that an operator could ask for.
    listed = ",".join(name for name in disk.names(household.actions) if name.isprintable())
    # None: somebody has encrypted it, and so has set it on purpose.
    if known.get(ACTIONS_FILE, b"") in (listed.encode(), None):
        return []
    return [ConfigFile(ACTIONS_FILE, listed, unencrypted=True, on_changed=())]


def _vpn(household: Household, known: Mapping[str, bytes | None]) -> list[ConfigFile]:
    """The public key of a VPN that is off, on an image that has the handler for it."""
    handler = os.path.join(household.handlers.directory, VPN_HANDLER)
    if VPN_FILE in known or not household.device.disk.is_there(handler):
        return []
    public = base64.b64encode(_vpn_public_key(household)).decode("ascii")
    value = f"enabled=0\n\npubkey={public}"
    return [ConfigFile(VPN_FILE, value, unencrypted=True, on_changed=(handler,))]


def _vpn_public_key(household: Household) -> bytes:
    """Of the key in ``wg-priv``, in the form of wg(8), which is made if there is none."""
    disk = household.device.disk
    path = os.path.join(household.device.site.storage, _VPN_KEY)
    content = disk.read_if_there(path)
    if content is None:
        key = X25519PrivateKey.generate()
        raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        disk.replace(path, base64.b64encode(raw) + b"\n", mode=0o600)
    else:
        try:
            key = X25519PrivateKey.from_private_bytes(base64.b64decode(content, validate=False))
        except ValueError as error:
            raise ConfigError(f"cannot use {path}: it is no WireGuard key") from error
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

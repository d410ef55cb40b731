"""Everything that can be known to fail before anything is changed.

Nothing is written here, neither on the device nor on a server. What is found
wrong stops the rotation before its first record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from fioagent import causes, sota
from fioagent.config import document
from fioagent.errors import ConfigError, NotDerivingError, NotSupportedError, TemporaryError
from fioagent.model import SOTA_KEYS, CredentialRef
from fioagent.rotation import policy
from fioagent.site import Device, read_sota
from fioagent.sota import SotaFile
from fioagent.x509 import Certificate, spki_der

NEEDED_BYTES: Final = 256 * 1024  # key, certificate, sota.toml, the journal; beside the config


class Found(NamedTuple):
    """What is known before anything is changed.

    Attributes:
        live: the credential that is replaced.
        lost: names of configuration files that no key on the device opens, in order.
    """

    live: CredentialRef
    lost: Sequence[str]


def check(device: Device, new: CredentialRef, *, adopted: bool, seen: Sequence[datetime]) -> Found:
    """What is found, once nothing speaks against replacing the live credential by ``new``.

    ``adopted``: ``new`` is there already, and the gateway may wait for it.
    ``seen``: when servers have issued certificates to this device, as far as is known.

    Raises:
        ConfigError: this device needs a person first.
        TemporaryError: the clock or the line.
        NotSupportedError: a gateway that cannot rotate.
        CredentialRefusedError: the gateway refuses the live credential.
    """
    live = device.live_credential()
    certificate = require_pair(device, live)
    require_clock(device, certificate, *seen)
    require_editable_sota(device, new)
    require_room(device)
    at_hand = [device.keys.private_key(live)]
    if adopted:
        at_hand.append(device.keys.private_key(new))
    else:
        device.keys.require_free(new)
    ending = policy.is_ending(certificate.not_before, certificate.not_after, device.clock.now())
    if not ending:
        for key in at_hand:
            require_derives(key)
    lost = [
        *lost_here(device, at_hand, ending=ending),
        *lost_on_gateway(device, live, at_hand, ending=ending),
    ]
    return Found(live, sorted(set(lost)))


def require_pair(device: Device, credential: CredentialRef) -> Certificate:
    """The certificate, which is there and belongs to the key."""
    certificate = device.keys.certificate(credential)
    if certificate is None:
        raise ConfigError.of(causes.NO_CERTIFICATE, {"path": credential.certificate})
    if spki_der(device.keys.private_key(credential).public_key()) != certificate.spki_der:
        facts = {"key": credential.key, "certificate": credential.certificate}
        raise ConfigError.of(causes.NO_PAIR, facts)
    return certificate


def require_derives(key: document.Key) -> None:
    """Raises NotDerivingError: a token's key that can do TLS, but cannot open a value."""
    key.exchange(ec.ECDH(), ec.generate_private_key(key.curve).public_key())


def require_derives_as(new: document.Key, old: document.Key) -> None:
    """What ``old`` opens, ``new`` has to open. Raises NotDerivingError."""
    try:
        require_derives(old)
    except NotDerivingError:
        return
    require_derives(new)


def require_clock(device: Device, certificate: Certificate | None, *seen: datetime) -> None:
    now = device.clock.now()
    issued = None if certificate is None else certificate.not_before
    floors = (issued, device.clock.image_time(), *seen)
    if not policy.clock_is_plausible(now, *floors):
        raise TemporaryError.of(causes.CLOCK, {"now": f"{now:%Y-%m-%d %H:%M}"})


def require_editable_sota(device: Device, new: CredentialRef) -> None:
    """It can be made to name ``new``, for every program that reads it. Raises ConfigError."""
    keys = SOTA_KEYS[new.store]
    merged = device.sota()
    file = sota.file_to_edit(merged, keys, device.disk.can_replace)
    sota.require_clean(file, keys)
    after = merged.replaced(
        file.path, sota.edited(file, dict(zip(keys, (new.key, new.certificate), strict=True)))
    )
    for key, value in zip(keys, (new.key, new.certificate), strict=True):
        if after.get(key) != value:
            raise AssertionError(f"{key} is overridden behind {file.path}")
    _require_one_view(device, keys, file, dict(zip(keys, (new.key, new.certificate), strict=True)))


def _require_one_view(
    device: Device, keys: Sequence[str], file: SotaFile, values: Mapping[str, str]
) -> None:
    """With -c: what other programs read must not go on naming a pair that will be gone."""
    if device.site.usual_paths == device.site.sota_paths:
        return
    try:
        usual = read_sota(device.disk, device.site.usual_paths)
    except ConfigError:
        return  # nothing there: a lab directory
    for key in keys:
        named, live = usual.get(key), device.sota().require(key)
        if named is None or device.disk.real_path(named) != device.disk.real_path(live):
            continue
        if usual.replaced(file.path, sota.edited(file, values)).get(key) != values[key]:
            raise ConfigError(
                f"cannot rotate: other programs read {key} from elsewhere than -c says, "
                "and would go on naming the old pair",
                hint=f"leave -c away: {', '.join(device.site.usual_paths)}",
            )


def require_room(device: Device) -> None:
    """Enough of it, and writable. Raises ConfigError."""
    config = device.disk.read_if_there(device.site.config) or b""
    # The config is there three times for a moment: as it is, staged, and on its way in place.
    needed = NEEDED_BYTES + 2 * len(config)
    free = device.disk.free_bytes(device.site.storage)
    if free < needed:
        facts = {"storage": device.site.storage, "free": free // 1024, "needed": needed // 1024}
        raise ConfigError.of(causes.NO_ROOM, facts)
    if not device.disk.can_replace(os.path.join(device.site.storage, "any")):
        raise ConfigError.of(causes.STORAGE_READ_ONLY, {"storage": device.site.storage})


def lost_here(device: Device, keys: Sequence[document.Key], *, ending: bool) -> list[str]:
    """Files of config.encrypted that none of ``keys`` opens. Raises as ``_lost``."""
    config = device.disk.read_if_there(device.site.config)
    return [] if config is None else _lost(config, keys, device.site.config, ending=ending)


def lost_on_gateway(
    device: Device, live: CredentialRef, keys: Sequence[document.Key], *, ending: bool
) -> list[str]:
    """The same of the gateway's copy; asks for it, which changes nothing there."""
    gateway = device.sessions.gateway(live)
    try:
        config = gateway.device_config()
    except NotSupportedError as error:
        # update-server and dg-satellite answer 404; the route came with rotation.
        raise unsupported(error) from error
    origin = "the device's configuration on the gateway"
    return [] if config is None else _lost(config, keys, origin, ending=ending)


def _lost(config: bytes, keys: Sequence[document.Key], origin: str, *, ending: bool) -> list[str]:
    """Values that nobody can open cannot be carried over: a person is given time to set them again.

    Not all the time there is. They are lost with the old key as with the new one,
    and a device whose certificate has expired is lost with them: where that is ``ending``,
    they are told and hold nothing up.
    """
    lost = document.lost(config, keys, origin)
    if lost and not ending:
        raise ConfigError.of(causes.VALUES_LOST, {"names": ", ".join(lost), "origin": origin})
    return lost


def unsupported(error: NotSupportedError) -> NotSupportedError:
    return NotSupportedError.of(causes.UNSUPPORTED, {"error": error}, status=error.status)

"""Is it still the device that the rotation began with?

Others may change sota.toml or register the device again while a rotation is
open. Nothing of theirs may be replaced or removed, so this is asked before every
phase. Reads only.
"""

from __future__ import annotations

from fioagent.errors import CredentialChangedError
from fioagent.model import CredentialRef, sha256_hex
from fioagent.rotation.machine import Phase, Rotation
from fioagent.site import Device


def require_known_credential(rotation: Rotation, device: Device) -> None:
    """sota.toml names a credential of this rotation, and the old one is the same still.

    A new registration gives the device another identity, under the same file names perhaps.

    Raises:
        CredentialChangedError: what was found instead.
    """
    begun = rotation.facts[Phase.BEGUN]
    live = device.live_credential()
    if live not in _credentials_in(rotation):
        raise CredentialChangedError(
            f"cannot go on with rotation {rotation.id}: sota.toml names {live.key}, "
            "which it does not know",
            hint="somebody has changed sota.toml or registered the device since it began; "
            "'fioagent rotate --now --id ID' with a new id begins anew with what it names",
        )
    if live == rotation.old:
        certificate = device.keys.certificate(live)
        if certificate is None or sha256_hex(certificate.der) != begun["old_sha256"]:
            raise CredentialChangedError(
                f"cannot go on with rotation {rotation.id}: {live.certificate} is another "
                "certificate than the one that it began with",
                hint="the device was registered again since; the operator has to decide",
            )


def is_known(rotation: Rotation, device: Device) -> bool:
    """Whether the rotation can still go on."""
    try:
        require_known_credential(rotation, device)
    except CredentialChangedError:
        return False
    return True


def _credentials_in(rotation: Rotation) -> tuple[CredentialRef, ...]:
    """What sota.toml may name in a phase; a commit or a way back may have been cut in half."""
    match rotation.phase:
        case Phase.DEVICE_CONFIG_UPDATED | Phase.REVERTING:
            return (rotation.old, rotation.new)
        case Phase.COMMITTED | Phase.CONFIRMED | Phase.SERVICES_RESTARTED | Phase.RETIRED:
            return (rotation.new,)
        case _:
            return (rotation.old,)

"""What configuration may touch on this device: its ports, and the rules for handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fioagent.config import document
from fioagent.config.ports import Programs, SecretFiles
from fioagent.errors import ConfigError
from fioagent.model import CredentialRef
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Rotation
from fioagent.site import Device

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Handlers:
    """How ``OnChanged`` programs are run.

    Attributes:
        directory: where they have to lie.
        unsafe: they may lie anywhere.
        limit_s: what each of them may take.
        own_program: what they call us by, FIOCONFIG_BIN.
        passed_on: of our own environment, so that what they call of us finds the same device.
    """

    directory: str
    unsafe: bool
    limit_s: float
    own_program: str
    passed_on: dict[str, str]


@dataclass(frozen=True, slots=True)
class Household:
    """A device with its extracted files and its handlers.

    Attributes:
        device: places, settings and ports that a rotation has too.
        secrets: where values become files.
        programs: runs handlers and remote actions.
        handlers: see Handlers.
        actions: directory of remote actions.
        say: told what happens, a line at a time; never a value.
    """

    device: Device
    secrets: SecretFiles
    programs: Programs
    handlers: Handlers
    actions: str
    say: Say

    @property
    def lock(self) -> str:
        """One check-in or extraction at a time; a rotation has a lock of its own."""
        return f"{self.device.site.state_directory}/check-in.lock"


def open_rotation(device: Device) -> Rotation | None:
    """As its journal has it; None where that cannot be read, too. Reads only, without the lock."""
    try:
        rotation = Journal(device.disk, device.site.state_directory).load()
    except ConfigError:
        return None
    return rotation if rotation is not None and rotation.is_open else None


def keys_at_hand(device: Device) -> list[document.Key]:
    """The live key, and while a rotation is open the other one.

    Raises:
        ConfigError: there is none that can be used.
    """
    live = device.live_credential()
    rotation = open_rotation(device)
    others = () if rotation is None else (rotation.old, rotation.new)
    found: list[document.Key] = []
    trouble = None
    for credential in dict.fromkeys((live, *others)):
        try:
            found += _key(device, credential)
        except ConfigError as error:
            trouble = trouble or error
    if not found:
        raise trouble or ConfigError(f"cannot find the private key {live.key}")
    return found


def _key(device: Device, credential: CredentialRef) -> list[document.Key]:
    if not device.keys.has_key(credential):
        return []
    return [device.keys.private_key(credential)]

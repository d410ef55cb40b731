"""The devices of layer 2, as its trials see them: one way to act and to look for each key store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fioagent.factory import Factory
from tests.crash import shape
from tests.test_power_cuts import check_backed_out, check_finished, live_key_pem
from tests.world import Ran, World


class Subject(Protocol):
    """A device of the lab. Every check raises AssertionError, or what its looking meets."""

    @property
    def factory(self) -> Factory: ...
    @property
    def uuid(self) -> str: ...
    @property
    def env(self) -> Mapping[str, str]:
        """With which its ``fioagent`` runs."""
        ...

    @property
    def directory(self) -> Path:
        """Everything of the device is below it."""
        ...

    def fioagent(self, *arguments: str) -> Ran:
        """The command line, in this process."""
        ...

    def process_ended(self, *, powerless: bool) -> None:
        """One of its own has; with it the power of its TPM, or that stays on."""
        ...

    def close(self) -> None:
        """What plays its TPM ends."""
        ...

    def has_open_rotation(self) -> bool: ...

    def live_key(self) -> bytes:
        """What tells the key that sota.toml names from others."""
        ...

    def live_key_pem(self) -> str:
        """SPKI of the pair that sota.toml names, which has to match."""
        ...

    def check_reachable(self) -> None:
        """By a request of the live pair; the gateway may switch over to it."""
        ...

    def check_kept(self, key: bytes) -> None:
        """The key is still there, whatever is live."""
        ...

    def check_values(self) -> None:
        """Every value opens with a key of the device, and no secret lies about."""
        ...

    def check_live_opens(self) -> None:
        """config.encrypted opens with the live key alone."""
        ...

    def check_rotated(self) -> None:
        """As after a rotation that nothing disturbed."""
        ...

    def check_back(self) -> None:
        """As before a rotation that was given up."""
        ...

    def shape(self) -> str:
        """Digest of what the agent decides by."""
        ...


class InFiles:
    """A device whose keys are files."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.factory = world.factory
        self.uuid = world.uuid
        self.env: Mapping[str, str] = world.device.env
        self.directory = world.device.directory
        self.fioagent = world.fioagent
        self.check_reachable = world.check_reachable

    def process_ended(self, *, powerless: bool) -> None:
        """Its keys are where its files are."""

    def close(self) -> None:
        """There is none."""

    def has_open_rotation(self) -> bool:
        return (self.world.storage / "fioagent" / "rotation.journal").exists()

    def live_key(self) -> bytes:
        return self.world.live_pair()[1].read_bytes()

    def live_key_pem(self) -> str:
        certificate, key = self.world.certificate(), self.world.key()
        assert certificate.public_key() == key.public_key(), "key and certificate do not match"
        return live_key_pem(self.world)

    def check_kept(self, key: bytes) -> None:
        assert key in self.world.files().values(), "the old key is gone"

    def check_values(self) -> None:
        if (self.world.storage / "cert-rotation.state").exists():
            return  # of fioconfig, and the new key in it: that is what a takeover mends
        self.world.check_every_value_opens_with_a_key_at_hand()
        self.world.check_no_secret_outside()

    def check_live_opens(self) -> None:
        self.world.opened_config()

    def check_rotated(self) -> None:
        check_finished(self.world, self.world.event_names())

    def check_back(self) -> None:
        check_backed_out(self.world)
        assert self.world.opened_config() == self.world.opened_device_config(), "the copies differ"

    def shape(self) -> str:
        keys = shape.keys_in({**self.world.files(), "old": self.world.old_key})
        return shape.digest(self.world.files(), keys, self.factory, self.uuid)

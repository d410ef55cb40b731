"""Every way in which the agent touches the world, and what it may rely on there.

The rotation is written against these and nothing else. Built once, in
``agent.py``; the tests put counters, power cuts and faults in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from fioagent.model import CredentialRef, Issuance, ObjectIds, RotationId

if TYPE_CHECKING:
    import ssl

    from cryptography.hazmat.primitives.asymmetric import ec

    from fioagent.csrattrs import Demands
    from fioagent.x509 import Certificate


class Disk(Protocol):
    """Durable files. What has returned survives a power cut; what was cut never half-exists.

    Every method raises ConfigError in the user's words for what the file system refuses.
    """

    def read(self, path: str) -> bytes:
        """The whole content; ConfigError where the file is absent."""
        ...

    def read_if_there(self, path: str) -> bytes | None:
        """None where the file is absent; unreadable is still an error."""
        ...

    def names(self, directory: str) -> list[str]:
        """File names in a directory, sorted; empty where it is absent."""
        ...

    def real_path(self, path: str) -> str:
        """``path`` with every symbolic link resolved."""
        ...

    def is_directory(self, path: str) -> bool: ...

    def is_there(self, path: str) -> bool:
        """Whether the name exists, a dangling link included."""
        ...

    def can_replace(self, path: str) -> bool:
        """Whether ``replace`` has a chance: read-only mounts and modes considered."""
        ...

    def free_bytes(self, directory: str) -> int: ...

    def make_directory(self, path: str) -> None:
        """A directory for us alone (0700); present is fine."""
        ...

    def replace(
        self,
        path: str,
        content: bytes,
        *,
        mode: int = 0o600,
        keep_time: bool = False,
        modified_s: int | None = None,
    ) -> None:
        """All of ``content`` at ``path``, or what was there before.

        A file that exists keeps its mode and owner (``mode`` is for a new one),
        with ``keep_time`` its modification time too. ``modified_s``: that time,
        in unix seconds, instead of now.
        """
        ...

    def append(self, path: str, content: bytes) -> None:
        """``content`` at the end; a cut may leave a part of it, but harms nothing before it."""

    def link(self, path: str, target: str) -> None:
        """``path`` as a symbolic link to ``target``, whatever was there before."""
        ...

    def rename(self, path: str, new: str) -> None:
        """Nothing of ``path`` is left, a half-written copy included."""

    def remove(self, path: str) -> None:
        """The name is gone; absent is fine."""
        ...

    def settle(self, paths: Iterable[str]) -> None:
        """What a process that died has written, renamed or removed here is durable too."""
        ...

    def lock(self, path: str, purpose: str) -> AbstractContextManager[None]:
        """Hold the one lock; TemporaryError that says who holds it where it is taken."""
        ...


class KeyStore(Protocol):
    """Where private keys and certificates live: files, or one token."""

    def place_for(
        self, rotation: RotationId, live: CredentialRef, wanted: ObjectIds
    ) -> CredentialRef:
        """Where the pair that replaces ``live`` goes; ConfigError where no place is free."""
        ...

    def require_free(self, credential: CredentialRef) -> None:
        """ConfigError where an object stands at the place of ``credential``."""
        ...

    def generate(
        self,
        credential: CredentialRef,
        like: CredentialRef,
        *,
        announced: bool,
        curve: str | None = None,
    ) -> None:
        """A durable pair at its place, on ``curve`` or like ``like``. ConfigError: as it was.

        ``announced``: the one that is there has to stay, because a gateway may know it.
        """
        ...

    def has_key(self, credential: CredentialRef) -> bool:
        """Whether there is one, readable or not."""
        ...

    def private_key(self, credential: CredentialRef) -> ec.EllipticCurvePrivateKey:
        """The key; may be a token's, so it signs and exchanges but never shows itself."""
        ...

    def certificate(self, credential: CredentialRef) -> Certificate | None:
        """None where there is none."""
        ...

    def store_certificate(self, credential: CredentialRef, certificate: Certificate) -> None: ...

    def pairs(self) -> list[tuple[Certificate, CredentialRef]]:
        """Every certificate at a usual place whose key is there too."""
        ...

    def use_for_tls(self, credential: CredentialRef, context: ssl.SSLContext) -> None:
        """Let ``context`` prove possession of the key, with the leaf certificate alone."""
        ...

    def settle(self, credential: CredentialRef) -> None:
        """What a process that died has done at the place of ``credential`` is durable too."""
        ...

    def destroy(self, credential: CredentialRef) -> None:
        """Remove key and certificate. Absent is fine. MUST NOT touch any other object."""
        ...

    def retire(self, old: CredentialRef, new: CredentialRef) -> None:
        """Destroy ``old``, which ``new`` has replaced; names that others use lead to ``new``."""
        ...

    def close(self) -> None:
        """Nothing of it is used any more."""
        ...


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file of the device's configuration, as PATCH /config takes it."""

    name: str
    value: str
    unencrypted: bool
    on_changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FetchedConfig:
    """The answer to GET /config.

    Attributes:
        document: the configuration, JSON; None where the gateway says that it is unchanged,
            or that none was ever set.
        ever_set: False where none was ever set.
        date: the Date header, the configuration's own time, as the gateway spells it.
    """

    document: bytes | None
    ever_set: bool
    date: str | None


@dataclass(frozen=True, slots=True)
class Upload:
    """Where an artifact goes.

    Attributes:
        url: absolute; the gateway's own, or signed for this one use.
        content_type: to be sent with it.
    """

    url: str
    content_type: str


class Gateway(Protocol):
    """The device gateway, spoken to with one credential.

    Every method raises TemporaryError for the line and for 5xx and 429;
    CredentialRefusedError, NotSupportedError, PeerError for a definite no.
    """

    def check(self) -> int:
        """One harmless request; its status. The first with a new key switches the gateway over."""
        ...

    def handshake(self) -> None:
        """TLS alone, without a request: is the certificate's CA trusted? Changes nothing."""
        ...

    def config(self, since: str | None) -> FetchedConfig:
        """The device's configuration, unless it is that of ``since``, a ``date`` of its own."""
        ...

    def initial_config(self, files: Sequence[ConfigFile]) -> None:
        """Tell what is on this device; the same again is no change."""
        ...

    def device_config(self) -> bytes | None:
        """The device's own layer of configuration, JSON; None where there is none."""
        ...

    def patch_config(self, files: Sequence[ConfigFile], public_key_pem: str) -> None: ...

    def set_next_key(self, public_key_pem: str) -> None:
        """Announce the key that comes next; the same again is no change."""
        ...

    def post_events(self, events: Sequence[Mapping[str, object]]) -> None: ...

    def begin_test(self, name: str, identifier: str) -> str:
        """A remote action has begun; its id, the gateway's where ``identifier`` is empty."""
        ...

    def end_test(
        self, identifier: str, *, passed: bool, details: str, artifacts: Sequence[str]
    ) -> Mapping[str, Upload]:
        """Its result; where each artifact shall go, by name."""
        ...

    def send_artifact(self, upload: Upload, content: bytes) -> None: ...


class Est(Protocol):
    """An EST server, spoken to with one credential."""

    def csrattrs(self, renewed_san: bytes | None) -> Demands:
        """What a request has to have; ``known`` is False where nobody could be asked."""
        ...

    def cacerts(self) -> list[bytes]:
        """DER certificates of the CA, of which none is trusted for that.

        Raises TemporaryError, PeerError.
        """
        ...

    def reenroll(
        self, request_der: bytes, linked: Callable[[bytes], bytes] | None = None
    ) -> Issuance:
        """A simplereenroll answer to ``request_der``.

        With ``linked``, to the request that it makes for the tls-unique of the new
        connection of TLS 1.2 over which it goes out.

        Raises TemporaryError (``retry_after_s`` on 202, 429, 503), PeerError on a refusal.
        """
        ...

    def handshake(self) -> None:
        """TLS alone, as ``Gateway.handshake``."""
        ...


class Sessions(Protocol):
    """Connections: one kept alive per peer and credential."""

    def gateway(self, credential: CredentialRef) -> Gateway: ...

    def est(self, url: str, credential: CredentialRef) -> Est: ...

    def trusted_roots(self) -> list[Certificate]:
        """The configured trust anchors (import.tls_cacert_path)."""
        ...

    def probe(
        self, credential: CredentialRef, anchors_pem: bytes, est_url: str | None = None
    ) -> None:
        """A handshake with the gateway, or that EST server, trusted by ``anchors_pem`` alone.

        Raises TemporaryError where it was not reached or not trusted, CredentialRefusedError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time that survives a wrong clock: monotonic, within one boot.

    Attributes:
        boot_id: the kernel's; empty where it cannot be known.
        monotonic_us: CLOCK_MONOTONIC in microseconds.
    """

    boot_id: str
    monotonic_us: int


class Services(Protocol):
    """The programs that hold the old credential in memory."""

    def restart(self, unit: str, changed: Moment, since: Moment | None = None) -> str:
        """Restart ``unit`` if it runs since before ``changed``; a word on what was done.

        With ``since`` only if it was started after that: what it has read then is what changed.
        """
        ...

    def is_installed(self, program: str) -> bool:
        """Whether the search path has a program of this name that is not ours."""
        ...

    def is_running(self, program: str) -> bool:
        """Whether a process of this name is alive, started by whomever."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """UTC, aware, whole milliseconds at best; may be wrong by decades."""
        ...

    def image_time(self) -> datetime | None:
        """When the image was built: no clock is right that says less; None where nobody knows."""
        ...

    def moment(self) -> Moment: ...

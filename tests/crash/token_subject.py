"""A device of layer 2 whose keys are in a token of SoftHSM, or in a TPM that swtpm plays.

Its keys cannot be read, so what they open is asked of the token by the agent's own
key; everything else is looked at with other tools.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent.factory import Factory, Urls
from fioagent.factory.pki.certificates import key_digest
from fioagent.keystore.token_key import TokenKey
from tests.crash import shape
from tests.token_world import TokenWorld
from tests.tokens import LabToken, soft_token
from tests.world import BUNDLE, PLAIN, SECRET

_CONFIG: Final = {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN}
_AT_REGISTRATION: Final = ("01", "03")


class InToken:
    """The module's store lies beside the device's own files; a TPM is a machine of its own."""

    def __init__(self, world: TokenWorld) -> None:
        self.world = world
        self.factory = world.factory
        self.uuid = world.uuid
        self.env: Mapping[str, str] = {**world.token.env, **world.device.env}
        self.directory = world.device.directory.parent
        self.fioagent = world.fioagent

    @classmethod
    def made(
        cls,
        factory: Factory,
        urls: Urls,
        directory: Path,
        make: Callable[[Path], LabToken] = soft_token,
    ) -> InToken:
        """Registered, and with an encrypted configuration."""
        world = TokenWorld(factory, urls, directory / "device", make(directory / "token"))
        world.give_config()
        return cls(world)

    @property
    def token(self) -> LabToken:
        return self.world.token

    def process_ended(self, *, powerless: bool) -> None:
        if powerless:
            self.token.lose_power()
        else:
            self.token.let_go()

    def close(self) -> None:
        self.token.stop()

    def has_open_rotation(self) -> bool:
        return self.world.journal() is not None

    def live_key(self) -> bytes:
        return self.live_key_pem().encode()

    def live_key_pem(self) -> str:
        key, certificate = self.world.live_ids()
        found = self.world.certificate_file(certificate).read_bytes()
        public = x509.load_pem_x509_certificate(found).public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()
        assert self.token.public_key(key).endswith(point), "key and certificate do not match"
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def check_reachable(self) -> None:
        ran = self.fioagent("check-in")
        assert ran.code == 0, ran.err

    def check_kept(self, key: bytes) -> None:
        with self._keys() as keys:
            assert key in map(_pem, keys.values()), "the old key is gone"

    def check_values(self) -> None:
        """By any key of the token; and what is told anywhere is no secret."""
        with self._keys() as keys:
            for entries in self._copies():
                for name, entry in entries.items():
                    opens = (shape.opens(entry["Value"], key) for key in keys.values())
                    assert entry.get("Unencrypted") or any(opens), f"{name} is lost"
        for name, content in self._files().items():
            if name.startswith(("fioagent/", "cert-rotation")):
                for secret in (b"PRIVATE", b"hunter2", SECRET):
                    assert secret not in content, name

    def check_live_opens(self) -> None:
        assert self.world.extracted() == _CONFIG

    def check_rotated(self) -> None:
        """One pair in the token, and both copies of the configuration open with it."""
        self._check_objects(*self.world.live_ids())
        assert self.world.extracted() == _CONFIG
        with self._keys() as keys:
            (live,) = keys.values()
            for name, entry in dict(self.factory.device(self.uuid).config).items():
                assert entry.get("Unencrypted") or shape.opens(entry["Value"], live), (
                    f"{name} is lost"
                )

    def check_back(self) -> None:
        self._check_objects(*_AT_REGISTRATION)
        assert self.world.live_ids() == _AT_REGISTRATION
        assert not self.has_open_rotation()
        assert self.world.extracted() == _CONFIG

    def shape(self) -> str:
        with self._keys() as keys:
            named = {f"{name} in the token": key for name, key in keys.items()}
            objects = self.token.objects()
            return shape.digest(self._files(), named, self.factory, self.uuid, objects)

    def _check_objects(self, key: str, certificate: str) -> None:
        """What SoftHSM had begun, and given neither a label nor an id, nobody can remove."""
        assert [each for each in self.token.objects() if each[1]] == [
            ("Certificate", "client", certificate),
            ("Private Key", "tls", key),
            ("Public Key", "tls", key),
        ]

    @contextlib.contextmanager
    def _keys(self) -> Iterator[Mapping[str, TokenKey]]:
        """Those that the gateway has ever seen, by their ids: nothing is encrypted for others.

        SoftHSM itself crashes when a key is used whose writing was cut.
        """
        view = self.factory.device(self.uuid)
        known = filter(None, (view.public_key_pem, view.next_public_key_pem))
        seen = {*map(key_digest, known), *view.denied}
        found = self.token.objects()
        pairs = {each for kind, _, each in found if kind == "Private Key"}
        pairs &= {each for kind, _, each in found if kind == "Public Key"}
        with self.token.opened() as token:
            keys = {each: TokenKey(token, bytes.fromhex(each)) for each in sorted(pairs) if each}
            digests = {name: key_digest(_pem(key).decode()) for name, key in keys.items()}
            yield {name: key for name, key in keys.items() if digests[name] in seen}

    def _copies(self) -> list[Mapping[str, Any]]:
        local = json.loads((self.world.storage / "config.encrypted").read_bytes())
        return [local, dict(self.factory.device(self.uuid).config)]

    def _files(self) -> dict[str, bytes]:
        storage = self.world.storage
        found = (path for path in sorted(storage.rglob("*")) if path.is_file())
        return {str(path.relative_to(storage)): path.read_bytes() for path in found}


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

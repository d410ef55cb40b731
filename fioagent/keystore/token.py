"""One PKCS#11 token: the one owner of its module in this process, and what is known to go wrong.

Every call goes through one session and one lock. What modules of the field do
wrong is worked around here, each seen with tpm2-pkcs11 or SoftHSM:

- handles that C_GenerateKeyPair returns may be those of other objects: objects
  are only ever found again, by class and id, after the module was initialised anew;
- a key that has derived is "busy" until then, and cannot be destroyed;
- a killed process may leave objects that break a search without a class;
- a snapshot of the token is taken when the module is initialised, so what another
  process has stored since is not seen: "not found" is believed the second time.

A PIN is never tried twice: a TPM locks after three wrong ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pkcs11
from cryptography.hazmat.primitives.asymmetric import utils
from pkcs11 import KDF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11 import exceptions as refusals
from pkcs11.constants import DEFAULT
from pkcs11.types import DeriveMixin, SignMixin

from fioagent import causes, der
from fioagent.errors import AgentError, ConfigError, NotDerivingError
from fioagent.keystore.token_errors import AGAIN, PIN_REFUSALS, MissingError, Place, explained

KEY_CLASSES: Final = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
CLASSES: Final = (*KEY_CLASSES, ObjectClass.CERTIFICATE)
_ALL_CLASSES: Final = (*CLASSES, ObjectClass.SECRET_KEY, ObjectClass.DATA)
_P256: Final = bytes.fromhex("06082a8648ce3d030107")  # DER of the curve's OID
_DIGEST: Final = 32  # bytes that a P-256 key signs; longer digests are cut, FIPS 186-4 section 6.4
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found:
    """An object of the token.

    Attributes:
        kind: class, in words.
        id: CKA_ID.
        label: CKA_LABEL.
    """

    kind: ObjectClass
    id: bytes
    label: str

    def __str__(self) -> str:
        name = self.kind.name.lower().replace("_", " ")
        return f"a {name} with the label {self.label!r}"


class Token:
    """Opened with the first use, closed with ``close``."""

    def __init__(self, place: Place, pin: Callable[[], str]) -> None:
        self._place = place
        self._pin = pin
        self._lock = threading.RLock()
        self._session: Any = None
        self._refused: AgentError | None = None

    def __str__(self) -> str:
        return str(self._place)

    # --- looking ---

    def objects(self, identifier: bytes) -> list[Found]:
        """All that have this id, of whatever class and whoever made them."""

        def look(session: Any) -> list[Found]:
            return [
                Found(kind, identifier, str(each[Attribute.LABEL]))
                for kind in _ALL_CLASSES
                for each in _with(session, kind, identifier)
            ]

        return self._run(look, "list the objects of")

    def certificates(self, identifier: bytes) -> list[bytes]:
        """DER of each."""

        def look(session: Any) -> list[bytes]:
            found = _with(session, ObjectClass.CERTIFICATE, identifier)
            return [bytes(each[Attribute.VALUE]) for each in found]

        return self._run(look, "read a certificate of")

    def point(self, identifier: bytes) -> bytes:
        """The public key of a pair, X9.62 uncompressed, 65 bytes for P-256.

        Raises:
            ConfigError: none, more than one, or not of P-256.
        """

        def look(session: Any) -> bytes:
            public = _one(session, ObjectClass.PUBLIC_KEY, identifier)
            _one(session, ObjectClass.PRIVATE_KEY, identifier)
            if public[Attribute.KEY_TYPE] is not KeyType.EC:
                raise ConfigError(
                    f"cannot use the key {identifier.hex()} in {self}: not an elliptic-curve key",
                    hint="the device's configuration is encrypted to EC keys; register it again",
                )
            if bytes(public[Attribute.EC_PARAMS]) != _P256:
                raise ConfigError(
                    f"cannot use the key {identifier.hex()} in {self}: its curve is not P-256"
                )
            point = bytes(public[Attribute.EC_POINT])
            # An OCTET STRING by the standard; some modules give the bare point.
            return point if len(point) == 65 else der.read_one(point).content

        return self._run(look, "read a public key of")

    # --- using ---

    def sign(self, identifier: bytes, digest: bytes) -> bytes:
        """DER ECDSA-Sig-Value of a digest, of which as much counts as the curve takes."""

        def act(session: Any) -> bytes:
            key = _one(session, ObjectClass.PRIVATE_KEY, identifier)
            if not isinstance(key, SignMixin):
                raise ConfigError(
                    f"cannot sign with the key {identifier.hex()} in {self}: it is not made for "
                    "that (CKA_SIGN)"
                )
            raw = bytes(key.sign(digest[:_DIGEST], mechanism=Mechanism.ECDSA))
            half = len(raw) // 2
            r, s = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
            return utils.encode_dss_signature(r, s)

        return self._run(act, "sign with a key of")

    def derive(self, identifier: bytes, point: bytes) -> bytes:
        """ECDH with ``point``, X9.62 uncompressed: the shared x coordinate, 32 bytes.

        CKD_NULL and the raw point: OP-TEE and tpm2-pkcs11 take nothing else.
        """

        def act(session: Any) -> bytes:
            key = _one(session, ObjectClass.PRIVATE_KEY, identifier)
            if not isinstance(key, DeriveMixin):
                raise self._not_deriving(identifier)
            try:
                secret = key.derive_key(
                    KeyType.GENERIC_SECRET,
                    256,
                    store=False,
                    capabilities=MechanismFlag(0),
                    mechanism=Mechanism.ECDH1_DERIVE,
                    mechanism_param=(KDF.NULL, None, point),
                    template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
                )
            except AGAIN:
                raise
            except refusals.PKCS11Error as error:
                raise self._not_deriving(identifier) from error
            try:
                return bytes(secret[Attribute.VALUE]).rjust(32, b"\0")
            finally:
                with contextlib.suppress(refusals.PKCS11Error):
                    secret.destroy()

        return self._run(act, "derive with a key of")

    def _not_deriving(self, identifier: bytes) -> NotDerivingError:
        facts = {"key": identifier.hex(), "place": self}
        return NotDerivingError.of(causes.NOT_DERIVING, facts)

    # --- changing ---

    def generate(self, identifier: bytes, label: str) -> None:
        """A P-256 pair that signs and derives and never leaves the token.

        DEFAULT leaves an attribute to the module: a TPM has one bit for two of them.
        """

        def act(session: Any) -> None:
            domain = session.create_domain_parameters(
                KeyType.EC, {Attribute.EC_PARAMS: _P256}, local=True
            )
            domain.generate_keypair(
                id=identifier,
                label=label,
                store=True,
                mechanism=Mechanism.EC_KEY_PAIR_GEN,
                capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY | MechanismFlag.DERIVE,
                public_template={Attribute.ENCRYPT: DEFAULT, Attribute.WRAP: DEFAULT},
                private_template={
                    Attribute.DECRYPT: DEFAULT,
                    Attribute.UNWRAP: DEFAULT,
                    Attribute.EXTRACTABLE: False,
                },
            )

        with self._lock:
            self._run(act, "make a key in", twice=False)
            self.reset()

    def store_certificate(self, attributes: dict[Attribute, object]) -> None:
        def act(session: Any) -> None:
            session.create_object(attributes)

        self._run(act, "store a certificate in", twice=False)

    def destroy(self, kind: ObjectClass, identifier: bytes, label: str) -> None:
        """Every object of this class, id and label; absent is fine."""

        def act(session: Any) -> bool:
            found = [
                each
                for each in _with(session, kind, identifier)
                if str(each[Attribute.LABEL]) == label
            ]
            for each in found:
                each.destroy()
            return bool(found)

        with self._lock:
            self.reset()
            if self._run(act, "remove an object of", twice=False):
                self.reset()

    # --- the session ---

    def reset(self) -> None:
        """The module is initialised anew; the session is opened again with the next use."""
        with self._lock:
            self._end_session()
            try:
                pkcs11.lib(self._place.module).reinitialize()
            except (refusals.PKCS11Error, RuntimeError) as error:
                raise explained(error, "use", self._place) from error

    def close(self) -> None:
        with self._lock:
            self._end_session()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(refusals.PKCS11Error):
                session.close()

    def _run(self, act: Callable[[Any], _T], doing: str, *, twice: bool = True) -> _T:
        """``act`` with the session; once more after a reset where that may help."""
        with self._lock:
            try:
                return act(self._opened())
            except AGAIN as error:
                if not twice:
                    raise explained(error, doing, self._place, changing=True) from error
            except refusals.PKCS11Error as error:
                raise explained(error, doing, self._place, changing=not twice) from error
            self.reset()
            try:
                return act(self._opened())
            except (refusals.PKCS11Error, MissingError) as error:
                raise explained(error, doing, self._place) from error

    def _opened(self) -> Any:
        if self._refused is not None:
            raise self._refused  # a PIN that was refused is not tried again
        if self._session is None:
            try:
                token = pkcs11.lib(self._place.module).get_token(token_label=self._place.label)
                # Reading and writing: tpm2-pkcs11 derives in no other session.
                self._session = token.open(rw=True, user_pin=self._pin())
            except (refusals.PKCS11Error, RuntimeError, OSError) as error:
                words = explained(error, "open", self._place)
                if isinstance(error, PIN_REFUSALS):
                    self._refused = words
                raise words from error
        return self._session


def _with(session: Any, kind: ObjectClass, identifier: bytes) -> list[Any]:
    return list(session.get_objects({Attribute.CLASS: kind, Attribute.ID: identifier}))


def _one(session: Any, kind: ObjectClass, identifier: bytes) -> Any:
    found = _with(session, kind, identifier)
    if len(found) != 1:
        raise MissingError(len(found), kind, identifier)
    return found[0]

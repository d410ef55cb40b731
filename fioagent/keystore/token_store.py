"""Keys and certificates in a PKCS#11 token: two object ids each, used in turn.

Laid out as lmp-device-register and fioconfig do it: both halves of a key have one
id and the label ``tls``, a certificate has an id of its own and the label
``client``. What has another label is somebody else's, and is never removed.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from pkcs11 import Attribute, CertificateType, ObjectClass

from fioagent import causes, openssl, x509
from fioagent.errors import ConfigError
from fioagent.keystore import object_ids
from fioagent.keystore.token import KEY_CLASSES, Found, Token
from fioagent.keystore.token_key import TokenKey
from fioagent.model import CredentialRef, ObjectIds, RotationId, Store
from fioagent.x509 import Certificate, CertificateError

KEY_LABEL: Final = "tls"
CERTIFICATE_LABEL: Final = "client"
_OURS: Final = {
    ObjectClass.PRIVATE_KEY: KEY_LABEL,
    ObjectClass.PUBLIC_KEY: KEY_LABEL,
    ObjectClass.CERTIFICATE: CERTIFICATE_LABEL,
}


class TokenKeyStore:
    """``ports.KeyStore`` for ``tls.pkey_source = "pkcs11"``."""

    def __init__(
        self,
        token: Token,
        live: Callable[[], CredentialRef],
        usual: ObjectIds = object_ids.USUAL,
    ) -> None:
        """``live`` is what sota.toml names: nothing of it is ever removed.

        ``usual`` counts where nobody asks for other ids.
        """
        self._token = token
        self._live = live
        self._usual = usual

    def place_for(
        self, rotation: RotationId, live: CredentialRef, wanted: ObjectIds
    ) -> CredentialRef:
        del rotation
        keys = object_ids.others(wanted.keys or self._usual.keys, live.key)
        certificates = object_ids.others(
            wanted.certificates or self._usual.certificates, live.certificate
        )
        return CredentialRef(
            Store.PKCS11,
            object_ids.as_text(self._first_free(keys, KEY_CLASSES)),
            object_ids.as_text(self._first_free(certificates, [ObjectClass.CERTIFICATE])),
        )

    def require_free(self, credential: CredentialRef) -> None:
        self._require_free(object_ids.as_bytes(credential.key), KEY_CLASSES)
        certificate = object_ids.as_bytes(credential.certificate)
        self._require_free(certificate, [ObjectClass.CERTIFICATE])

    def generate(
        self,
        credential: CredentialRef,
        like: CredentialRef,
        *,
        announced: bool,
        curve: str | None = None,
    ) -> None:
        del like  # the gateway and the configuration take P-256 from a token
        if curve not in (None, "secp256r1"):
            raise ConfigError(
                f"cannot make a key on {curve} in {self._token}: P-256 alone is made there",
                hint="the EST server wants it by its csrattrs; est.csrattrs = false asks it "
                "all the same",
            )
        identifier = object_ids.as_bytes(credential.key)
        if not announced:
            # What is there was left behind: ids are used again and again.
            self._require_free(identifier, KEY_CLASSES)
            self._remove(KEY_CLASSES, identifier)
            self._token.generate(identifier, KEY_LABEL)
        self._require_that_it_works(credential)

    def has_key(self, credential: CredentialRef) -> bool:
        found = self._token.objects(object_ids.as_bytes(credential.key))
        return any(each.kind is ObjectClass.PRIVATE_KEY for each in found)

    def private_key(self, credential: CredentialRef) -> TokenKey:
        return self._key(object_ids.as_bytes(credential.key))

    def _key(self, identifier: bytes) -> TokenKey:
        return TokenKey(self._token, identifier)

    def _is_ours(self, kind: ObjectClass, identifier: bytes) -> bool:
        found = self._token.objects(identifier)
        return any(each.kind is kind and each.label == _OURS[kind] for each in found)

    def certificate(self, credential: CredentialRef) -> Certificate | None:
        identifier = object_ids.as_bytes(credential.certificate)
        found = self._token.certificates(identifier)
        if len(found) > 1:
            raise ConfigError(
                f"cannot tell {len(found)} certificates with the id {identifier.hex()} in "
                f"{self._token} from each other",
                hint="pkcs11-tool -O lists them; remove what is not the device's",
            )
        try:
            return Certificate.from_der(found[0]) if found else None
        except CertificateError as error:
            raise ConfigError(
                f"cannot read the certificate {identifier.hex()} in {self._token}: {error}"
            ) from error

    def store_certificate(self, credential: CredentialRef, certificate: Certificate) -> None:
        identifier = object_ids.as_bytes(credential.certificate)
        if self._token.certificates(identifier) == [certificate.der]:
            return  # an earlier run's
        self._require_free(identifier, [ObjectClass.CERTIFICATE])
        self._remove([ObjectClass.CERTIFICATE], identifier)
        self._token.store_certificate(
            {
                Attribute.CLASS: ObjectClass.CERTIFICATE,
                Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: False,
                Attribute.ID: identifier,
                Attribute.LABEL: CERTIFICATE_LABEL,
                Attribute.SUBJECT: certificate.subject_der,
                Attribute.ISSUER: certificate.issuer_der,
                Attribute.SERIAL_NUMBER: certificate.serial_der,
                Attribute.VALUE: certificate.der,
            }
        )
        if self._token.certificates(identifier) != [certificate.der]:
            raise ConfigError(
                f"cannot store the certificate in {self._token}: it reads back differently"
            )

    def pairs(self) -> list[tuple[Certificate, CredentialRef]]:
        """Those with our labels, at the ids that all programs agree on."""
        keys, found = {}, []
        for identifier in object_ids.ALL:
            if self._is_ours(ObjectClass.PRIVATE_KEY, identifier):
                with contextlib.suppress(ConfigError):  # half a pair is none
                    keys[x509.spki_der(self._key(identifier).public_key())] = identifier
        for identifier in object_ids.ALL:
            if not self._is_ours(ObjectClass.CERTIFICATE, identifier):
                continue
            for encoded in self._token.certificates(identifier):
                certificate = Certificate.from_der(encoded)
                key = keys.get(certificate.spki_der)
                if key is not None:
                    ids = map(object_ids.as_text, (key, identifier))
                    found.append((certificate, CredentialRef(Store.PKCS11, *ids)))
        return found

    def use_for_tls(self, credential: CredentialRef, context: ssl.SSLContext) -> None:
        certificate = self.certificate(credential)
        if certificate is None:
            raise ConfigError(
                f"cannot find the certificate {credential.certificate} in {self._token}"
            )
        key = self.private_key(credential)
        try:
            openssl.use_signer(context, certificate.der, key.point, key.sign_digest)
        except openssl.OpenSslError as error:
            raise ConfigError(
                f"cannot use the key {credential.key} in {self._token} for TLS: {error}"
            ) from error

    def settle(self, credential: CredentialRef) -> None:
        """A token keeps what it has acknowledged."""

    def destroy(self, credential: CredentialRef) -> None:
        live = self._live()
        if not object_ids.same(credential.key, live.key):
            self._remove(KEY_CLASSES, object_ids.as_bytes(credential.key))
        if not object_ids.same(credential.certificate, live.certificate):
            identifier = object_ids.as_bytes(credential.certificate)
            self._remove([ObjectClass.CERTIFICATE], identifier)

    def retire(self, old: CredentialRef, new: CredentialRef) -> None:
        del new  # it is live
        self.destroy(old)

    def close(self) -> None:
        self._token.close()

    # --- slots ---

    def _first_free(self, identifiers: Sequence[bytes], kinds: Sequence[ObjectClass]) -> bytes:
        refused: list[ConfigError] = []
        for identifier in identifiers:
            try:
                self._require_free(identifier, kinds)
            except ConfigError as error:
                refused.append(error)
            else:
                return identifier
        raise refused[0]

    def _require_free(self, identifier: bytes, kinds: Sequence[ObjectClass]) -> None:
        """Nothing there, or leftovers of a pair: those of ``kinds`` with our label."""
        for found in self._token.objects(identifier):
            if found.kind not in kinds or found.label != _OURS[found.kind]:
                raise self._taken(identifier, found)

    def _taken(self, identifier: bytes, found: Found) -> ConfigError:
        facts = {"id": identifier.hex(), "place": self._token, "what": found}
        return ConfigError.of(causes.ID_TAKEN, facts)

    def _remove(self, kinds: Sequence[ObjectClass], identifier: bytes) -> None:
        for kind in kinds:
            self._token.destroy(kind, identifier, _OURS[kind])

    def _require_that_it_works(self, credential: CredentialRef) -> None:
        """It signs with the key whose other half is shown, and it derives."""
        key = self.private_key(credential)
        digest = os.urandom(32)
        try:
            key.public_key().verify(
                key.sign_digest(digest), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))
            )
        except InvalidSignature:
            raise ConfigError(
                f"cannot use the new key {credential.key} in {self._token}: "
                "what it signs does not fit its public half",
                hint="the module mixes up its objects; is there a newer version of it?",
            ) from None

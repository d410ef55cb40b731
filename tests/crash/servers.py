"""The factory's servers as one small value: what they remember, and how they answer.

The rules are those of the lab factory (``fioagent.factory``) with its knobs at
their defaults; a test asks both the same questions. Answers are HTTP, so what
is made of them is decided by the agent's own adapters. All that the servers
remember is plain data: it can be copied, dumped to JSON and compared by digest.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtensionOID

from fioagent.factory.fleet import configs, devices, events
from fioagent.factory.pki import certificates, csr
from fioagent.factory.pki.certificates import Authority, Extension
from fioagent.http import Response

START: Final = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
FACTORY: Final = "lab-factory"
HOSTS: Final = {"gateway": ("gateway.lab", 8443), "est": ("est.lab", 9443)}
GATEWAY_URL: Final = "https://gateway.lab:8443"
EST_URL: Final = "https://est.lab:9443/.well-known/est"
_CA_EXTENSIONS: Final[tuple[Extension, ...]] = (
    (x509.BasicConstraints(ca=True, path_length=0), True),
    certificates.key_usage(ca=True),
)
_LIFE_DAYS: Final = 1095


def _authority(title: str, secret: int) -> Authority:
    """A CA with a fixed key, so that every process of a run means the same one."""
    key = ec.derive_private_key(secret, ec.SECP256R1())
    name = certificates.subject_name(title, FACTORY)
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    life = certificates.validity(START - timedelta(days=400), 3650)
    extensions = [*_CA_EXTENSIONS, (own_id, False)]
    return Authority(certificates.build(name, key.public_key(), name, key, extensions, life), key)


ROOT: Final = _authority("Factory-CA", 0x5EED_0001)
AUTHORITIES: Final = {
    "local-ca": _authority("fio-registration", 0x5EED_0002),
    "online-ca": _authority("ota-devices-CA", 0x5EED_0003),
    "foreign-ca": _authority("foreign-devices-CA", 0x5EED_0004),
}


@dataclass(slots=True)
class Servers:
    """Gateway and EST server of one device.

    Attributes:
        public_key: SPKI PEM of the device's present key.
        next_public_key: announced; the device is locked while there is one.
        denied: keys that were replaced.
        config: the device's layer, entries as GET /config-device shows them.
        config_key: what the layer was last said to be encrypted to.
        events: update events in the order of arrival, each id once.
        issued: certificates made by the EST server.
        requests: what was asked and answered, "PATCH /device 200"; 0 is a TLS alert.
        now: the true time, unix seconds.
        strangers: keys announced by somebody else than the device.
        second_lock: "409", or "replace": another key while locked.
        foreign_public_key: "409", or "accept": device's config under a key not awaited.
        est_ca: which CA issues.
        est_answers: statuses to answer enrolments with before one is granted.
        distrusted: device CAs that the gateway has stopped to trust.
        mark: told what has changed, right after it has; not part of the state.
    """

    public_key: str
    next_public_key: str | None = None
    denied: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    config_key: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    issued: int = 0
    requests: list[str] = field(default_factory=list)
    now: int = int(START.timestamp())
    strangers: list[str] = field(default_factory=list)
    second_lock: str = "409"
    foreign_public_key: str = "409"
    est_ca: str = "online-ca"
    est_answers: list[int] = field(default_factory=list)
    distrusted: list[str] = field(default_factory=list)
    mark: Callable[[str], None] | None = None

    # --- the state as data ---

    def dump(self) -> str:
        return json.dumps(self._data(), sort_keys=True)

    @classmethod
    def load(cls, text: str) -> Servers:
        return cls(**json.loads(text))

    def copy(self) -> Servers:
        """Independent of this one, and without its mark."""
        # Entries and events are replaced, never changed in place.
        copied: dict[str, Any] = {
            name: value.copy() if isinstance(value, (list, dict)) else value
            for name, value in self._data().items()
        }
        return Servers(**copied)

    def digest(self) -> str:
        """Of all that decides about later answers: what was only asked leaves no trace in it."""
        data = {**self._data(), "requests": None}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def same_as(self, other: Servers) -> bool:
        """Whether the digests are the same."""
        return {**self._data(), "requests": None} == {**other._data(), "requests": None}

    def _data(self) -> dict[str, Any]:
        names = (each.name for each in dataclasses.fields(self) if each.name != "mark")
        return {name: getattr(self, name) for name in names}

    def _changed(self, what: str) -> None:
        if self.mark is not None:
            self.mark(what)

    # --- TLS ---

    def alert(self, peer: x509.Certificate, server: str = "gateway") -> str | None:
        """The alert about the client's certificate; None where it is content."""
        issuer = _issuer(peer.public_bytes(Encoding.DER))
        distrusted = self.distrusted if server == "gateway" else ()
        if issuer not in ("local-ca", "online-ca") or issuer in distrusted:
            return "unknown ca"
        if certificates.as_datetime(self.now) > peer.not_valid_after_utc:
            return "certificate expired"
        return None

    def takes(self, peer: x509.Certificate) -> bool:
        """Whether the gateway would serve ``peer``; asking changes nothing."""
        known = (self.public_key, self.next_public_key)
        return self.alert(peer) is None and public_pem(peer) in known

    # --- HTTP ---

    def answer(
        self, server: str, peer: x509.Certificate, method: str, path: str, body: bytes
    ) -> Response:
        """To a request over a connection that ``alert`` has let through."""
        answer = self._est(peer, path, body) if server == "est" else None
        if answer is None:
            answer = self._refusal(public_pem(peer)) or self._gateway(method, path, body)
        self.requests.append(f"{method} {path} {answer.status}")
        return answer

    def _refusal(self, key: str) -> Response | None:
        """First use of the announced key makes it the device's key."""
        if key == self.public_key:
            return None
        if key == self.next_public_key:
            self.denied = [*self.denied, self.public_key]
            self.public_key, self.next_public_key = key, None
            self._changed("switched over")
            return None
        if key in self.denied:
            return _text(403, "The key of the device has been replaced")
        return _text(502, "Key rotation is not supported")

    def _gateway(self, method: str, path: str, body: bytes) -> Response:
        match method, path:
            case "GET", "/config":
                # The one question that the agent asks here names a date in the far future.
                return _nothing(304 if self.config else 204)
            case "GET", "/config-device":
                return _json(200, self.config) if self.config else _nothing(204)
            case "PATCH", "/config":
                return self._patch_config(body)
            case "PATCH", "/device":
                return self._patch_device(body)
            case "POST", "/events":
                return self._post_events(body)
        return _json(404, {"message": "Not Found"})

    def _patch_config(self, body: bytes) -> Response:
        change = configs.parse_change(body)
        key = change.public_key and devices.normal_key(change.public_key)
        awaited = (self.next_public_key,) if self.next_public_key else (self.public_key, "")
        if key not in awaited and self.foreign_public_key == "409":
            return _json(409, {"message": "public-key is not the awaited one"})
        self.config = {**self.config, **change.files}
        self.config_key = key or self.config_key
        self._changed("config stored")
        return _json(201, {})

    def _patch_device(self, body: bytes) -> Response:
        try:
            key = devices.normal_key(json.loads(body)["next_pubkey"])
        except ValueError as error:
            return _json(400, {"message": f"next_pubkey is {error}"})
        if key in self.denied:
            return _json(400, {"message": "next_pubkey is on the denied list"})
        if key in (self.next_public_key, None if self.next_public_key else self.public_key):
            return _json(200, {})
        if self.next_public_key is not None and self.second_lock == "409":
            return _json(409, {"message": "The device has announced another key"})
        self.next_public_key = None if key == self.public_key else key
        self._changed("next key announced")
        return _json(200, {})

    def _post_events(self, body: bytes) -> Response:
        known = {event["id"] for event in self.events}
        posted = events.parse(body, self.now)
        self.events = [*self.events, *(each for each in posted if each["id"] not in known)]
        self._changed("events stored")
        return _text(200, "")

    def _est(self, peer: x509.Certificate, path: str, body: bytes) -> Response:
        if path != "/simplereenroll":
            return _json(404, {"message": "Not Found"})
        authority = AUTHORITIES[self.est_ca]
        try:
            request = csr.decode(body)
            csr.check_same_device(request, peer)
            csr.check_signature(request, authority.certificate)
        except csr.CsrError as refused:
            return _text(400, str(refused))
        if self.est_answers:
            status, *self.est_answers = self.est_answers
            self._changed("enrolment answered")
            headers = {"retry-after": "30"} if status in (202, 503) else {}
            return Response(status, headers, b"The lab made the EST server answer this")
        issued = _issue(request, authority, self.now)
        self.issued += 1
        self._changed("certificate issued")
        encoded = base64.b64encode(pkcs7.serialize_certificates([issued], Encoding.DER))
        kind = "application/pkcs7-mime; smime-type=certs-only"
        return Response(200, {"content-type": kind}, encoded)


def _text(status: int, body: str) -> Response:
    return Response(status, {"content-type": "text/plain; charset=UTF-8"}, body.encode())


def _json(status: int, value: object) -> Response:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(status, {"content-type": "application/json"}, body)


def _nothing(status: int) -> Response:
    return Response(status, {}, b"")


def _issue(
    request: x509.CertificateSigningRequest, authority: Authority, now: int
) -> x509.Certificate:
    """As the factory's EST server: usages only if asked for, valid from now exactly."""
    extensions: list[Extension] = [
        (each.value, each.oid == ExtensionOID.KEY_USAGE) for each in request.extensions
    ]
    extensions.append((x509.BasicConstraints(ca=False, path_length=None), True))
    life = certificates.validity(certificates.as_datetime(now), _LIFE_DAYS)
    return authority.sign(request.subject, request.public_key(), extensions, life)


def registered(key: ec.EllipticCurvePublicKey, uuid: str) -> x509.Certificate:
    """The certificate of a registration, at the start of the simulated time."""
    usages = [
        certificates.key_usage(digital_signature=True),
        (certificates.CLIENT_AUTH, True),
    ]
    name = certificates.subject_name(uuid, FACTORY)
    life = certificates.validity(START - timedelta(days=30), 7300)
    return AUTHORITIES["local-ca"].sign(name, key, usages, life)


def public_pem(certificate: x509.Certificate) -> str:
    """SPKI PEM of its key, as the gateway keeps keys."""
    return _public_pem(certificate.public_bytes(Encoding.DER))


@functools.lru_cache(maxsize=4096)
def _public_pem(der: bytes) -> str:
    return certificates.public_pem(x509.load_der_x509_certificate(der).public_key())


@functools.lru_cache(maxsize=4096)
def _issuer(der: bytes) -> str | None:
    """The CA that has signed it; None where it is none that we know."""
    certificate = x509.load_der_x509_certificate(der)
    for name, authority in AUTHORITIES.items():
        try:
            certificate.verify_directly_issued_by(authority.certificate)
        except Exception:  # noqa: BLE001, S112  # whatever the library finds wrong with it
            continue
        return name
    return None

"""Rows: what a server may say to the questions before the request, csrattrs and cacerts.

Whatever it says to them, a device that can be renewed is renewed; and nothing that it
says there is trusted because of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID

from tests.est import messages
from tests.est.certificates import (
    A_CA,
    Parts,
    alternative_names,
    authority_key,
    common_name,
    extension,
    spki_of,
    usage,
)
from tests.est.replies import (
    CERTS_ONLY,
    endless,
    folded,
    hangs_up,
    http,
    issues,
    leaf,
    says,
)
from tests.est.scenario import Scenario, refused, taken
from tests.est.server import Exchange, Reply, Request
from tests.unit.made import oid, tlv

ATTRIBUTES: Final = "application/csrattrs"

MAC_ADDRESS: Final = oid("2b060101010116")
EMAIL: Final = oid("2a864886f70d010901")
P384: Final = oid("2b81040022")
P192: Final = oid("2a8648ce3d030101")
SHA384: Final = oid("608648016503040202")
ECDSA_SHA384: Final = oid("2a8648ce3d040303")
CHALLENGE: Final = oid("2a864886f70d010907")
EC_KEY: Final = "2a8648ce3d0201"
RSA_KEY: Final = "2a864886f70d010101"
EXTENSIONS: Final = "2a864886f70d01090e"
TEMPLATE: Final = oid("2a864886f70d010910023d")
TLS_FEATURE: Final = extension("2b06010505070118", tlv(0x30, tlv(0x02, b"\x05")))


def _attribute(kind: str, *values: bytes) -> bytes:
    return tlv(0x30, oid(kind), tlv(0x31, *values))


def _asks(*wanted: bytes) -> Reply:
    return says(200, folded(tlv(0x30, *wanted)), ATTRIBUTES)


def _ignored(title: str, csrattrs: Reply, said: str = "", **more: object) -> Scenario:
    def usual(request: Request) -> None:
        csr = request.csr
        assert isinstance(csr.public_key(), ec.EllipticCurvePublicKey)
        assert csr.public_key().curve.name == "secp256r1"  # type: ignore[union-attr]  # see above
        assert csr.signature_hash_algorithm is not None
        assert csr.signature_hash_algorithm.name == "sha256"

    return taken(f"csrattrs: {title}", issues(), said, csrattrs=csrattrs, of_request=usual, **more)


def _honoured(title: str, check: Callable[[Request], None], *wanted: bytes) -> Scenario:
    return taken(f"csrattrs: {title}", issues(), csrattrs=_asks(*wanted), of_request=check)


def _has_p384(request: Request) -> None:
    key = request.csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"


def _has_sha384(request: Request) -> None:
    digest = request.csr.signature_hash_algorithm
    assert digest is not None
    assert digest.name == "sha384"


def _has_feature(request: Request) -> None:
    found = request.csr.extensions.get_extension_for_class(x509.TLSFeature)
    assert list(found.value) == [x509.TLSFeatureType.status_request]


def _is_bound(request: Request) -> None:
    """RFC 7030 section 3.5: base64 of tls-unique in challengePassword, on that connection."""
    found = request.csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
    assert request.binding
    assert request.binding.encode() == found.value


ASKS: Final = [
    *(_ignored(f"{status}", says(status, b"")) for status in (204, 404, 405, 501)),
    *(_ignored(f"{status}, which is no answer", says(status, b"no")) for status in (400, 401, 403)),
    _ignored("an empty body", says(200, b"", ATTRIBUTES)),
    _ignored("an empty list", _asks()),
    _ignored("an empty list and a NUL", says(200, b"MAA=\x00", ATTRIBUTES)),
    _ignored("what libest lists", _asks(MAC_ADDRESS, EMAIL, P384, SHA384)),
    _ignored("the example of RFC 7030", _asks(_attribute(EXTENSIONS, MAC_ADDRESS))),
    _ignored("an extension request without a value", _asks(_attribute(EXTENSIONS))),
    _ignored("a weak curve", _asks(_attribute(EC_KEY, P192)), "below P-256"),
    _ignored("a key type without a value", _asks(_attribute(EC_KEY))),
    _ignored(
        "two kinds of key", _asks(_attribute(EC_KEY, P384), _attribute(RSA_KEY)), "several kinds"
    ),
    _ignored("a template of RFC 9908", _asks(TEMPLATE), "RFC 9908"),
    _ignored(
        "another SubjectAltName",
        _asks(_attribute(EXTENSIONS, tlv(0x30, alternative_names("else.test")))),
        "another SubjectAltName",
    ),
    _ignored("no base64", says(200, b"\x00\xff", ATTRIBUTES), "cannot be read"),
    _ignored("a page", says(200, b"<html>Log in</html>", "text/html"), "cannot be read"),
    _ignored(
        "a list that is cut off", says(200, folded(b"\x30\x09\x06\x07"), ATTRIBUTES), "cannot"
    ),
    _ignored("nesting without an end", says(200, folded(b"\x30\x80" * 5000), ATTRIBUTES), "cannot"),
    _ignored("a thousand of them", _asks(*[MAC_ADDRESS] * 1000), "cannot be read"),
    _ignored("a megabyte", says(200, b"A" * 1_000_000, ATTRIBUTES)),
    _honoured("a curve", _has_p384, _attribute(EC_KEY, P384)),
    _honoured("a signature", _has_sha384, ECDSA_SHA384),
    _honoured("an extension", _has_feature, _attribute(EXTENSIONS, tlv(0x30, TLS_FEATURE))),
    _honoured("a bound request", _is_bound, CHALLENGE),
    refused(
        "csrattrs: an RSA key",
        "asks for an RSA key",
        issues(),
        csrattrs=_asks(_attribute(RSA_KEY, tlv(0x02, b"\x10\x00"))),
        asked=0,
    ),
]

# --- cacerts ---


def _cas(*which: str) -> Reply:
    """The root by the name "root"."""

    def reply(exchange: Exchange) -> None:
        lab = exchange.lab
        found = [lab.root_der if w == "root" else lab.authority_der(w) for w in which]
        exchange.send(http(200, folded(messages.certs_only(*found))))

    return reply


def _taken(title: str, cacerts: Reply) -> Scenario:
    return taken(f"cacerts: {title}", issues(leaf), cacerts=cacerts)


_KEY: Final = ec.generate_private_key(ec.SECP256R1())


def _below_made_up(parts: Parts) -> Parts:
    ours = (*parts.extensions[:-1], authority_key(b"k" * 20))
    return replace(parts, issuer=common_name("made-up-ca"), signer=_KEY, extensions=ours)


def _made_up(parts: Parts) -> Parts:
    name = common_name("made-up-ca")
    as_ca = (A_CA, usage("0106"), extension("551d0e", tlv(0x04, b"k" * 20)))
    return replace(
        parts, subject=name, issuer=name, signer=_KEY, spki=spki_of(_KEY), extensions=as_ca
    )


def _offers_made_up(exchange: Exchange) -> None:
    parts = _made_up(exchange.template())
    exchange.send(http(200, folded(messages.certs_only(parts.signed(), exchange.lab.root_der))))


CAS: Final = [
    _taken("the root and the CA that issues", _cas("root", "online-ca")),
    _taken("the root alone", _cas("root")),
    _taken("all CAs, and one of others", _cas("foreign-ca", "local-ca", "root", "online-ca")),
    _taken("the same one twice", _cas("online-ca", "online-ca")),
    _taken("none", _cas()),
    _taken("404", says(404, b"")),
    _taken("500", says(500, b"no")),
    _taken("a page", says(200, b"<html></html>", "text/html")),
    _taken("no base64", says(200, b"\x00\xff", CERTS_ONLY)),
    _taken("something that is no certificate", says(200, folded(messages.certs_only(b"\x30\x00")))),
    taken(
        "cacerts: the issuer that is required",
        issues(leaf),
        cacerts=_cas("root", "online-ca"),
        settings="[est]\nrequire_chain = true",
    ),
    refused(
        "cacerts: an issuer that nobody knows, where one is required",
        "est.require_chain",
        issues(lambda exchange: messages.certs_only(exchange.issue(_below_made_up))),
        cacerts=_offers_made_up,
        settings="[est]\nrequire_chain = true",
    ),
    refused(
        "cacerts: an issuer that nobody knows",
        "refuses the device's certificate: unknown ca",
        issues(lambda exchange: messages.certs_only(exchange.issue(_below_made_up))),
        cacerts=_offers_made_up,
    ),
]

LINES: Final = [
    taken("cacerts: no answer", issues(leaf), cacerts=hangs_up),
    taken(
        "cacerts: an answer without an end",
        issues(leaf),
        cacerts=endless(b"HTTP/1.1 200 OK\r\n\r\n", b"MIIB\n"),
    ),
]

ALL: Final = [*ASKS, *CAS, *LINES]

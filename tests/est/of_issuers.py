"""Rows: who signed a certificate, and a device whose certificate has a SubjectAltName."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.est import messages
from tests.est.certificates import (
    A_CA,
    FOR_CLIENTS,
    HOUR,
    NO_CA,
    SIGNING,
    Parts,
    alternative_names,
    authority_key,
    below,
    common_name,
    now,
    spki_of,
    usage,
)
from tests.est.of_certificates import USE, rsa_key, usual_but
from tests.est.replies import Body, changed, issues
from tests.est.scenario import refused, taken
from tests.est.server import Exchange, Lab
from tests.world import World


def _forged(parts: Parts) -> Parts:
    """Signed by somebody else in the name of the CA, and so is the issuer's key id."""
    return replace(parts, signer=ec.generate_private_key(ec.SECP256R1()))


def _below_an_unknown(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Body:
    """Issued by a self-made CA that comes along in the answer."""

    def body(exchange: Exchange) -> bytes:
        made_up = common_name("made-up-ca")
        as_ca = (A_CA, usage("0106"), authority_key(b"k" * 20))

        def issuer(parts: Parts) -> Parts:
            return replace(
                parts,
                subject=made_up,
                issuer=made_up,
                signer=key,
                spki=spki_of(key),
                extensions=as_ca,
            )

        def below_it(parts: Parts) -> Parts:
            ours = (*parts.extensions[:-1], authority_key(b"k" * 20))
            return replace(parts, issuer=made_up, signer=key, extensions=ours)

        return messages.certs_only(exchange.issue(below_it), exchange.issue(issuer))

    return body


def _require_chain(answer: Body) -> dict[str, object]:
    return {"enrol": issues(answer), "settings": "[est]\nrequire_chain = true"}


def _with_issuers(exchange: Exchange, *which: str) -> bytes:
    others = (exchange.lab.authority_der(each) for each in which)
    return messages.certs_only(exchange.issue(), *others)


ISSUERS: Final = [
    taken("another of the factory's CAs", issues(changed(lambda p: p, "local-ca"))),
    taken("the CA that it was not before", issues(changed(lambda p: p)), "issued by another CA"),
    refused(
        "a CA that the gateway does not know",
        "refuses the device's certificate: unknown ca",
        issues(changed(lambda p: p, "foreign-ca")),
    ),
    refused(
        "a CA of its own making, which comes along",
        "refuses the device's certificate: unknown ca",
        issues(_below_an_unknown(ec.generate_private_key(ec.SECP256R1()))),
    ),
    refused(
        "a signature that is not the issuer's",
        USE + "its signature is not that of the issuer it names",
        issues(
            lambda exchange: messages.certs_only(
                exchange.issue(_forged), exchange.lab.authority_der("online-ca")
            )
        ),
    ),
    refused(
        "a signature that is not the issuer's, which is not at hand",
        "refuses the device's certificate: decrypt error",
        issues(changed(_forged)),
    ),
    refused(
        "a CA with a short key",
        USE + "the key of its issuer is too short",
        issues(_below_an_unknown(rsa_key(1024))),
    ),
    refused(
        "no issuer at hand where one is required",
        "is nowhere at hand (est.require_chain)",
        **_require_chain(changed(lambda p: p)),  # type: ignore[arg-type]
    ),
    taken(
        "the required issuer in the answer",
        **_require_chain(lambda exchange: _with_issuers(exchange, "online-ca")),  # type: ignore[arg-type]
    ),
]


# --- a device with a SubjectAltName ---


def _has_names(*hosts: str) -> Callable[[World, Lab], None]:
    """The device's certificate has them; the key is that of registration."""

    def change(world: World, lab: Lab) -> None:
        certificate = x509.load_pem_x509_certificate(world.old_certificate)
        key = load_pem_private_key(world.old_key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        parts = below(
            lab.authority("local-ca"),
            certificate.subject.public_bytes(),
            spki_of(key),
            SIGNING,
            FOR_CLIENTS,
            NO_CA,
            alternative_names(*hosts),
        )
        issued = x509.load_der_x509_certificate(replace(parts, not_before=now() - HOUR).signed())
        world.give_certificate(issued.public_bytes(Encoding.PEM))

    return change


_SAN: Final = "551d11"
_NOT_THE_SAME: Final = USE + "its SubjectAltName is not that of the live one"
_HOSTS: Final = _has_names("a.test", "b.test")
_LOSS: Final = "[est]\nallow_san_loss = true"

ALTERNATIVE_NAMES: Final = [
    taken("the SubjectAltName as it was", issues(), device=_HOSTS),
    taken(
        "the SubjectAltName in another order",
        issues(changed(usual_but(_SAN, alternative_names("b.test", "a.test")))),
        device=_HOSTS,
    ),
    taken(
        "the SubjectAltName made critical",
        issues(changed(usual_but(_SAN, alternative_names("a.test", "b.test", critical=True)))),
        device=_HOSTS,
    ),
    refused(
        "the SubjectAltName dropped",
        _NOT_THE_SAME,
        issues(changed(usual_but(_SAN, None))),
        device=_HOSTS,
    ),
    taken(
        "the SubjectAltName dropped where that is allowed",
        issues(changed(usual_but(_SAN, None))),
        "the server dropped the SubjectAltName",
        device=_HOSTS,
        settings=_LOSS,
    ),
    refused(
        "half of the SubjectAltName, where only its loss is allowed",
        _NOT_THE_SAME,
        issues(changed(usual_but(_SAN, alternative_names("a.test")))),
        device=_HOSTS,
        settings=_LOSS,
    ),
    refused(
        "another SubjectAltName",
        _NOT_THE_SAME,
        issues(changed(usual_but(_SAN, alternative_names("a.test", "c.test")))),
        device=_HOSTS,
    ),
]


ALL: Final = [*ISSUERS, *ALTERNATIVE_NAMES]

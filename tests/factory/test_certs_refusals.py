"""What the API of certificates does not take: each gets a reason in JSON, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory import Factory
from fioagent.factory.pki.certificates import Authority
from tests.factory.owner import DAY, Owner, crl, name, pem, sign, today
from tests.factory.peers import CLIENT_AUTH

ROOT_NAME = "Factory-CA"


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """Of a factory with its own PKI, which every test here leaves as it was."""
    factory = Factory.create(tmp_path_factory.mktemp("owned") / "lab")
    with factory.serving() as urls:
        yield Owner(factory, urls.api)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """Of a factory with the shared PKI."""
    factory = Factory.create(tmp_path_factory.mktemp("shared") / "lab", own_pki=False)
    with factory.serving() as urls:
        yield Owner(factory, urls.api)


def local(owner: Owner, **how: Any) -> str:
    """One more device CA, right but for ``how``; all that are there come first."""
    who = how.pop("who", name(f"fio-{owner.factory.desk.user_id()}"))
    authority = how.pop("by", owner.root())
    return str(owner.certs()["ca-crt"]) + pem(sign(authority, who, **how))


def twin(owner: Owner) -> str:
    """Another device CA with the serial number of the local one."""
    who = name(f"fio-{owner.factory.desk.user_id()}")
    return pem(sign(owner.root(), who, serial=of_ca(owner)))


def of_ca(owner: Owner, ca: str = "local-ca") -> int:
    return owner.factory.authority(ca).certificate.serial_number


def foreign(owner: Owner) -> Authority:
    """An authority that has nothing to do with the factory's root but its name."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign(None, owner.root().certificate.subject, key)
    return Authority(certificate, key)


CHANGES: dict[str, tuple[Callable[[Owner], Any], int, str]] = {
    "no object": (lambda _: [], 400, "Failed to parse request JSON body"),
    "nothing": (lambda _: {"change-meta": {}}, 400, "nothing is given"),
    "unknown": (lambda _: {"tls-cert": "x"}, 400, "there is no 'tls-cert'"),
    "a number": (lambda _: {"tls-crt": 1}, 400, "it is not text"),
    "zero, with a right one": (
        lambda o: {"tls-crt": pem(o.server()), "ca-crt": 0},
        400,
        "it is not text",
    ),
    "no PEM": (lambda _: {"tls-crt": "x"}, 400, "not a certificate in PEM"),
    "half a character": (lambda _: {"tls-crt": "\ud800"}, 400, "Failed to parse"),
    "no DER": (
        lambda _: {"tls-crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        400,
        "not a certificate in PEM",
    ),
    "two": (lambda o: {"tls-crt": pem(o.server()) * 2}, 400, "it is 2 certificates"),
    "the root again": (lambda o: {"root-crt": o.certs()["root-crt"]}, 409, "can be set once"),
    "another root": (
        lambda _: {"root-crt": pem(sign(None, name(ROOT_NAME)))},
        409,
        "can be set once",
    ),
    "TLS by another root": (
        lambda o: {"tls-crt": pem(sign(foreign(o), name("x"), ca=False, san="localhost"))},
        400,
        "not signed by the factory's root",
    ),
    "TLS for a key of others": (
        lambda o: {"tls-crt": pem(o.server(public_key=None))},  # of a fresh key
        400,
        "not for a key that was requested here",
    ),
    "TLS for the key of the EST server": (
        lambda o: {"tls-crt": pem(o.server("est-tls-csr"))},
        400,
        "not for a key that was requested here",
    ),
    "TLS without a name": (lambda o: {"tls-crt": pem(o.server(san=None))}, 400, "no DNS name"),
    "TLS for clients": (
        lambda o: {"est-tls-crt": pem(o.server("est-tls-csr", purpose=CLIENT_AUTH))},
        400,
        "not for TLS servers",
    ),
    "expired": (lambda o: {"tls-crt": pem(o.server(days=-1))}, 400, "it expired on"),
    "a CA by another root": (
        lambda o: {"ca-crt": local(o, by=foreign(o))},
        400,
        "not signed by the factory's root",
    ),
    "a CA that is none": (lambda o: {"ca-crt": local(o, ca=False)}, 400, "not a CA"),
    "a CA of another factory": (
        lambda o: {
            "ca-crt": local(o, who=name(f"fio-{o.factory.desk.user_id()}", "other-factory"))
        },
        400,
        "has to be the factory's name: lab-factory",
    ),
    "a CA of nobody": (
        lambda o: {"ca-crt": local(o, who=name("fio-<your-user-uid>"))},
        400,
        "has to be fio- and the user's id",
    ),
    "a CA with the number of another": (
        lambda o: {"ca-crt": pem(o.factory.authority("online-ca").certificate) + twin(o)},
        400,
        "another device CA has the serial number",
    ),
    "a CA too few": (
        lambda o: {"ca-crt": pem(o.factory.authority("local-ca").certificate)},
        400,
        "it leaves out the device CA",
    ),
    "a list that is none": (lambda _: {"ca-revoke-crl": "x"}, 400, "not a CRL in PEM"),
    "a list by another root": (
        lambda o: {"ca-revoke-crl": crl(foreign(o), of_ca(o))},
        400,
        "not signed by the factory's root",
    ),
    "an old list": (
        lambda o: {"ca-revoke-crl": crl(o.root(), of_ca(o), made=today() - timedelta(hours=1))},
        400,
        "it has expired",
    ),
    "a list of the future": (
        lambda o: {"ca-revoke-crl": crl(o.root(), of_ca(o), made=today() + 2 * DAY)},
        400,
        "is of the future",
    ),
    "a list of a stranger": (
        lambda o: {"ca-revoke-crl": crl(o.root(), of_ca(o), 4711)},
        400,
        "there is no device CA 4711",
    ),
    "an empty list": (lambda o: {"ca-revoke-crl": crl(o.root())}, 400, "names no device CA"),
    "right, with a wrong one": (
        lambda o: {"tls-crt": pem(o.server()), "ca-crt": "x"},
        400,
        "cannot take ca-crt",
    ),
}


@pytest.mark.parametrize(("make", "status", "why"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_refused_with_a_reason_and_changes_nothing(
    owner: Owner, make: Callable[[Owner], Any], status: int, why: str
) -> None:
    before = owner.certs()

    answer = owner.ask("PATCH", json=make(owner))

    assert status == answer.status_code, answer.text
    assert why in answer.json()["message"]
    assert before == owner.certs()


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 90_000], ids=["", "{", "ff", "deep"])
def test_what_is_no_json_is_refused(owner: Owner, method: str, body: bytes) -> None:
    answer = owner.ask(method, data=body)

    assert 400 == answer.status_code
    assert "Failed to parse" in answer.json()["message"]


@pytest.mark.parametrize(
    ("wanted", "status", "why"),
    [
        ({"first-time-init": True}, 409, "it is initialized"),
        ({"tls-csr": 1}, 400, "true or false"),
        ({"tls": True}, 400, "give an object of"),
        ([], 400, "Failed to parse"),
    ],
)
def test_a_request_for_requests_is_refused(
    owner: Owner, wanted: object, status: int, why: str
) -> None:
    """And no key is made for it."""
    before = sorted(owner.factory.paths.cloud.iterdir())

    answer = owner.ask("POST", json=wanted)

    assert status == answer.status_code
    assert why in answer.json()["message"]
    assert before == sorted(owner.factory.paths.cloud.iterdir())


def forged_root() -> x509.Certificate:
    """It names itself as its issuer, and another has signed it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return sign(Authority(sign(None, name(ROOT_NAME), key), key), name(ROOT_NAME))


@pytest.mark.parametrize(
    ("root", "why"),
    [
        (lambda: sign(None, name(ROOT_NAME, "other-factory")), "has to be the factory's name"),
        (lambda: sign(None, name(ROOT_NAME), ca=False), "not a CA"),
        (lambda: sign(None, name(ROOT_NAME), days=-1), "it expired on"),
        (forged_root, "its signature is not its own"),
    ],
    ids=["unit", "no CA", "expired", "forged"],
)
def test_a_root_that_will_not_do_is_refused(
    newcomer: Owner, root: Callable[[], x509.Certificate], why: str
) -> None:
    """The factory keeps the shared PKI."""
    answer = newcomer.change(root_crt=pem(root()))

    assert 400 == answer.status_code
    assert why in answer.json()["message"]
    assert 206 == newcomer.ask("GET").status_code


def test_nothing_comes_before_the_root(newcomer: Owner) -> None:
    """Neither a certificate nor a request that is not the first."""
    answers = [newcomer.change(tls_crt="x"), newcomer.ask("POST", json={"tls-csr": True})]

    assert [409, 409] == [answer.status_code for answer in answers]
    assert 206 == newcomer.ask("GET").status_code


def test_another_factory_is_not_here(owner: Owner) -> None:
    for what in ("certs/", "users/self/"):
        assert 404 == owner.ask("GET", f"../other-factory/{what}").status_code

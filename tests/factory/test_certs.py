"""The life of the factory's certificates: what each change means for devices, at once."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent.factory import Factory, FactoryError
from fioagent.factory.pki import certs
from fioagent.factory.pki.desk import take_ownership
from tests.factory.conftest import Lab
from tests.factory.operator import Operator
from tests.factory.owner import Owner, crl, name, pem, sign
from tests.factory.peers import (
    TIMEOUT_S,
    Client,
    Credential,
    certificates,
    csr,
    subject,
    tls_context,
)

DISABLE = x509.ReasonFlags.certificate_hold
REVOKE = x509.ReasonFlags.privilege_withdrawn
RENEW = x509.ReasonFlags.remove_from_crl


@pytest.fixture
def owner(lab: Lab) -> Owner:
    return Owner(lab.factory, lab.urls.api)


def shown_by(url: str) -> bytes:
    """DER of the certificate that a server shows to a new connection."""
    parts = urlsplit(url)
    text = ssl.get_server_certificate((parts.hostname or "", parts.port or 0))
    return ssl.PEM_cert_to_DER_cert(text)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def refused_by_tls(client: Client) -> bool:
    try:
        client.get("/config")
    except requests.ConnectionError:  # an SSLError is one
        return True
    return False


def renewal(client: Client) -> bytes:
    """A request for the client's own name and key, as EST takes it."""
    assert client.credential is not None
    return base64.b64encode(csr(subject(client.credential.uuid), client.credential.key))


# --- disabled ---


def test_a_disabled_ca_keeps_its_devices_and_gets_no_new_one(lab: Lab, owner: Owner) -> None:
    """By the gateway, which would otherwise register an unknown name at its first call."""
    device = lab.device("device-1")
    owner.retire("local-ca", DISABLE)

    newcomer = lab.client(lab.credential("device-2"))

    answer = newcomer.get("/config")
    assert 403 == answer.status_code
    assert "cannot be registered" in answer.text
    assert ["device-1"] == [view.uuid for view in lab.factory.all_devices()]
    assert 204 == device.get("/config").status_code
    assert 204 == lab.client(device.credential).get("/config").status_code
    assert 204 == lab.client(lab.credential("device-3", ca="online-ca")).get("/config").status_code
    assert [str(lab.factory.authority("local-ca").certificate.serial_number)] == owner.certs()[
        "disabled-ca-serials"
    ]


def test_a_deleted_device_is_told_so_whatever_its_ca(
    lab: Lab, owner: Owner, operator: Operator
) -> None:
    device = lab.device("device-1")
    assert 200 == operator.send("DELETE", "device-1/").status_code
    owner.retire("local-ca", DISABLE)

    answer = device.get("/config")

    assert (403, "Device(device-1) is on the denied list") == (answer.status_code, answer.text)


def test_a_disabled_cas_device_renews_and_a_stranger_does_not(lab: Lab, owner: Owner) -> None:
    """Over EST the stranger would get a certificate of another CA, and register with it."""
    device = lab.device("device-1")
    owner.retire("local-ca", DISABLE)
    stranger = lab.client(lab.credential("device-2"))

    assert 200 == device.enrol(renewal(device)).status_code
    assert 403 == stranger.enrol(renewal(stranger)).status_code


def test_a_disabled_ca_can_be_enabled_again(lab: Lab, owner: Owner) -> None:
    owner.retire("local-ca", DISABLE)
    owner.retire("local-ca", RENEW)

    assert 204 == lab.client(lab.credential("device-2")).get("/config").status_code
    assert [] == owner.certs()["disabled-ca-serials"]


def test_no_device_is_added_under_a_disabled_ca(lab: Lab, owner: Owner, tmp_path: Path) -> None:
    """Nothing is left of it; under another CA it can be."""
    owner.retire("local-ca", DISABLE)

    with pytest.raises(FactoryError, match="is disabled"):
        lab.factory.add_device(tmp_path / "device")

    assert not (tmp_path / "device").exists()
    assert [] == lab.factory.all_devices()
    lab.factory.add_device(tmp_path / "device", ca="online-ca")


def test_a_registration_may_be_asked_about(lab: Lab, owner: Owner) -> None:
    """In words for whoever registers devices in another way than by their first call."""

    def refusal(ca: str) -> str:
        with lab.factory.store.read() as db:
            return certs.registration_refusal(db, pem(lab.credential(ca=ca).certificate))

    assert "" == refusal("local-ca")
    assert "not by a device CA of the factory" in refusal("foreign-ca")
    owner.retire("local-ca", DISABLE)
    assert refusal("local-ca").endswith("which is disabled")
    owner.retire("local-ca", REVOKE)
    assert refusal("local-ca").endswith("which is revoked")
    assert "" == refusal("online-ca")


def new_online_ca(owner: Owner) -> x509.Certificate:
    wanted = owner.request("ca-csr")
    new = sign(owner.root(), wanted.subject, public_key=wanted.public_key())
    assert 200 == owner.change(ca_crt=owner.certs()["ca-crt"] + pem(new)).status_code
    return new


def test_nobody_signs_with_a_disabled_online_ca(lab: Lab, owner: Owner) -> None:
    """EST says so, until there is another."""
    device = lab.device()
    owner.retire("online-ca", DISABLE)
    answer = device.enrol(renewal(device))
    assert (503, True) == (answer.status_code, "online-ca" in answer.text)

    new = new_online_ca(owner)

    (issued,) = certificates(device.enrol(renewal(device)))
    issued.verify_directly_issued_by(new)


def test_a_new_online_ca_signs_and_the_one_before_stays_trusted(lab: Lab, owner: Owner) -> None:
    old = lab.client(lab.credential(ca="online-ca"))
    old.get("/config")

    new = new_online_ca(owner)

    (issued,) = certificates(old.enrol(renewal(old)))
    issued.verify_directly_issued_by(new)
    assert 204 == lab.client(old.credential).get("/config").status_code


def test_a_device_ca_that_has_expired_is_in_nobodys_way(
    lab: Lab, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roots live twenty years and device CAs ten: another has to find its place beside it."""
    later = time.time() + 11 * 366 * 86400
    monkeypatch.setattr("fioagent.factory.pki.certs_change.time.time", lambda: later)
    new = sign(owner.root(), name(f"fio-{lab.factory.desk.user_id()}"), days=12 * 366)

    answer = owner.change(ca_crt=owner.certs()["ca-crt"] + pem(new))

    assert 200 == answer.status_code, answer.text
    assert pem(new) in owner.certs()["ca-crt"]


def test_est_does_not_issue_by_a_ca_that_nobody_trusts_any_more(lab: Lab, owner: Owner) -> None:
    device = lab.client(lab.credential("device-1", ca="online-ca"))
    device.get("/config")
    lab.factory.set_knob("est_ca", "local-ca")
    assert 200 == device.enrol(renewal(device)).status_code
    owner.retire("local-ca", REVOKE)

    answer = device.enrol(renewal(device))

    assert (503, True) == (answer.status_code, "is revoked" in answer.text)


# --- revoked ---


@pytest.mark.parametrize(
    "reason", [REVOKE, None, x509.ReasonFlags.key_compromise], ids=["9", "none", "1"]
)
def test_a_revoked_ca_is_not_trusted_from_the_next_connection_on(
    lab: Lab, owner: Owner, reason: x509.ReasonFlags | None
) -> None:
    """A TLS alert at gateway and EST server; it leaves the list; other CAs' devices do not mind."""
    device, other = lab.device("device-1"), lab.client(lab.credential("device-2", ca="online-ca"))
    serial = lab.factory.authority("local-ca").certificate.serial_number
    owner.retire("local-ca", reason)

    again = lab.client(device.credential)
    with pytest.raises(requests.ConnectionError, match=r"(?i)unknown.ca|closed|reset"):
        again.get("/config")
    with pytest.raises(requests.ConnectionError):
        again.enrol(renewal(again))
    assert 204 == other.get("/config").status_code
    listed = x509.load_pem_x509_certificates(owner.certs()["ca-crt"].encode())
    assert serial not in [ca.serial_number for ca in listed]


def test_a_revoked_ca_is_not_served_on_an_open_connection(lab: Lab, owner: Owner) -> None:
    """Neither by the gateway nor by the EST server: it is closed without an answer."""
    device = lab.device()
    assert 200 == device.enrol(renewal(device)).status_code
    before = lab.factory.handshakes("gateway")
    owner.retire("local-ca", REVOKE)

    assert refused_by_tls(device)
    with pytest.raises(requests.ConnectionError):
        device.enrol(renewal(device))

    assert before[0] == lab.factory.handshakes("gateway")[0]
    assert 0 in [seen.status for seen in lab.factory.requests("gateway")]


def test_a_revoked_cas_device_cannot_resume_a_session(lab: Lab, owner: Owner) -> None:
    """A resumed session would not verify the certificate again."""
    credential = lab.credential()
    context = tls_context(lab.factory, ssl.TLSVersion.TLSv1_2)
    context.load_cert_chain(credential.certificate_file, credential.key_file)
    address = ("localhost", urlsplit(lab.urls.gateway).port or 0)

    def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(address, timeout=TIMEOUT_S) as line,
            context.wrap_socket(line, server_hostname="localhost", session=session) as tls,
        ):
            return tls.session, tls.session_reused

    session, _ = connect(None)
    assert (session, True) == connect(session)
    owner.retire("local-ca", REVOKE)

    with pytest.raises(OSError, match=r"(?i)unknown ca|reset"):
        connect(session)


def test_a_revoked_ca_comes_back_with_its_certificate(lab: Lab, owner: Owner) -> None:
    """As fioctl's help has it: by the list of CAs."""
    device = lab.device()
    local = pem(lab.factory.authority("local-ca").certificate)
    owner.retire("local-ca", REVOKE)
    assert refused_by_tls(device)

    assert 200 == owner.change(ca_crt=owner.certs()["ca-crt"] + local).status_code

    assert 204 == lab.client(device.credential).get("/config").status_code


def test_a_ca_is_replaced_in_one_change(lab: Lab, owner: Owner) -> None:
    """The list leaves out what the revocation list of the same change revokes."""
    local = lab.factory.authority("local-ca").certificate
    new = sign(owner.root(), local.subject)
    online = pem(lab.factory.authority("online-ca").certificate)
    revoked = crl(owner.root(), local.serial_number)

    assert 200 == owner.change(ca_crt=online + pem(new), ca_revoke_crl=revoked).status_code

    assert online + pem(new) == owner.certs()["ca-crt"]


# --- certificates of the servers ---


@pytest.mark.parametrize("server", ["gateway", "est"])
def test_a_new_tls_certificate_is_shown_to_the_next_connection(
    lab: Lab, owner: Owner, server: str
) -> None:
    """Without a restart. A request that nobody answers disturbs nothing; its key is secret."""
    member, url = {
        "gateway": ("tls-crt", lab.urls.gateway),
        "est": ("est-tls-crt", lab.urls.est),
    }[server]
    request = member.replace("crt", "csr")
    device = lab.device()
    before = shown_by(url)
    owner.request(request)
    assert before == shown_by(url)
    new = owner.server(request)
    assert before == shown_by(url)

    assert 200 == owner.change(**{member.replace("-", "_"): pem(new)}).status_code

    assert der(new) == shown_by(url)
    assert 204 == device.get("/config").status_code
    modes = {path.stat().st_mode & 0o777 for path in lab.factory.paths.cloud.glob("*.key")}
    assert {0o400} == modes


def test_a_key_never_leaves_the_cloud(lab: Lab, owner: Owner) -> None:
    """Each request has another key; none is told, in answers or in the log."""
    one, other = (owner.request("tls-csr").public_key() for _ in range(2))

    forms = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    assert one.public_bytes(*forms) != other.public_bytes(*forms)
    assert "PRIVATE" not in owner.ask("GET").text
    assert "PRIVATE" not in (lab.factory.paths.log / "api.log").read_text()


def test_a_restart_loses_nothing(unserved: Factory, tmp_path: Path) -> None:
    """Certificates, states of CAs and the key whose request was made before it."""
    with unserved.serving() as urls:
        owner = Owner(unserved, urls.api)
        owner.retire("local-ca", DISABLE)
        new = owner.server()
        before = owner.certs()
    with unserved.serving() as urls:
        owner = Owner(unserved, urls.api)
        assert before == owner.certs()
        assert 200 == owner.change(tls_crt=pem(new)).status_code
        assert der(new) == shown_by(urls.gateway)
        stranger = Credential.issue(unserved, tmp_path / "stranger", "device-2")
        with closing(Client(unserved, urls, stranger)) as client:
            assert 403 == client.get("/config").status_code


def test_fioctl_is_told_who_asks_and_when_it_was_changed(lab: Lab, owner: Owner) -> None:
    """The local CA's common name is made of the id."""
    user = owner.ask("GET", "users/self/").json()

    local = lab.factory.authority("local-ca").certificate
    assert name(f"fio-{user['polis-id']}") == local.subject
    meta = owner.certs()["change-meta"]
    assert {"created-at", "created-by", "updated-at", "updated-by"} == set(meta)
    assert user["polis-id"] == meta["created-by"] == meta["updated-by"]


# --- the shared PKI ---


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[Factory, str, Path]]:
    factory = Factory.create(tmp_path / "lab", own_pki=False)
    with factory.serving() as urls:
        yield factory, urls.gateway, tmp_path


def test_a_factory_that_nobody_owns_serves_with_the_shared_pki(
    shared: tuple[Factory, str, Path],
) -> None:
    """Devices register and check in; who asks for its certificates is told 206."""
    factory, gateway, tmp_path = shared
    device = factory.add_device(tmp_path / "device")

    assert 204 == check_in(gateway, device.sota)
    assert 206 == Owner(factory, factory.urls().api).ask("GET").status_code
    with pytest.raises(ssl.SSLError):  # there is no EST server before somebody authorizes one
        shown_by(factory.urls().est)


def test_who_takes_ownership_leaves_the_shared_pki_behind(
    shared: tuple[Factory, str, Path],
) -> None:
    """Its root, its TLS certificate and its devices; those need to be registered anew."""
    factory, gateway, tmp_path = shared
    device = factory.add_device(tmp_path / "device")
    before = shown_by(gateway)

    take_ownership(factory.desk, factory.paths)

    assert before != shown_by(gateway)
    with pytest.raises(requests.ConnectionError):
        check_in(gateway, device.sota, factory.paths.root)
    assert 204 == check_in(gateway, factory.add_device(tmp_path / "again").sota)


def check_in(gateway: str, sota: Path, root: Path | None = None) -> int:
    pair = str(sota / "client.pem"), str(sota / "pkey.pem")
    trusted = str(root or sota / "root.crt")
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{gateway}/config", cert=pair, verify=trusted, timeout=10)
    return answer.status_code


def test_a_ca_that_was_renewed_with_its_key_keeps_its_devices(lab: Lab, owner: Owner) -> None:
    """The certificate before it is revoked; devices are counted at the one that counts."""
    device = lab.device("device-1")
    old = lab.factory.authority("local-ca")
    renewed = sign(owner.root(), old.certificate.subject, public_key=old.key.public_key())
    assert 200 == owner.change(ca_crt=owner.certs()["ca-crt"] + pem(renewed)).status_code
    listed = crl(owner.root(), old.certificate.serial_number, reason=REVOKE)

    assert 200 == owner.change(ca_revoke_crl=listed).status_code

    assert 204 == lab.client(device.credential).get("/config").status_code
    assert {str(renewed.serial_number): 1} == lab.factory.desk.dependants()

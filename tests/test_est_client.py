"""A rotation at EST servers that want more, or answer in other ways, than the factory's own."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, ExtensionOID

from tests.aftermath import check_open, check_over, told
from tests.est_peer import BASE, Answer, Got, Peer, packed, serving
from tests.power import PowerCutError, StopAt, Switch, rotate
from tests.tunnel import Tunnel, listening
from tests.unit import made
from tests.world import World

CHALLENGE_PASSWORD = made.oid("2a864886f70d010907")
ECDSA_SHA384 = made.oid("2a8648ce3d040303")
P384 = made.tlv(0x30, made.oid("2a8648ce3d0201"), made.tlv(0x31, made.oid("2b81040022")))
RSA = made.tlv(0x30, made.oid("2a864886f70d010101"), made.tlv(0x31, made.tlv(2, b"\x08\x00")))
TEMPLATE = made.tlv(0x30, made.oid("2b0601040182371402"), made.tlv(4, b"\x04\x01A"))
EXTENSION = made.tlv(0x30, made.oid("2a864886f70d01090e"), made.tlv(0x31, made.tlv(0x30, TEMPLATE)))


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    with serving(world) as found:
        yield found


def set_est(world: World, text: str) -> None:
    """Into the section that the device's settings have already."""
    path = Path(world.device.env["FIOAGENT_CONFIG"])
    path.write_text(path.read_text().replace("[est]\n", f"[est]\n{text}\n"))


def wants(*attributes: bytes) -> Answer:
    """CsrAttrs as libest sends them, with a NUL at the end."""
    body = base64.b64encode(made.tlv(0x30, *attributes)) + b"\x00"
    return Answer(200, body, {"Content-Type": "application/csrattrs"})


def rotated(world: World, peer: Peer, *arguments: str) -> x509.CertificateSigningRequest:
    """What was asked for in a rotation that went well."""
    ran = world.rotate("--est-server", peer.url, *arguments)
    assert ran.code == 0, (ran.out, ran.err)
    world.check_reachable()
    world.check_nothing_left_behind()
    return peer.asked("/simplereenroll")[-1].request


# --- csrattrs ---


def test_what_the_server_wants_is_in_the_request(world: World, peer: Peer) -> None:
    """Another curve, another hash, one more extension: asked for before there is a key."""
    peer.answers["/csrattrs"] = lambda _: wants(P384, ECDSA_SHA384, EXTENSION)

    request = rotated(world, peer)

    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert ("secp384r1", "sha384") == (
        key.curve.name,
        getattr(request.signature_hash_algorithm, "name", None),
    )
    found = {each.oid.dotted_string: each for each in request.extensions}
    assert "1.3.6.1.4.1.311.20.2" in found
    assert ExtensionOID.KEY_USAGE.dotted_string in found
    assert world.opened_config()  # encrypted to the new curve


def test_csrattrs_can_be_switched_off(world: World, peer: Peer) -> None:
    peer.answers["/csrattrs"] = lambda _: wants(P384)
    set_est(world, "csrattrs = false\ncacerts = false")

    request = rotated(world, peer)

    assert isinstance(request.public_key().curve, ec.SECP256R1)  # type: ignore[union-attr]  # is EC
    assert [got.path for got in peer.got] == [f"{BASE}/simplereenroll"]


def test_a_key_that_cannot_be_is_refused_before_it_is_made(world: World, peer: Peer) -> None:
    peer.answers["/csrattrs"] = lambda _: wants(RSA)

    ran = world.rotate("--est-server", peer.url)

    told(ran, 1, "the server asks for an RSA key")
    assert "est.csrattrs = false" in ran.err
    assert peer.asked("/simplereenroll") == []
    check_over(world)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(204),
        Answer(401, b"who are you"),
        Answer(500, b"oops"),
        Answer(200, b""),
        Answer(200, b"<html>"),
        Answer(200, b"MAA="),
        Answer(200, b"MIIB"),
        Answer(raw=b""),
        Answer(raw=b"what is HTTP\r\n\r\n"),
    ],
    ids=str,
)
def test_csrattrs_that_say_nothing_are_no_obstacle(
    world: World, peer: Peer, answer: Answer
) -> None:
    """RFC 7030 section 4.5.2: then nothing is asked for; the enrolment decides."""
    peer.answers["/csrattrs"] = lambda _: answer

    assert rotated(world, peer).is_signature_valid


@pytest.mark.parametrize("answer", [Answer(raw=b""), Answer(503), Answer(429)], ids=str)
def test_a_server_that_could_not_be_asked_is_asked_again(
    world: World, peer: Peer, answer: Answer
) -> None:
    """The key was made in the meantime; it is made anew when the server wants another."""
    peer.answers["/csrattrs"] = lambda _: answer
    peer.answers["/simplereenroll"] = lambda _: Answer(503)
    told(world.rotate("--id", "certs-1", "--est-server", peer.url), 75, "answered 503")
    check_open(world, "key-generated", "certs-1")
    peer.answers["/csrattrs"] = lambda _: wants(P384)
    peer.answers["/simplereenroll"] = peer.enrolled

    request = rotated(world, peer, "--id", "certs-1")

    assert isinstance(request.public_key().curve, ec.SECP384R1)  # type: ignore[union-attr]  # is EC
    names = [name for name, _ in world.event_names()]
    assert names.count("CertRotationCompleted") == 1


@pytest.mark.parametrize("cut", range(1, 26))
def test_power_cut_while_the_request_is_made_anew(world: World, peer: Peer, cut: int) -> None:
    """Wherever it fails, the next run gets there; the first cuts are before, the last behind it."""
    peer.answers["/csrattrs"] = lambda _: Answer(raw=b"")
    peer.answers["/simplereenroll"] = lambda _: Answer(503)
    told(world.rotate("--id", "certs-1", "--est-server", peer.url), 75, "answered 503")
    peer.answers["/csrattrs"] = lambda _: wants(P384)
    peer.answers["/simplereenroll"] = peer.enrolled

    with pytest.raises(PowerCutError):
        rotate(world, Switch(cut), "certs-1")
    world.check_reachable()
    world.check_every_value_opens_with_a_key_at_hand()

    request = rotated(world, peer, "--id", "certs-1")
    assert isinstance(request.public_key().curve, ec.SECP384R1)  # type: ignore[union-attr]  # is EC


# --- proof of possession, bound to the connection ---


def password(request: x509.CertificateSigningRequest) -> bytes:
    return request.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_is_bound_where_the_server_wants_it(world: World, newest: ssl.TLSVersion) -> None:
    """RFC 7030 section 3.5: the connection's own tls-unique, over TLS 1.2 and no later one."""
    with serving(world, newest=newest) as peer:
        peer.answers["/csrattrs"] = lambda _: wants(CHALLENGE_PASSWORD)

        request = rotated(world, peer)

    got = peer.asked("/simplereenroll")[-1]
    assert got.version == "TLSv1.2"
    assert base64.b64encode(got.binding or b"") == password(request)
    assert request.is_signature_valid


def test_a_bound_request_is_made_anew_for_each_connection(world: World, peer: Peer) -> None:
    """Same key, after a 202 and over a redirect."""
    peer.answers["/csrattrs"] = lambda _: wants(CHALLENGE_PASSWORD)
    peer.answers["/simplereenroll"] = lambda _: Answer(202, headers={"Retry-After": "1"})
    told(world.rotate("--id", "certs-1", "--est-server", peer.url), 75, "wants us to wait")
    moved = Answer(307, headers={"Location": f"{BASE}/other/simplereenroll"})
    peer.answers["/simplereenroll"] = lambda _: moved
    peer.answers["/other/simplereenroll"] = peer.enrolled

    assert world.rotate("--id", "certs-1").code == 0

    sent = [got for got in peer.got if got.method == "POST"]
    assert [base64.b64encode(got.binding or b"") for got in sent] == [
        password(got.request) for got in sent
    ]
    assert len({password(got.request) for got in sent}) == 3
    assert len({made_of(got) for got in sent}) == 1


def made_of(got: Got) -> object:
    key = got.request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_numbers()


def test_binding_can_be_switched_off(world: World, peer: Peer) -> None:
    set_est(world, 'proof_of_possession = "never"')
    peer.answers["/csrattrs"] = lambda _: wants(CHALLENGE_PASSWORD)

    request = rotated(world, peer)

    assert len(request.attributes) == 1
    assert peer.asked("/simplereenroll")[-1].version == "TLSv1.3"


def test_power_cut_between_a_bound_request_and_its_answer(world: World, peer: Peer) -> None:
    """The key is durable; the request is not needed again."""
    peer.answers["/csrattrs"] = lambda _: wants(CHALLENGE_PASSWORD)
    with_trigger = ("--id", "certs-1", "--est-server", peer.url)
    peer.answers["/simplereenroll"] = lambda _: Answer(503)
    told(world.rotate(*with_trigger), 75, "answered 503")
    peer.answers["/simplereenroll"] = peer.enrolled

    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after reenroll"), "certs-1")

    assert password(rotated(world, peer, "--id", "certs-1"))


# --- waiting ---


@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]
)
def test_a_wait_until_a_date_outlives_the_process(world: World, peer: Peer, form: str) -> None:
    """202, three days by the server's clock, which is a year behind; then the same bytes."""
    server = datetime.now(timezone.utc) - timedelta(days=365)
    asked = {
        "Retry-After": (server + timedelta(days=3)).strftime(form),
        "Date": server.strftime("%a, %d %b %Y %H:%M:%S GMT"),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
    raw = f"HTTP/1.1 202 Accepted\r\n{head}\r\n".encode()  # libest: without a length
    peer.answers["/simplereenroll"] = lambda _: Answer(raw=raw)
    told(world.rotate("--id", "certs-1", "--est-server", peer.url), 75, "wants us to wait")

    ran = world.process("rotate", "--json")

    assert ran.code == 75
    wait = datetime.fromisoformat(ran.lines[-1]["next_at"]) - datetime.now(timezone.utc)
    assert timedelta(days=2.9) < wait < timedelta(days=4.6)  # by chance up to a half longer
    assert len(peer.asked("/simplereenroll")) == 1
    peer.answers["/simplereenroll"] = peer.enrolled
    rotated(world, peer, "--id", "certs-1")
    assert len({got.body for got in peer.asked("/simplereenroll")}) == 1


# --- cacerts ---


def test_cacerts_are_checked_by_and_not_trusted(world: World, peer: Peer) -> None:
    """Not one byte of the trust file changes; the CA is one that the trust file leads to."""
    before = (world.storage / "root.crt").read_bytes()
    chain = [world.factory.authority(ca).certificate for ca in ("foreign-ca", "online-ca")]
    peer.answers["/cacerts"] = lambda _: packed(*chain)
    set_est(world, "require_chain = true")

    rotated(world, peer)

    assert before == (world.storage / "root.crt").read_bytes()


def test_a_ca_is_not_trusted_because_the_server_names_it(world: World, peer: Peer) -> None:
    foreign = world.factory.authority("foreign-ca").certificate
    peer.answers["/cacerts"] = lambda _: packed(foreign)
    peer.answers["/simplereenroll"] = lambda got: packed(
        peer.issue(got.request, "foreign-ca"), foreign
    )
    set_est(world, "require_chain = true")

    ran = world.rotate("--est-server", peer.url)

    told(ran, 1, "(est.require_chain)")
    check_over(world)


# --- redirects, labels ---


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("whole", [False, True])
def test_a_redirect_to_the_same_server_is_followed(
    world: World, peer: Peer, status: int, whole: bool
) -> None:
    target = f"{peer.url if whole else BASE}/elsewhere/simplereenroll"
    peer.answers["/simplereenroll"] = lambda _: Answer(status, headers={"Location": target})
    peer.answers["/elsewhere/simplereenroll"] = peer.enrolled

    assert world.rotate("--est-server", peer.url).code == 0

    assert len({got.body for got in peer.got if got.method == "POST"}) == 1


@pytest.mark.parametrize(
    ("status", "target", "line"),
    [
        (307, "https://elsewhere.example/.well-known/est/simplereenroll", "that is another server"),
        (307, "http://localhost/.well-known/est/simplereenroll", "that is another server"),
        (307, "/.well-known/est/../../x", "that leads out of EST"),
        (307, "/x", "that leads out of EST"),
        (307, f"{BASE}/simplereenroll", "redirects without end"),
        (302, f"{BASE}/other/simplereenroll", "which would lose the request"),
        (307, "", "redirects to 'nowhere'"),
    ],
)
def test_any_other_redirect_is_told_and_not_followed(
    world: World, peer: Peer, status: int, target: str, line: str
) -> None:
    peer.answers["/simplereenroll"] = lambda _: Answer(status, headers={"Location": target})

    ran = world.rotate("--est-server", peer.url)

    told(ran, 1, line)
    assert 1 <= len(peer.asked("/simplereenroll")) <= 4
    check_over(world)


def test_a_label_is_the_last_part_of_the_address(world: World, peer: Peer) -> None:
    peer.answers["/factory-1/simplereenroll"] = peer.enrolled
    set_est(world, 'label = "factory-1"')

    assert world.rotate("--est-server", peer.url).code == 0

    assert {got.path.rpartition("/")[0] for got in peer.got} == {f"{BASE}/factory-1"}


# --- answers that are read in two ways, or never end ---


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nMM", "two lengths"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nM", "compressed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nMM", "cut off"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n", "head is longer than"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9000, "head is longer than"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"M" * 300_000, "longer than 262144 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nM\r\n" * 300_000,
            "longer than 262144 bytes",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cut off"),
    ],
    ids=[
        *("two lengths", "gzip", "cut off", "200 headers", "long header", "hints", "ssh"),
        *("endless", "endless chunks", "no chunk"),
    ],
)
def test_an_answer_that_is_none_is_one_line_and_tried_again(
    world: World, peer: Peer, raw: bytes, line: str
) -> None:
    peer.answers["/simplereenroll"] = lambda _: Answer(raw=raw)

    ran = world.rotate("--id", "certs-1", "--est-server", peer.url)

    told(ran, 75, line)
    check_open(world, "key-generated", "certs-1")
    peer.answers["/simplereenroll"] = peer.enrolled
    assert world.rotate().code == 0


def plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def chunked(body: bytes) -> bytes:
    chunks = b"".join(b"1; x=y\r\n%c\r\n" % byte for byte in body)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "frame",
    [
        lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" + plain(body),
        lambda body: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + plain(body),
        lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body,
        lambda body: plain(body).replace(b" OK", b" OK\r\nStatus: 200 OK"),
        chunked,
    ],
    ids=["100", "103", "1.0 without a length", "Status header", "chunks of a byte"],
)
def test_every_framing_of_a_good_answer_is_read(
    world: World, peer: Peer, frame: Callable[[bytes], bytes]
) -> None:
    """Rows of RFC 9110 section 15.2 and RFC 9112 that are in the field; libest, Go."""

    def late(got: Got) -> Answer:
        return Answer(raw=frame(peer.enrolled(got).body))

    peer.answers["/simplereenroll"] = late

    rotated(world, peer)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            Answer(
                403, b"<html><style>p{}</style><p>not\nfor you</p>", {"Content-Type": "text/html"}
            ),
            "answered 403: not for you",
        ),
        (
            Answer(400, base64.b64encode(b"0" * 40), {"Content-Type": "application/pkcs7-mime"}),
            "answered 400: (a CMC error response of 40 bytes)",
        ),
        (Answer(403, b""), "answered 403: (Forbidden)"),
        (Answer(401, b"", {"WWW-Authenticate": "Basic"}), "answered 401: (Unauthorized)"),
    ],
)
def test_the_servers_words_are_told_as_words(
    world: World, peer: Peer, answer: Answer, line: str
) -> None:
    peer.answers["/simplereenroll"] = lambda _: answer

    ran = world.rotate("--est-server", peer.url)

    told(ran, 1, line)
    check_over(world)


# --- proxies ---


@pytest.mark.parametrize("uses", [[], ["est"], ["gateway"], ["est", "gateway"]], ids=str)
@pytest.mark.parametrize("by_variable", [False, True])
def test_a_proxy_leads_to_whom_it_shall(world: World, uses: list[str], by_variable: bool) -> None:
    """And to nobody by default: a variable of the environment is for other programs."""
    tunnel = Tunnel()
    with listening(tunnel) as port:
        url = f"http://bob:hunter2@127.0.0.1:{port}"
        world.set_setting(f"[proxy]\nuse_for = {json.dumps(uses)}")
        if not by_variable:
            world.set_setting(f'url = "{url}"')
        environ = {"HTTPS_PROXY": url} if by_variable else {}

        ran = world.fioagent("rotate", "--now", environ=environ)

        assert ran.code == 0, ran.err
        shown = world.fioagent("settings", environ=environ).unfolded

    asked = {head.split()[1].decode() for head in tunnel.asked}
    expected = {"est": world.urls.est, "gateway": world.urls.gateway}
    assert {expected[use].split("/")[2] for use in uses} == asked
    assert "http://bob:***@127.0.0.1" in shown
    assert "hunter2" not in shown


def test_a_proxy_is_passed_by_for_whom_it_is_not(world: World) -> None:
    world.set_setting('[proxy]\nurl = "http://127.0.0.1:1"\nuse_for = ["est", "gateway"]')
    told(world.rotate(), 75, "cannot reach the proxy 127.0.0.1:1: connection refused")

    assert world.fioagent("rotate", "--now", environ={"NO_PROXY": "localhost"}).code == 0


def test_a_proxy_of_another_kind_matters_only_where_it_is_used(world: World) -> None:
    """HTTPS_PROXY may be anything; nothing may be stopped by what nobody asked for."""
    environ = {"https_proxy": "socks5://proxy:1080"}
    assert world.fioagent("rotate", "--now", environ=environ).code == 0
    world.set_setting('[proxy]\nuse_for = ["est", "gateway"]')

    ran = world.fioagent("rotate", "--now", "--id", "certs-2", environ=environ)

    told(ran, 78, "cannot use proxy.url, HTTPS_PROXY in the environment: only a proxy at")


# --- trust ---


def test_the_est_server_may_have_a_trust_file_of_its_own(world: World, tmp_path: Path) -> None:
    """It counts for that server alone."""
    other = tmp_path / "other.pem"
    foreign = world.factory.authority("foreign-ca").certificate
    other.write_bytes(made.pem(foreign))
    set_est(world, f'trust_file = "{other}"')
    told(world.rotate("--id", "certs-1"), 75, "cannot trust localhost:")

    other.write_bytes(other.read_bytes() + (world.storage / "root.crt").read_bytes())

    assert world.rotate("--id", "certs-1").code == 0


# --- fioagent est ---


def unchanged(world: World, *arguments: str) -> tuple[int, str, str]:
    """``fioagent est``, after which every file on the device is what it was."""
    before = world.files()
    ran = world.fioagent("est", *arguments)
    assert before == world.files()
    return ran.code, ran.out, ran.err


def test_cacerts_are_explained(world: World) -> None:
    code, out, _ = unchanged(world, "cacerts")

    assert code == 0
    assert "in the trust file" in out
    assert "leads to the trust file" in out
    rows = json.loads(unchanged(world, "cacerts", "--json")[1])
    assert [row["role"] for row in rows["certificates"]].count("in the trust file") == 1


def test_a_list_that_has_to_be_waited_for_is_no_enrolment(world: World, peer: Peer) -> None:
    peer.answers["/cacerts"] = lambda _: Answer(202)

    code, _, err = unchanged(world, "cacerts", "--est-server", peer.url)

    assert code == 75
    assert "cannot read the CA certificates yet" in err


def test_csrattrs_are_explained(world: World, peer: Peer) -> None:
    peer.answers["/csrattrs"] = lambda _: wants(P384, ECDSA_SHA384, EXTENSION, CHALLENGE_PASSWORD)

    _, out, _ = unchanged(world, "csrattrs", "--est-server", peer.url)

    for words in ("key on secp384r1", "with sha384", "1 more ext", "bound to its connection"):
        assert words in out
    assert "asks for nothing" in unchanged(world, "csrattrs")[1]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (Answer(503), "cannot tell what {url} wants: csrattrs not known: the server answered 503"),
        (
            Answer(raw=b""),
            "cannot tell what {url} wants: csrattrs not known: cannot reach localhost",
        ),
    ],
    ids=["503", "no answer"],
)
def test_csrattrs_that_could_not_be_asked_for_are_tried_again(
    world: World, peer: Peer, answer: Answer, line: str
) -> None:
    peer.answers["/csrattrs"] = lambda _: answer

    code, _, err = unchanged(world, "csrattrs", "--est-server", peer.url)

    assert code == 75
    assert err.startswith("fioagent: " + line.format(url=peer.url))


def test_a_dry_run_gets_a_certificate_and_throws_it_away(world: World) -> None:
    world.factory.clear_requests()

    code, out, _ = unchanged(world, "reenroll", "--dry-run")

    assert code == 0
    assert "passes every check" in out
    assert "nothing on the device was changed" in out
    fields = json.loads(unchanged(world, "reenroll", "--dry-run", "--json")[1])
    assert fields["result"] == "answered"
    assert len([r for r in world.factory.requests("est") if r.method == "POST"]) == 2
    assert world.factory.requests("gateway") == []
    world.check_old_pair_is_live()


@pytest.mark.parametrize(
    ("answer", "code", "line"),
    [("403", 1, "answered 403"), ("202", 75, "wants us to wait"), ("html", 1, "with text/html")],
)
def test_a_dry_run_tells_what_a_rotation_would_stop_at(
    world: World, answer: str, code: int, line: str
) -> None:
    world.factory.set_knob("est_answer", answer)

    found, out, err = unchanged(world, "reenroll", "--dry-run", "--json")

    assert (found, json.loads(out)["exit"]) == (code, code)
    assert line in err
    assert line in json.loads(out)["message"]


def test_without_a_server_it_says_where_to_name_one(world: World, tmp_path: Path) -> None:
    settings = Path(world.device.env["FIOAGENT_CONFIG"])
    settings.write_text(settings.read_text().replace("server =", "# server ="))

    code, _, err = unchanged(world, "cacerts")

    assert code == 78
    assert "no EST server is known" in err

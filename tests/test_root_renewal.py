"""An operator has the gateway's root replaced: by a trigger, over EST, and nobody is stranded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fioagent import agent, rootrenewal
from fioagent.disk import LocalDisk
from fioagent.factory import Factory
from fioagent.model import RotationId
from fioagent.ports import Disk
from tests import cloud
from tests.aftermath import told
from tests.est_peer import Answer, Peer, packed, serving
from tests.handlers import Handlers
from tests.power import PowerCutError, Switch, Wired
from tests.test_trust import digest, root_of, trusted
from tests.unit import made
from tests.world import StoppedClock, World

TOP: Final = Path(__file__).resolve().parent.parent
NOW: Final = datetime.now(timezone.utc).replace(microsecond=0)


def root_key(factory: Factory) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((factory.paths.pki / "factory_ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def ca(
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    key_id: bool = True,
) -> x509.Certificate:
    """A CA certificate; the issuer has the same name, as with roots of one factory."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(made.key_usage(ca=True), critical=True)
    )
    if key_id:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(own, critical=False)
    return builder.sign(signer, hashes.SHA256())


class NextRoot:
    """The root to come: by itself, and its key under the root of today."""

    def __init__(self, factory: Factory) -> None:
        today = x509.load_pem_x509_certificate(factory.paths.root.read_bytes())
        self.key = made.new_key()
        self.itself = ca(today.subject, self.key, self.key)
        self.with_old = ca(today.subject, self.key, root_key(factory))


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    with serving(world) as served:
        yield served


def lists(peer: Peer, *certificates: x509.Certificate) -> None:
    peer.answers["/cacerts"] = lambda _: packed(*certificates)


def renew(world: World, peer: Peer, identifier: str = "roots-1") -> str:
    ran = world.fioagent("renew-root", peer.url, identifier)
    assert ran.code == 0, ran.err
    return ran.out


def told_operators(world: World, identifier: str = "roots-1") -> list[tuple[str, bool]]:
    return [
        (event["eventType"]["id"], event["event"]["success"])
        for event in world.factory.events(world.uuid, identifier)
    ]


DONE: Final = [
    ("RootCaUpdateStarted", True),
    ("Fetch new root", True),
    ("RootCaUpdateCompleted", True),
]


REFUSED: Final = [(DONE[0][0], True), *((name, False) for name, _ in DONE[1:])]


def request_of(world: World) -> Path:
    return world.storage / "fioagent" / "root-renewal.json"


def test_a_new_root_whose_key_the_old_one_has_signed_is_trusted_beside_it(
    world: World, peer: Peer
) -> None:
    """Operators are told, the stock handler finds its marker, and twice is once."""
    new = NextRoot(world.factory)
    lists(peer, root_of(world), new.itself, new.with_old)

    assert f"trusted now: OU={world.factory.name},CN=Factory-CA, sha256 " in renew(world, peer)

    assert trusted(world) == [digest(root_of(world)), digest(new.itself)]
    assert told_operators(world) == DONE
    marker = (world.storage / "root-ca-update.state.completed").read_text()
    assert '"RotationId":"roots-1",' in marker
    assert not request_of(world).exists()
    assert renew(world, peer) == "done already\n"
    assert len(peer.asked("/cacerts")) == 1
    world.check_reachable()


@pytest.mark.parametrize("first", ["tls-crt", "est-tls-crt"], ids=["gateway", "est"])
def test_the_old_root_goes_when_gateway_and_est_server_have_left_it(
    tmp_path: Path, first: str
) -> None:
    """Both phases with servers that really change over; too early is refused and tried again."""
    factory = Factory.create(tmp_path / "lab")
    with factory.serving() as urls:
        world = World(factory, urls, tmp_path / "device")
        world.give_config()
        old, new = root_of(world), NextRoot(factory)
        with serving(world) as peer:
            lists(peer, old, new.itself, new.with_old)
            renew(world, peer)
    _move(factory, first, new)
    with factory.serving(), serving(world) as peer:
        lists(peer, new.itself)
        told(world.fioagent("renew-root", peer.url, "roots-2"), 75, "cannot trust localhost")
        assert trusted(world) == [digest(old), digest(new.itself)]
        assert told_operators(world, "roots-2") == []
        world.check_reachable()
    for each in ("tls-crt", "est-tls-crt"):
        _move(factory, each, new)
    with factory.serving(), serving(world) as peer:
        lists(peer, new.itself)
        assert f"trusted no more: {_subject(old)}" in renew(world, peer, "roots-2")
        assert trusted(world) == [digest(new.itself)]
        assert told_operators(world, "roots-2") == DONE
        world.check_reachable()
        ran = world.rotate()
        assert ran.code == 0, ran.err


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _move(factory: Factory, name: str, new: NextRoot) -> None:
    """A server gets a certificate under the new root."""
    before = x509.load_pem_x509_certificate(cloud.pair(factory, name)[0].read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(before.subject)
        .issuer_name(new.itself.subject)
        .public_key(before.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(before.not_valid_before_utc)
        .not_valid_after(before.not_valid_after_utc)
    )
    for each in before.extensions:
        if each.oid != x509.AuthorityKeyIdentifier.oid:
            builder = builder.add_extension(each.value, each.critical)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(new.key.public_key())
    signed = builder.add_extension(issuer, critical=False).sign(new.key, hashes.SHA256())
    cloud.put(factory, name, signed)


def _another_name(factory: Factory) -> list[x509.Certificate]:
    key = made.new_key()
    return [ca(made.common_name("another"), key, key)]


def _not_signed(factory: Factory) -> list[x509.Certificate]:
    return [NextRoot(factory).itself]


def _signed_by_a_stranger(factory: Factory) -> list[x509.Certificate]:
    new = NextRoot(factory)
    return [new.itself, ca(new.itself.subject, new.key, made.new_key())]


def _signed_as_a_leaf(factory: Factory) -> list[x509.Certificate]:
    """A device's certificate, say, under the name of the root: no CA has been vouched for."""
    new = NextRoot(factory)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(new.itself.subject)
        .issuer_name(new.itself.subject)
        .public_key(new.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=10))
        .sign(root_key(factory), hashes.SHA256())
    )
    return [new.itself, leaf]


@pytest.mark.parametrize(
    ("offered", "line"),
    [
        (_another_name, "no root that is trusted has this name"),
        (_not_signed, "no root that is trusted has signed its key"),
        (_signed_by_a_stranger, "no root that is trusted has signed its key"),
        (_signed_as_a_leaf, "no root that is trusted has signed its key"),
    ],
)
@pytest.mark.parametrize("beside", [True, False], ids=["beside", "alone"])
def test_a_root_that_nobody_has_vouched_for_is_not_trusted(
    world: World,
    peer: Peer,
    offered: Callable[[Factory], Sequence[x509.Certificate]],
    line: str,
    beside: bool,
) -> None:
    """Whoever holds the EST server does not hold the device's trust."""
    before = world.files()
    lists(peer, *([root_of(world)] if beside else []), *offered(world.factory))

    told(world.fioagent("renew-root", peer.url, "roots-1"), 1, line)

    assert before["root.crt"] == world.files()["root.crt"]
    assert told_operators(world) == REFUSED
    assert not request_of(world).exists()
    world.check_reachable()


def test_it_is_told_in_json_too(world: World, peer: Peer) -> None:
    new = NextRoot(world.factory)
    peer.answers["/cacerts"] = lambda _: Answer(503)

    failed = world.fioagent("renew-root", peer.url, "roots-1", "--json")
    lists(peer, root_of(world), new.itself, new.with_old)
    done = world.fioagent("renew-root", peer.url, "roots-1", "--json")

    assert (failed.code, failed.lines[0]["result"]) == (75, "failed")
    assert "503" in failed.lines[0]["message"]
    assert done.lines == [{"result": "done", "added": [digest(new.itself)], "retired": []}]


def test_a_list_without_any_root_changes_nothing(world: World, peer: Peer) -> None:
    lists(peer, world.factory.authority("online-ca").certificate)

    told(world.fioagent("renew-root", peer.url, "roots-1"), 1, "lists none that may be trusted")

    assert trusted(world) == [digest(root_of(world))]


def test_the_same_key_for_longer_needs_nobody_else(world: World, peer: Peer) -> None:
    """A root that is about to expire, signed anew by itself; the old one is not listed any more."""
    key = root_key(world.factory)
    longer = ca(root_of(world).subject, key, key)
    lists(peer, longer)

    renew(world, peer)

    assert trusted(world) == [digest(longer)]
    world.check_reachable()


def test_a_root_that_cannot_be_told_from_the_old_one_is_not_trusted(
    world: World, peer: Peer
) -> None:
    """OpenSSL would take the first of that name, and a gateway under the other be out of reach."""
    old, key = root_of(world), made.new_key()
    witness = ca(old.subject, key, root_key(world.factory))
    lists(peer, old, ca(old.subject, key, key, key_id=False), witness)

    told(world.fioagent("renew-root", peer.url, "roots-1"), 78, "cannot be told from the root")

    assert trusted(world) == [digest(old)]
    world.check_reachable()


def test_what_cannot_be_done_now_is_done_by_a_check_in(world: World, peer: Peer) -> None:
    """Once an hour at most: a server that is down is not asked at every check-in of a fleet."""
    new = NextRoot(world.factory)
    peer.answers["/cacerts"] = lambda _: Answer(503)
    told(world.fioagent("renew-root", peer.url, "roots-1"), 75, "503")
    lists(peer, root_of(world), new.itself, new.with_old)

    assert world.fioagent("check-in").code == 0
    assert trusted(world) == [digest(root_of(world))]
    request = request_of(world)
    noted = json.loads(request.read_bytes())
    request.write_text(json.dumps({**noted, "tried_at": (NOW - timedelta(hours=2)).isoformat()}))
    ran = world.fioagent("check-in")

    assert ran.code == 0
    assert "trusted now" in ran.err
    assert digest(new.itself) in trusted(world)
    assert told_operators(world) == DONE


def test_a_refusal_that_nobody_has_heard_of_is_told_later(world: World, peer: Peer) -> None:
    """It is an end; the request stays until operators know of it."""
    lists(peer, root_of(world), *_not_signed(world.factory))
    world.factory.set_knob("gateway_answer", "500")
    told(world.fioagent("renew-root", peer.url, "roots-1"), 1, "has signed its key")
    assert request_of(world).exists()
    world.factory.set_knob("gateway_answer", "normal")

    told(world.fioagent("renew-root", peer.url, "roots-1"), 1, "has signed its key")

    assert told_operators(world) == REFUSED
    assert not request_of(world).exists()


def test_at_boot_it_is_noted_alone(world: World, peer: Peer) -> None:
    """No network there; the next check-in does it."""
    new = NextRoot(world.factory)
    lists(peer, root_of(world), new.itself, new.with_old)

    ran = world.fioagent("renew-root", peer.url, "roots-1", environ={"FIOAGENT_OFFLINE": "1"})

    assert (ran.code, peer.got) == (0, [])
    assert world.fioagent("check-in").code == 0
    assert digest(new.itself) in trusted(world)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"id": 7}', b'{"est_server": "x", "id": "a", "tried_at": 7}', b"{"]
)
def test_a_note_that_is_none_disturbs_no_check_in(world: World, content: bytes) -> None:
    assert world.fioagent("check-in").code == 0
    (world.storage / "fioagent").mkdir(exist_ok=True)
    request_of(world).write_bytes(content)

    ran = world.fioagent("check-in")

    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("arguments", [("http://est.example", "roots-1"), ("https://e", "a b")])
def test_bad_input_changes_nothing(world: World, arguments: tuple[str, str]) -> None:
    before = world.files()

    told(world.fioagent("renew-root", *arguments), 78, "cannot use")

    assert before == {n: c for n, c in world.files().items() if n != "fioagent/lock"}


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "as fioconfig's"])
def test_the_operators_file_is_enough(world: World, peer: Peer, stock: bool) -> None:
    """By the handler that is shipped, and by one with the conventions of fioconfig's."""
    new = NextRoot(world.factory)
    lists(peer, root_of(world), new.itself, new.with_old)
    handlers = Handlers(world)
    shipped = (TOP / "packaging" / "handlers" / "renew-root-cert").read_text()
    handler = handlers.add("renew-root-cert", _STOCK if stock else shipped.partition("\n")[2])
    program = {"FIOCONFIG_BIN": handlers.program()}
    content = f"ESTSERVER={peer.url}\nCORRELATIONID=roots-1\n".encode()
    world.factory.set_config(
        world.uuid, {"fio-renew-root": content}, plain=True, on_changed=handler
    )

    ran = world.fioagent("check-in", environ=program)

    assert ran.code == 0, ran.err
    assert digest(new.itself) in trusted(world), ran.err
    assert told_operators(world) == DONE


_STOCK: Final = """
[ -f "$CONFIG_FILE" ] || (echo "no file"; exit 1)
id=$(cat $CONFIG_FILE | grep CORRELATIONID | cut -d= -f2)
est=$(cat $CONFIG_FILE | grep ESTSERVER | cut -d= -f2)
completed="${STORAGE_DIR}/root-ca-update.state.completed"
if [ -f "$completed" ]; then
    found=$(grep -Po '"RotationId":.*?[^\\\\]",' $completed || true)
    [ "$(echo $found | cut -d\\" -f4)" != "$id" ] || exit 0
fi
$FIOCONFIG_BIN renew-root $est $id || exit 123
"""


@pytest.mark.parametrize("cut", range(1, 13))
@pytest.mark.parametrize("phase", ["add", "retire"])
def test_power_cut_anywhere(world: World, peer: Peer, phase: str, cut: int) -> None:
    """The gateway is reached by what is left, and the next run brings it to its end."""
    new, stranger = NextRoot(world.factory), made.authority("old-root")
    if phase == "add":
        lists(peer, root_of(world), new.itself, new.with_old)
        wanted = [digest(root_of(world)), digest(new.itself)]
    else:
        with (world.storage / "root.crt").open("ab") as file:
            file.write(made.pem(stranger.certificate))
        lists(peer, root_of(world))
        wanted = [digest(root_of(world))]
    disk = cast("Disk", Wired(LocalDisk(), Switch(cut)))
    request = rootrenewal.Request(peer.url, RotationId("roots-1"))
    with (
        contextlib.suppress(PowerCutError),
        agent.opened([], world.device.env, disk=disk, clock=StoppedClock(NOW)) as opened,
    ):
        opened.alone("renew-root", lambda device: rootrenewal.asked(device, request))

    world.check_reachable()
    renew(world, peer)
    assert trusted(world) == wanted
    assert told_operators(world) == DONE

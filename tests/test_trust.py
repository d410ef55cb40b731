"""A new root of the gateway takes the old one's place, and the device is reached all the while."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fioagent import agent, trust
from fioagent.disk import LocalDisk
from fioagent.errors import ConfigError
from fioagent.ports import Disk
from tests.aftermath import told
from tests.power import PowerCutError, Switch, Wired
from tests.unit import made
from tests.world import StoppedClock, World

NEW = made.authority("new-root")
ALIVE = made.authority("old-root")


def digest(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def root_of(world: World) -> x509.Certificate:
    return x509.load_pem_x509_certificate(world.factory.paths.root.read_bytes())


@pytest.fixture
def new_root(tmp_path: Path) -> Path:
    path = tmp_path / "new.pem"
    path.write_bytes(b"# of 2026\n" + made.pem(NEW.certificate))
    return path


def trusted(world: World) -> list[str]:
    content = (world.storage / "root.crt").read_bytes()
    return [digest(each) for each in x509.load_pem_x509_certificates(content)]


def test_a_root_is_added_beside_the_others(world: World, new_root: Path) -> None:
    """Behind what is there, byte for byte; twice is once, and the device works."""
    before = (world.storage / "root.crt").read_bytes()

    for _ in range(2):
        assert world.fioagent("trust", "add", str(new_root)).code == 0

    content = (world.storage / "root.crt").read_bytes()
    assert content.startswith(before.rstrip())
    assert trusted(world) == [digest(root_of(world)), digest(NEW.certificate)]
    world.check_reachable()
    assert world.rotate().code == 0


def test_each_root_is_tried_at_the_gateway(world: World, new_root: Path) -> None:
    """Under it alone, by a handshake and no request."""
    world.fioagent("trust", "add", str(new_root))
    world.factory.clear_requests()

    rows = json.loads(world.fioagent("trust", "show", "--json").out)["roots"]

    assert [row["reached"] for row in rows] == [True, False]
    assert "cannot trust localhost" in rows[1]["why_not"]
    assert world.factory.requests("gateway") == []
    assert "gateway reached under it" in world.fioagent("trust", "show").out


def test_an_old_root_goes_once_the_gateway_is_reached_without_it(
    world: World, new_root: Path
) -> None:
    """Here the "new" one is that of the factory, and the old one is nobody's any more."""
    world.fioagent("trust", "add", str(new_root))

    ran = world.fioagent("trust", "retire", digest(NEW.certificate).upper())

    assert ran.code == 0, ran.err
    assert trusted(world) == [digest(root_of(world))]
    world.check_reachable()
    assert "nothing to retire" in world.fioagent("trust", "retire", digest(NEW.certificate)).out


def test_the_root_that_the_gateway_needs_stays(world: World, new_root: Path) -> None:
    """Whatever the operator says: the gateway is not reached without it."""
    world.fioagent("trust", "add", str(new_root))
    before = world.files()

    told(world.fioagent("trust", "retire", digest(root_of(world))), 75, "cannot trust localhost")

    assert before == world.files()
    world.check_reachable()


def test_the_only_root_stays(world: World) -> None:
    told(world.fioagent("trust", "retire", digest(root_of(world))), 78, "the only root")

    world.check_reachable()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "no PEM certificate in it"),
        (b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "cannot read"),
        (made.pem(NEW.issue(made.new_key().public_key())), "is no root certificate"),
        (b"nothing", "no PEM certificate in it"),
    ],
    ids=["empty", "damaged", "a leaf", "text"],
)
def test_what_is_no_root_is_not_added(
    world: World, tmp_path: Path, content: bytes, line: str
) -> None:
    """And nothing else in the same file is, either."""
    path = tmp_path / "wrong.pem"
    path.write_bytes(made.pem(ALIVE.certificate) + content if b"BEGIN" in content else content)
    before = (world.storage / "root.crt").read_bytes()

    told(world.fioagent("trust", "add", str(path)), 78, line)

    assert before == (world.storage / "root.crt").read_bytes()


def test_a_root_that_is_not_valid_now_is_not_added(world: World, new_root: Path) -> None:
    later = NEW.certificate.not_valid_after_utc
    with (
        agent.opened([], world.device.env, clock=StoppedClock(later)) as opened,
        pytest.raises(ConfigError, match="is not valid now"),
    ):
        trust.add(opened.device, str(new_root))


@pytest.mark.parametrize("cut", range(1, 5))
@pytest.mark.parametrize("act", ["add", "retire"])
def test_power_cut_anywhere(world: World, new_root: Path, act: str, cut: int) -> None:
    """The trust file is the old one or the new one, and the gateway is reached by either."""
    gone = digest(NEW.certificate)
    if act == "retire":
        world.fioagent("trust", "add", str(new_root))
    disk = cast("Disk", Wired(LocalDisk(), Switch(cut)))
    with (
        contextlib.suppress(PowerCutError),
        agent.opened([], world.device.env, disk=disk) as opened,
    ):
        if act == "add":
            trust.add(opened.device, str(new_root))
        else:
            trust.retire(opened.device, gone)

    world.check_reachable()
    arguments = ("add", str(new_root)) if act == "add" else ("retire", gone)
    assert world.fioagent("trust", *arguments).code == 0
    assert (gone in trusted(world)) == (act == "add")
    assert world.rotate().code == 0

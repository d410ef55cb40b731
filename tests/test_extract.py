"""``fioagent extract``: every file of the stored configuration, offline, and nothing else."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fioagent.factory.fleet import ecies
from tests.handlers import Handlers
from tests.world import BUNDLE, PLAIN, SECRET, World

ALL = {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE, **PLAIN}


def secrets(world: World) -> Path:
    return Path(world.device.env["SECRETS_DIR"])


def extracted(world: World) -> dict[str, bytes]:
    """Every file below the secrets directory with its content."""
    top = secrets(world)
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def store(world: World, entries: dict[str, dict[str, object]]) -> None:
    """config.encrypted as a test wants it."""
    (world.storage / "config.encrypted").write_text(json.dumps(entries))


def plain(value: str, *on_changed: str) -> dict[str, object]:
    return {"Value": value, "Unencrypted": True, "OnChanged": list(on_changed)}


def sealed(world: World, content: bytes) -> dict[str, object]:
    return {"Value": ecies.encrypt(content, world.key().public_key())}


def test_every_file_is_there_with_the_modes_of_fioconfig(world: World) -> None:
    """Directories as the secrets directory, files 0640, whatever the umask."""
    before = os.umask(0o077)
    try:
        ran = world.fioagent("extract")
    finally:
        os.umask(before)

    assert (ran.code, ran.out) == (0, "4 files extracted, 0 removed\n"), ran.err
    assert extracted(world) == ALL
    modes = {stat.S_IMODE(p.stat().st_mode) for p in secrets(world).rglob("*") if p.is_file()}
    assert modes == {0o640}
    assert stat.S_IMODE((secrets(world) / "certs").stat().st_mode) == 0o750
    for value in (SECRET, b"hunter2"):
        assert value.decode() not in ran.out + ran.err


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_secrets_directory_that_is_not_there_is_made(world: World, umask: int) -> None:
    """0750, as by fioconfig extract, whatever the umask; /run is empty at boot."""
    secrets(world).rmdir()

    before = os.umask(umask)
    try:
        assert world.fioagent("extract").code == 0
    finally:
        os.umask(before)

    assert stat.S_IMODE(secrets(world).stat().st_mode) == 0o750
    assert extracted(world) == ALL


def test_no_server_is_asked(world: World) -> None:
    """A device may boot where there is no network, with a rotation that is due."""
    world.factory.rotate_certs(world.uuid)
    world.fetch_config()
    world.factory.clear_requests()

    world.fioagent("extract")

    assert world.factory.requests("gateway") == world.factory.requests("est") == []
    assert world.factory.handshakes("gateway") == (0, 0)
    world.check_old_pair_is_live()


def test_a_file_that_is_the_same_is_not_written(world: World) -> None:
    """Whoever has it open keeps it."""
    world.fioagent("extract")
    before = {p: p.stat().st_ino for p in secrets(world).rglob("*")}

    ran = world.fioagent("extract")

    assert ran.out == "0 files extracted, 0 removed\n"
    assert before == {p: p.stat().st_ino for p in secrets(world).rglob("*")}


def test_nothing_is_removed_at_boot(world: World) -> None:
    """Others keep their files there too."""
    (secrets(world) / "of-others").write_bytes(b"1")

    world.fioagent("extract")

    assert extracted(world) == {**ALL, "of-others": b"1"}


def test_without_a_stored_configuration_there_is_nothing_to_do(world: World) -> None:
    """A device before its first check-in."""
    (world.storage / "config.encrypted").unlink()

    ran = world.fioagent("extract")

    assert (ran.code, ran.out) == (0, "no configuration is stored\n")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff" * 100])
def test_a_damaged_copy_is_one_plain_line(world: World, content: bytes) -> None:
    """And changes nothing that is there."""
    world.fioagent("extract")
    (world.storage / "config.encrypted").write_bytes(content)

    ran = world.fioagent("extract")

    assert ran.code == 78
    assert ran.err.startswith("fioagent: cannot read ")
    assert "config.encrypted" in ran.err
    assert extracted(world) == ALL


@pytest.mark.parametrize(
    "value", ["", "not base64!", "AAAA", "for another"], ids=["empty", "text", "short", "other"]
)
def test_a_value_that_does_not_open_is_told_by_name(world: World, value: str) -> None:
    """And takes no other down. An empty one is an empty file: fioctl makes such."""
    stranger = World(world.factory, world.urls, world.device.directory / "stranger")
    if value == "for another":
        value = str(sealed(stranger, b"x")["Value"])
    good = sealed(world, SECRET)
    store(world, {"bad": {"Value": value}, "a-good": good, "z-good": plain("1")})

    ran = world.fioagent("extract")

    if value == "":
        assert (ran.code, extracted(world)["bad"]) == (0, b"")
    else:
        assert ran.code == 78
        assert "cannot decrypt bad with the keys of this device" in ran.err
        assert "bad" not in extracted(world)
    assert extracted(world)["a-good"] == SECRET
    assert extracted(world)["z-good"] == b"1"


@pytest.mark.parametrize("key", ["gone", "broken"])
def test_without_a_key_the_values_that_need_none_are_there(world: World, key: str) -> None:
    """The VPN may be a technician's only way to the device."""
    path = world.storage / "pkey.pem"
    path.unlink() if key == "gone" else path.write_bytes(b"x")

    ran = world.fioagent("extract")

    assert ran.code == 78
    assert "the private key" in ran.err
    assert "cannot decrypt app-secret" in ran.err
    assert extracted(world) == PLAIN


UNFIT = ["../evil", "a/../../evil", "/etc/evil", "a//b", "./a", "a/", "", "a/.", "..", "x\x00y"]


@pytest.mark.parametrize("name", [*UNFIT, "\udc2e\udc2e/evil", "n" * 300, ".a.fioagent-tmp"])
def test_no_name_leads_out_of_the_secrets_directory(world: World, name: str) -> None:
    """It is told, and the other files are there."""
    around = sorted(secrets(world).parent.rglob("*"))
    store(world, {name: plain("evil"), "good": plain("1")})

    ran = world.fioagent("extract")

    assert ran.code == 78
    assert "cannot extract " in ran.err
    assert extracted(world) == {"good": b"1"}
    assert sorted(secrets(world).parent.rglob("*")) == [*around, secrets(world) / "good"]
    assert not Path("/etc/evil").exists()


def test_a_link_on_the_way_is_not_followed(world: World) -> None:
    """Whoever may write there must not choose what root overwrites."""
    elsewhere = world.device.directory / "elsewhere"
    elsewhere.mkdir()
    (secrets(world) / "certs").symlink_to(elsewhere)

    ran = world.fioagent("extract")

    assert ran.code == 78
    assert "certs/ca-bundle.pem: something on the way is no directory" in ran.err
    assert list(elsewhere.iterdir()) == []
    assert extracted(world)["app-secret"] == SECRET


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_whatever_lies_at_a_name_is_replaced_and_not_followed(world: World, kind: str) -> None:
    """A link to another file, one to nowhere, a pipe that nobody writes to."""
    victim = world.device.directory / "victim"
    victim.write_bytes(SECRET if kind == "link" else b"")
    place = secrets(world) / "app-secret"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(victim if kind == "link" else "nowhere")

    assert world.fioagent("extract").code == 0

    assert place.is_file()
    assert not place.is_symlink()
    assert place.read_bytes() == SECRET


def test_a_directory_at_a_name_is_told(world: World) -> None:
    """Nothing in it is touched, and the other files are there."""
    (secrets(world) / "app-secret").mkdir()
    (secrets(world) / "app-secret" / "of-others").touch()

    ran = world.fioagent("extract")

    assert ran.code == 78
    assert "app-secret: is a directory" in ran.err
    assert [path.name for path in secrets(world).iterdir() if path.name.startswith(".")] == []
    assert (secrets(world) / "app-secret" / "of-others").exists()
    assert extracted(world)["z-50-fioctl.toml"] == PLAIN["z-50-fioctl.toml"]


@pytest.mark.parametrize("pause", ["before the lock", "after the lock", "never"])
def test_it_opens_with_whichever_key_is_at_hand(world: World, pause: str) -> None:
    """While a rotation is open a value may be under either key."""
    old = world.key().public_key()
    if pause == "after the lock":
        world.pause_before_the_commit("certs-1")
    elif pause == "before the lock":
        world.factory.set_knob("est_answer", "500")
        assert world.rotate("--id", "certs-1").code == 75
    else:
        assert world.rotate("--id", "certs-1").code == 0
    made = load_pem_private_key((world.storage / "pkey.certs-1.pem").read_bytes(), None)
    new = made.public_key()
    assert isinstance(new, ec.EllipticCurvePublicKey)
    entries: dict[str, dict[str, object]] = {"new": {"Value": ecies.encrypt(b"new", new)}}
    if pause != "never":
        entries["old"] = {"Value": ecies.encrypt(b"old", old)}
    store(world, entries)

    ran = world.fioagent("extract")

    assert ran.code == 0, ran.err
    assert extracted(world) == {name: name.encode() for name in entries}


def test_a_full_disk_does_not_keep_the_files_away(world: World) -> None:
    """They are in memory; what cannot be remembered is told."""
    handlers = Handlers(world)
    store(world, {"a": plain("1", handlers.noting())})
    state = world.storage / "fioagent"
    state.rmdir() if state.exists() else None
    state.write_bytes(b"in the way")

    ran = world.fioagent("extract")

    assert extracted(world) == {"a": b"1"}
    assert handlers.told() == ["a there"]
    assert "cannot make" in ran.err


def test_a_handler_runs_for_a_file_that_differs_and_not_again(world: World) -> None:
    """At boot all files differ."""
    handlers = Handlers(world)
    note = handlers.noting()
    store(world, {"b": plain("2", note), "a": plain("1", note), "c": plain("3")})

    world.fioagent("extract")
    world.fioagent("extract")

    assert handlers.told() == ["a there", "b there"]


def test_a_handler_waits_for_a_file_that_a_check_in_did_not_live_to_store(world: World) -> None:
    """It would take the file for removed; the check-in comes again, with file and handler."""
    handlers = Handlers(world)
    note = handlers.noting()
    store(world, {"old": plain("1", note)})
    (world.storage / "fioagent").mkdir()
    due = [["new", [note]], ["../new", [note]]]
    memory = {"date": None, "sha256": "", "due": due}
    (world.storage / "fioagent" / "check-in.json").write_text(json.dumps(memory))

    world.fioagent("extract")

    assert handlers.told() == ["old there"]


def test_all_files_are_there_before_the_first_handler_runs(world: World) -> None:
    """The VPN's handler reads two of them."""
    handlers = Handlers(world)
    listing = handlers.add("list", f'ls "$(dirname "$CONFIG_FILE")" > {handlers.place("seen")}\n')
    store(world, {"a": plain("1", listing), "z": plain("2")})

    world.fioagent("extract")

    assert handlers.place("seen").read_text().split() == ["a", "z"]


def test_a_handler_that_exits_with_123_ends_with_all_files_in_place(world: World) -> None:
    """Where fioconfig leaves the rest of a randomly ordered map unextracted."""
    handlers = Handlers(world)
    gives_up = handlers.add("gives-up", "exit 123\n")
    store(world, {"a": plain("1", gives_up), "b": plain("2", handlers.noting())})

    ran = world.fioagent("extract")

    assert ran.code == 123
    assert extracted(world) == {"a": b"1", "b": b"2"}
    assert handlers.told() == ["b there"]


def test_nothing_is_rotated_at_boot_by_the_stock_handler(world: World) -> None:
    """It calls us to rotate; at boot that is noted alone, and the file is there for the service."""
    handlers = Handlers(world)
    stock = handlers.add("renew", '"$FIOCONFIG_BIN" renew-cert https://est.example x || exit 123\n')
    store(world, {"fio-rotate-certs": plain("ESTSERVER=https://est.example\n", stock)})

    ran = world.fioagent("extract", environ={"FIOCONFIG_BIN": handlers.program()})

    assert ran.code == 0, ran.err
    assert "| noted; nothing is rotated at boot" in ran.err
    world.check_old_pair_is_live()
    assert world.journal_names() == []

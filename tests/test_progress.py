"""``fioagent rotate`` as a person at the device sees it, and as a program does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest

from fioagent import words
from fioagent.disk import LocalDisk
from fioagent.ports import KeyStore
from fioagent.rotation import machine
from fioagent.rotation.machine import Phase
from tests import documented
from tests.consoles import Console
from tests.power import PowerCutError, StopAt, cut_at, rotate, rotate_keeping
from tests.test_rotation import FORWARD
from tests.token_world import TokenWorld
from tests.unit import histories
from tests.world import World

A_PHASE = "`rotate`, `recover`, `cancel`: a phase"
A_CHECK = "`rotate --dry-run`: a check"
THE_END = "`rotate`, `recover`, `cancel`: the end"
CHECKS = ["lock", "rotation", "id", "credential", "clock", "sota", "room", "place", "quota"]
CHECKS += ["config", "gateway", "est"]


@contextlib.contextmanager
def mute_server() -> Iterator[tuple[str, socket.socket]]:
    """An EST server that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        yield f"https://localhost:{mute.getsockname()[1]}/.well-known/est", mute


def text_of(serial_number: int) -> str:
    text = f"{serial_number:X}"
    return text.zfill(len(text) + len(text) % 2)


def test_what_is_printed_in_each_phase(world: World) -> None:
    """Phase, the pair that works, what is true now: the whole table."""
    ran = world.rotate("--id", "certs-1")

    serial, until = text_of(world.certificate().serial_number), world.certificate()
    day = f"{until.not_valid_after_utc:%Y-%m-%d}"
    expected = [
        ("begun", "old", f"certs-1 with {world.urls.est}"),
        ("key-generated", "old", "new key on the device, request signed"),
        ("cert-issued", "old", f"serial {serial}, valid until {day} (note: issued by another CA "),
        ("locked", "old", "gateway knows the next key"),
        ("config-staged", "old", "local configuration re-encrypted"),
        ("device-config-updated", "old", "configuration on the gateway: re-encrypted"),
        ("committed", "new", "sota.toml names the new pair"),
        ("confirmed", "new", "gateway accepts the new certificate (304)"),
        ("services-restarted", "new", 'aktualizr-lite.service: skipped, services.manager is "no'),
        ("retired", "new", "old key and certificate removed"),
        ("completed", "new", "done"),
    ]
    lines = ran.unfolded.splitlines()[2:-3]
    assert [line.split()[2] for line in lines] == [phase for phase, _, _ in expected]
    for line, (phase, live, said) in zip(lines, expected, strict=True):
        assert line[9:].startswith(f"{phase:<21}  {live:<4}  {said}"), line
        assert line[5:9] == " s  "


def test_the_pair_that_is_called_live_is_the_one_that_works(world: World) -> None:
    """At every phase the power may fail: what a device then boots with is accepted."""
    for phase in FORWARD[:-1]:
        cut_at(world, Phase(phase), "certs-1")

        said = world.fioagent("log", "--json").lines[-1]
        is_old = world.live_pair()[1] == world.storage / "pkey.pem"
        assert (said["phase"], said["live"]) == (phase, "old" if is_old else "new")
        world.check_reachable()


def test_the_proof_is_true(world: World) -> None:
    """Serials as the certificates have them, the time of the answer, and the key is no more."""
    before = datetime.now(timezone.utc) - timedelta(seconds=1)

    ran = world.rotate("--id", "certs-1", "--json")

    proof = ran.lines[-1]["proof"]
    assert int(proof["accepted_serial"], 16) == world.certificate().serial_number
    assert before <= datetime.fromisoformat(proof["accepted_at"]) <= datetime.now(timezone.utc)
    device = world.factory.device(world.uuid)
    assert device.next_public_key_pem is None
    assert not any(world.old_key in content for content in world.files().values())
    second = world.rotate("--id", "certs-2")
    new = text_of(world.certificate().serial_number)
    assert f"gateway accepted serial {new}\n  at 20" in second.out
    assert second.out.endswith(f"\nold serial {proof['accepted_serial']} destroyed\n")


def test_an_old_key_that_is_still_there_is_not_called_destroyed(world: World) -> None:
    """By whatever way its file came back: nobody claims more than was seen."""

    class Keeps:
        """``ports.KeyStore`` that removes nothing."""

        def __init__(self, store: KeyStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def retire(self, old: object, new: object) -> None:
            """Nothing."""

    rotate_keeping(world, lambda store: cast("KeyStore", Keeps(store)), "certs-1")

    ran = world.fioagent("log")
    assert "no old key is known to have been destroyed\n" in ran.out
    assert world.fioagent("log", "--json").lines[-1]["proof"]["destroyed_serial"] is None


def test_every_line_for_programs_has_the_documented_form(world: World) -> None:
    """Of a run that pauses, one that goes on and ends, one that has nothing to do, and looks."""
    world.factory.set_knob("gateway_patch_config", "500")
    paused = world.rotate("--id", "certs-1", "--json")
    dry = world.fioagent("rotate", "--dry-run", "--json")
    world.factory.set_knob("gateway_patch_config", "on")
    done = world.rotate("--json")
    idle = world.fioagent("rotate", "--json")
    refused = world.rotate("--id", "a b", "--json")

    for ran in (paused, done):
        for line in ran.lines[:-1]:
            documented.check(line, A_PHASE)
    for line in dry.lines[:-1]:
        documented.check(line, A_CHECK)
    for ran in (paused, dry, done, idle, refused):
        documented.check(ran.lines[-1], THE_END)
        assert ran.lines[-1]["exit"] == ran.code
    assert [ran.lines[-1]["live"] for ran in (paused, done)] == ["old", "new"]
    results = [ran.lines[-1]["result"] for ran in (paused, dry, done, idle, refused)]
    assert results == ["try-again", "would-rotate", "completed", "nothing-to-do", "not-begun"]


def test_a_pause_says_that_it_is_safe_and_how_to_go_on(world: World) -> None:
    """What the person has to know before the plug is pulled."""
    world.factory.set_knob("gateway_patch_config", "500")

    ran = world.rotate("--id", "certs-1")

    said = " ".join(ran.out.split())
    assert "safe to unplug: yes; certs-1 is open at config-staged, the old certificate" in said
    assert "the service goes on from 20" in said
    assert said.endswith("'fioagent rotate --now' goes on at once")
    assert ran.fits()


def test_a_refusal_says_what_is_live(world: World) -> None:
    world.factory.set_knob("est_answer", "403")

    ran = world.rotate("--id", "certs-1")

    assert ran.code == 1
    assert ran.out.endswith("\ncerts-1 is over; the old certificate is live\n")


def test_control_c_for_programs(world: World) -> None:
    """The last line is there, too; nothing was lost, and the next run goes on."""
    with mute_server() as (server, mute):
        command = ["rotate", "--now", "--id", "certs-1", "--est-server", server]
        process = world.started(*command, "--json")
        connection, _ = mute.accept()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
        connection.close()

    assert process.returncode == 75
    lines = [json.loads(line) for line in out.splitlines()]
    documented.check(lines[-1], THE_END)
    assert (lines[-1]["result"], lines[-1]["phase"]) == ("interrupted", "begun")
    assert world.rotate("--est-server", world.urls.est).code == 0


def test_a_terminal_shows_what_is_under_way_and_control_c_says_how_to_go_on(world: World) -> None:
    """In the C locale: ASCII, no escape sequence, and nothing is left of the line that moves."""
    with mute_server() as (server, mute):
        command = ["rotate", "--now", "--id", "certs-1", "--est-server", server]
        with Console(world, *command, environ={}) as console:
            connection, _ = mute.accept()
            console.read_until("asking the EST server, making the new key ...")
            console.press("\x03")
            status = console.exit_status()
            connection.close()

    assert status == 75
    assert console.printed.isascii()
    assert b"\x1b" not in console.printed
    screen = [line for line in console.screen if line]
    assert max(map(len, screen)) < 80
    assert screen[0].startswith("safe to unplug: yes, always")
    assert b"\r" + b" " * 79 + b"\r" in console.printed
    assert not any(" ..." in line for line in screen)
    told = " ".join(screen)
    assert "fioagent: interrupted; the same command may be given again" in told
    assert "certs-1 is open at begun, the old certificate is live" in told
    folded = screen[-2:]  # below its begin
    assert [len(line) - len(line.lstrip()) for line in folded] == [2, 2]


@pytest.mark.parametrize(
    ("options", "environ"),
    [(["--plain"], {}), ([], {"TERM": "dumb"})],
    ids=["--plain", "TERM=dumb"],
)
def test_nothing_moves_for_a_screen_reader(
    world: World, options: list[str], environ: dict[str, str]
) -> None:
    """Each line is said once, however long a server takes."""
    world.factory.add_fault("slow", server="est", delay=2.5, times=1)

    with Console(world, "rotate", "--now", *options, environ=environ) as console:
        assert console.exit_status() == 0

    assert b"\r" not in console.printed.replace(b"\r\n", b"\n")
    assert b" destroyed" in console.printed


def test_words_of_others_are_readable_in_any_locale(world: World) -> None:
    """Python takes C for UTF-8; the console does not."""
    with Console(world, "log", "größe", environ={"LC_ALL": "C"}) as plain:
        assert plain.exit_status() == 78
    with Console(world, "log", "größe", environ={"LC_ALL": "C.UTF-8"}) as with_letters:
        assert with_letters.exit_status() == 78

    assert b"gr\\xf6\\xdfe" in plain.printed
    assert "größe".encode() in with_letters.printed


def test_a_look_changes_nothing(world: World) -> None:
    """Neither on the device nor on a server, and no certificate is asked for."""
    world.factory.clear_requests()
    before = {path: path.stat().st_mtime_ns for path in world.storage.rglob("*")}

    ran = world.fioagent("rotate", "--dry-run")

    assert ran.code == 0, ran.out
    assert [line.split()[1] for line in ran.unfolded.splitlines()[:-1]] == CHECKS
    assert ran.out.endswith("nothing was changed; nothing seen here would stop a rotation\n")
    assert before == {path: path.stat().st_mtime_ns for path in world.storage.rglob("*")}
    asked = [*world.factory.requests("gateway"), *world.factory.requests("est")]
    assert {(each.method, each.path.rpartition("/")[2]) for each in asked} == {
        ("GET", "config-device"),
        ("GET", "csrattrs"),
    }
    assert ran.fits(world.storage)


def test_a_look_tells_all_troubles_at_once_each_with_a_remedy(world: World) -> None:
    """A person who mends one thing shall not meet the next one an hour later."""
    sota = world.sota_toml.read_text()
    world.sota_toml.write_text(sota.replace(world.urls.gateway, "https://localhost:1"))
    (world.storage / "config.encrypted").write_text("{")
    world.factory.add_fault("status", server="est", status=503)
    held = LocalDisk().lock(str(world.storage / "fioagent" / "lock"), "check-in")
    (world.storage / "fioagent").mkdir(exist_ok=True)

    with held:
        ran = world.fioagent("rotate", "--dry-run")

    failed = [line.split()[1] for line in ran.out.splitlines() if line.startswith("fail")]
    assert failed == ["lock", "config", "gateway", "est"]
    assert ran.out.count("\n      do:  ") == len(failed)
    assert ran.code == 78
    assert ran.out.endswith("\nnothing was changed; a rotation would stop at 4 of these\n")


def test_a_look_at_an_open_rotation_does_not_switch_the_gateway_over(world: World) -> None:
    """The first request with the new pair is a word to it; TLS alone is none."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")
    waits = world.factory.device(world.uuid).next_public_key_pem

    ran = world.fioagent("rotate", "--dry-run")

    assert ran.code == 0, ran.out
    assert "certs-1 is open at committed, and is gone on with" in ran.out
    assert waits is not None
    assert waits == world.factory.device(world.uuid).next_public_key_pem


def test_a_key_in_a_token(token_world: TokenWorld) -> None:
    """The same words; the place of a key is its object id, and the old object is gone."""
    token_world.give_config()
    dry = token_world.fioagent("rotate", "--dry-run")

    ran = token_world.fioagent("rotate", "--now", "--id", "certs-1", "--json")

    assert (dry.code, ran.code) == (0, 0), dry.out + ran.err
    assert "the new key goes to 07" in dry.out
    assert ran.lines[-1]["proof"]["destroyed_serial"] is not None
    status = token_world.fioagent("status")
    assert status.out.startswith("safe today   yes: ")
    assert "\nkey          07\n" in status.out
    assert "gateway accepted serial" in token_world.fioagent("log").out


def test_the_story_needs_no_token(token_world: TokenWorld) -> None:
    """When its module is broken, that is what a person wants to read."""
    token_world.fioagent("rotate", "--now", "--id", "certs-1")
    sota = token_world.storage / "sota.toml"
    text = sota.read_text()
    module = next(line for line in text.splitlines() if line.startswith("module"))
    sota.write_text(text.replace(module, 'module = "/nowhere.so"'))

    assert token_world.fioagent("status").code == 78
    assert token_world.fioagent("log").code == 0


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.value)
def test_the_line_that_moves_has_words_for_whatever_comes_next(phase: Phase) -> None:
    """And they fit, with the time before them and the dots behind."""
    rotation = machine.fold([histories.reached(Phase.BEGUN)])
    assert rotation is not None

    said = words.under_way(dataclasses.replace(rotation, phase=phase))

    assert 0 < len(said) < 65

"""``fioagent check-in``: what the gateway has is what the device has, whatever comes between."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fioagent.disk import LocalDisk
from fioagent.factory.servers.traffic import Request
from tests.bench.check_in import FIOCONFIG_BYTES, TICKET, CheckIns
from tests.handlers import Handlers
from tests.power import PowerCutError, StopAt, rotate
from tests.test_delivery import rotate_unheard
from tests.test_extract import ALL, extracted, secrets
from tests.test_rotation import SUCCESS
from tests.world import BUNDLE, PLAIN, SECRET, World


def told(world: World, *arguments: str, code: int = 0) -> dict[str, Any]:
    """``check-in --json``: its one line."""
    ran = world.fioagent("check-in", "--json", *arguments)
    assert ran.code == code, ran.out + ran.err
    (line,) = ran.lines
    return line


def fetches(world: World) -> list[Request]:
    return [r for r in world.factory.requests("gateway") if r.path == "/config"]


def since(world: World) -> str | None:
    """What the latest fetch has sent as If-Modified-Since."""
    return fetches(world)[-1].headers.get("if-modified-since")


def changed_ago(world: World, seconds: int) -> None:
    """The gateway's configuration has a resolution of a second: this one is older than the next."""
    with world.factory.store.write() as db:
        db.execute(
            "UPDATE config_layers SET changed_at = ? WHERE owner = ?",
            (int(time.time()) - seconds, world.uuid),
        )


@pytest.fixture
def configured(bare: World) -> World:
    """A device whose configuration is on the gateway, and not on it yet."""
    bare.factory.set_config(bare.uuid, {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE})
    bare.factory.set_config(bare.uuid, PLAIN, plain=True)
    changed_ago(bare, 1000)
    return bare


def test_a_device_that_nobody_has_configured(bare: World) -> None:
    """204: nothing is stored, and what is there stays."""
    (secrets(bare) / "of-others").write_bytes(b"1")

    line = told(bare)

    assert line["result"] == "never-set"
    assert line["rotation"]["wanted"] is False
    assert line["rotation"]["next_at"].endswith("+00:00")
    assert extracted(bare) == {"of-others": b"1"}
    assert not (bare.storage / "config.encrypted").exists()


def test_the_first_check_in_brings_every_file(configured: World) -> None:
    """And stores the body as it came, 0640, with the configuration's time for fioconfig."""
    line = told(configured)

    assert line["result"] == "stored"
    assert sorted(line["written"]) == sorted(ALL)
    assert line["problems"] == []
    assert extracted(configured) == ALL
    stored = configured.storage / "config.encrypted"
    answer = configured.ask("/config")
    assert answer.content == stored.read_bytes()
    assert stat.S_IMODE(stored.stat().st_mode) == 0o640
    date = time.strptime(answer.headers["Date"], "%a, %d %b %Y %H:%M:%S UTC")
    assert stored.stat().st_mtime == time.mktime(date) - time.timezone


def test_the_gateways_own_date_is_sent_back(configured: World) -> None:
    """To the byte: "UTC", or a zone that only that gateway knows."""
    told(configured)

    line = told(configured)

    assert line["result"] == "unchanged"
    assert [request.status for request in fetches(configured)] == [200, 304]
    assert since(configured) == configured.ask("/config").headers["Date"]


def test_one_request_over_one_handshake(configured: World) -> None:
    """Every five minutes, from every device."""
    told(configured)
    configured.factory.clear_requests()

    told(configured)

    assert [(r.method, r.path) for r in configured.factory.requests("gateway")] == [
        ("GET", "/config")
    ]
    assert configured.factory.handshakes("gateway") == (1, 0)


def test_it_says_no_more_than_it_has_to(configured: World) -> None:
    """TLS included. Two thirds of it are the certificate, its proof, and the keys' exchange."""
    told(configured)

    cost = CheckIns(configured).cost()

    assert (cost.handshakes, cost.requests) == (1, 1)
    assert cost.out < 1200
    # What comes back is the gateway's to decide; its ticket is one that fioconfig does not get.
    assert cost.total - TICKET < FIOCONFIG_BYTES


def test_files_that_the_operator_removes_are_gone(configured: World) -> None:
    """With the directories that are empty then; others' files stay."""
    told(configured)
    (secrets(configured) / "of-others").write_bytes(b"1")
    configured.factory.remove_config(configured.uuid, "certs/ca-bundle.pem")
    configured.factory.remove_config(configured.uuid, "app-secret")

    line = told(configured)

    assert sorted(line["removed"]) == ["app-secret", "certs/ca-bundle.pem"]
    assert extracted(configured) == {**PLAIN, "of-others": b"1"}
    assert not (secrets(configured) / "certs").exists()


def test_an_empty_configuration_removes_every_file(configured: World) -> None:
    """``{}`` is not 204: the operator has deleted all of them."""
    told(configured)
    for name in ALL:
        configured.factory.remove_config(configured.uuid, name)

    line = told(configured)

    assert line["result"] == "stored"
    assert extracted(configured) == {}
    assert json.loads((configured.storage / "config.encrypted").read_bytes()) == {}


def test_a_name_may_become_a_directory_and_back(bare: World) -> None:
    """What is removed is removed first."""
    for ago, names in ((30, ["a"]), (20, ["a/b", "a/c"]), (10, ["a"])):
        for name in extracted(bare):
            bare.factory.remove_config(bare.uuid, name)
        bare.factory.set_config(bare.uuid, {name: name.encode() for name in names})
        changed_ago(bare, ago)

        assert told(bare)["problems"] == []

        assert extracted(bare) == {name: name.encode() for name in names}


@pytest.mark.parametrize("damage", ["torn", "gone", "another", "not ours"])
def test_a_copy_that_is_damaged_heals(configured: World, damage: str) -> None:
    """Whatever is not what was stored is fetched as a whole."""
    told(configured)
    stored = configured.storage / "config.encrypted"
    good = stored.read_bytes()
    match damage:
        case "torn":
            stored.write_bytes(good[: len(good) // 2])
        case "gone":
            stored.unlink()
        case "another":
            stored.write_bytes(good.replace(b"enabled=0", b"enabled=1"))
        case "not ours":
            (configured.storage / "fioagent" / "check-in.json").write_bytes(b'{"date": 1}')

    line = told(configured)

    assert (line["result"], line["written"]) == ("stored", [])
    assert since(configured) is None
    assert good == stored.read_bytes()
    assert told(configured)["result"] == "unchanged"


@pytest.mark.parametrize("answer", ["500", "503", "garbage", "drop"])
def test_a_gateway_in_trouble_changes_nothing(configured: World, answer: str) -> None:
    """One plain line; it says of rotations what it knows all the same."""
    told(configured)
    before = extracted(configured), configured.files()
    configured.factory.set_knob("gateway_answer", answer)

    line = told(configured, code=75)

    assert line["result"] == "failed"
    assert line["message"].startswith("cannot ")
    assert line["rotation"]["wanted"] is False
    assert before == (extracted(configured), configured.files())


def test_a_gateway_that_asks_to_wait_is_passed_on(configured: World) -> None:
    """429 with Retry-After; the service goes by it."""
    configured.factory.set_knob("rate_limit_per_minute", "1")
    told(configured)

    line = told(configured, code=75)

    assert 1 <= line["retry_after_s"] <= 60


@pytest.mark.parametrize("command", ["check-in", "extract"])
def test_a_device_that_cannot_even_begin_says_so_to_machines_too(
    configured: World, command: str
) -> None:
    """The service shows this line as its status."""
    configured.sota_toml.write_text("[")

    ran = configured.fioagent(command, "--json")

    assert ran.code == 78
    (line,) = ran.lines
    assert (line["result"], "not valid TOML" in line["message"]) == ("failed", True)


def test_a_trigger_that_cannot_be_used_is_told_at_each_check_in(configured: World) -> None:
    """Nothing is done by it, and the operator has to know."""
    text = b"ROTATIONID=certs-1\nWINDOW=soon\n"
    configured.factory.set_config(configured.uuid, {"fio-rotate-certs": text}, plain=True)
    configured.fioagent("check-in")

    ran = configured.fioagent("check-in")

    assert ran.code == 0
    assert ran.err.startswith("cannot use fio-rotate-certs: WINDOW is 'soon'")


def test_a_name_is_one_line_of_the_log(bare: World) -> None:
    """Nobody forges a second one by a file's name."""
    bare.factory.set_config(bare.uuid, {"a\nfioagent: forged": b"1"})

    ran = bare.fioagent("check-in")

    assert ran.err == "a fioagent: forged: extracted\n"
    assert extracted(bare) == {"a\nfioagent: forged": b"1"}


def test_no_name_chooses_how_urgent_it_is(bare: World) -> None:
    """What begins with <0> goes to every terminal of the machine; what went wrong is a warning."""
    bare.factory.set_config(bare.uuid, {"<0>a": b"1", "../b": b"1"})
    log = bare.device.directory / "log"
    with log.open("wb") as taken:
        found = os.fstat(taken.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"  # as if it were the journal's
        subprocess.run(
            [sys.executable, "-m", "fioagent", "check-in"],
            env={**os.environ, **bare.device.env, "JOURNAL_STREAM": stream},
            stderr=taken,
            check=True,
        )

    assert log.read_text().splitlines() == [
        "<4>cannot extract '../b': its name leads out of the secrets directory",
        "<6><0>a: extracted",
    ]


def test_nobody_listens(configured: World) -> None:
    """No network."""
    text = configured.sota_toml.read_text().replace(configured.urls.gateway, "https://localhost:1")
    configured.sota_toml.write_text(text)

    assert "cannot reach localhost:1" in told(configured, code=75)["message"]


def test_another_address_for_the_configuration(configured: World) -> None:
    """CONFIG_URL, as in /etc/default/fioconfig."""
    good = configured.urls.gateway
    text = configured.sota_toml.read_text().replace(f'server = "{good}"', 'server = "https://x"')
    configured.sota_toml.write_text(text)

    ran = configured.fioagent("check-in", environ={"CONFIG_URL": f"{good}/config"})

    assert ran.code == 0, ran.err
    assert extracted(configured) == ALL
    refused = configured.fioagent("check-in", environ={"CONFIG_URL": "http://x/config"})
    assert (refused.code, "cannot use CONFIG_URL" in refused.err) == (78, True)


def test_a_value_that_cannot_be_decrypted_is_told_and_takes_no_other_down(
    configured: World, new_world: Callable[[], World]
) -> None:
    """Its file stays as it is; the operator's correction comes with the next change."""
    told(configured)
    stranger = new_world()
    stranger.factory.set_config(stranger.uuid, {"app-secret": b"x"})
    foreign = dict(stranger.factory.device(stranger.uuid).config)["app-secret"]["Value"]
    configured.factory.set_config(configured.uuid, {"app-secret": foreign.encode()}, plain=True)
    entry_as_sealed(configured, "app-secret")
    configured.factory.set_config(configured.uuid, {"other": b"2"})

    line = told(configured)

    (problem,) = line["problems"]
    assert problem.startswith("cannot decrypt app-secret ")
    assert line["result"] == "stored"
    assert extracted(configured) == {**ALL, "other": b"2"}
    assert told(configured)["result"] == "unchanged"


def entry_as_sealed(world: World, name: str) -> None:
    """Takes the mark off that a value is plain text: it was sealed to another key."""
    with world.factory.store.write() as db:
        row = db.execute(
            "SELECT entry FROM config_files WHERE name = ? AND owner = ?", (name, world.uuid)
        ).fetchone()
        entry = json.loads(row["entry"])
        del entry["Unencrypted"]
        db.execute(
            "UPDATE config_files SET entry = ? WHERE name = ? AND owner = ?",
            (json.dumps(entry), name, world.uuid),
        )


def test_a_file_that_could_not_be_written_is_tried_again(configured: World) -> None:
    """It counts as not applied, so nothing is stored."""
    (secrets(configured) / "app-secret").mkdir()
    (secrets(configured) / "app-secret" / "in-the-way").touch()

    line = told(configured)

    assert line["result"] == "not-stored"
    assert not (configured.storage / "config.encrypted").exists()
    (secrets(configured) / "app-secret" / "in-the-way").unlink()
    (secrets(configured) / "app-secret").rmdir()
    assert told(configured)["result"] == "stored"
    assert extracted(configured) == ALL


def test_a_handler_does_not_run_for_a_file_that_could_not_be_written(bare: World) -> None:
    """It comes with the file; and not at all, where the operator has taken that back meanwhile."""
    handlers = Handlers(bare)
    note = handlers.noting()
    bare.factory.set_config(bare.uuid, {"a": b"1", "b": b"1"}, plain=True, on_changed=note)
    for name in ("a", "b"):
        (secrets(bare) / name / "in-the-way").mkdir(parents=True)

    assert told(bare)["result"] == "not-stored"
    assert handlers.told() == []
    bare.factory.remove_config(bare.uuid, "b")
    (secrets(bare) / "a" / "in-the-way").rmdir()
    (secrets(bare) / "a").rmdir()
    assert told(bare)["result"] == "stored"

    assert handlers.told() == ["a there"]


def test_a_name_that_others_need_as_a_directory_does_not_hold_the_configuration_up(
    bare: World,
) -> None:
    """It is told; the rest is stored, or the next boot would extract what was before."""
    bare.factory.set_config(bare.uuid, {"a": b"1", "a/b": b"2", "c": b"3"})
    changed_ago(bare, 1000)

    line = told(bare)

    assert line["result"] == "stored"
    assert line["problems"] == ["cannot extract 'a': other names need it to be a directory"]
    assert extracted(bare) == {"a/b": b"2", "c": b"3"}
    assert told(bare)["result"] == "unchanged"


def test_two_check_ins_do_not_mix(configured: World) -> None:
    """The second says so at once."""
    (configured.storage / "fioagent").mkdir()
    with LocalDisk().lock(str(configured.storage / "fioagent" / "check-in.lock"), "check-in"):
        line = told(configured, code=75)

    assert "fioagent check-in" in line["message"]


# --- around a rotation ---


def test_a_rotation_at_work_does_not_stop_a_check_in(configured: World) -> None:
    """Files and handlers come; it is stored next time, and handlers have run once."""
    handlers = Handlers(configured)
    configured.factory.set_config(
        configured.uuid, {"new": b"1"}, plain=True, on_changed=handlers.noting()
    )
    (configured.storage / "fioagent").mkdir()
    with LocalDisk().lock(str(configured.storage / "fioagent" / "lock"), "rotate"):
        line = told(configured)

    assert line["result"] == "not-stored"
    assert extracted(configured) == {**ALL, "new": b"1"}
    assert not (configured.storage / "config.encrypted").exists()
    assert told(configured)["result"] == "stored"
    assert handlers.told() == ["new there"]


def rotating(world: World, handlers: Handlers, *options: str) -> str:
    """A handler that rotates while it runs, as fioconfig's own does."""
    return handlers.add(
        "renew", f'"$FIOCONFIG_BIN" renew-cert {world.urls.est} certs-1 {" ".join(options)}\n'
    )


def test_no_update_is_lost_to_a_rotation_that_its_own_handler_makes(world: World) -> None:
    """Fioconfig loses all else that the version of the trigger brings."""
    changed_ago(world, 1000)
    told(world)
    handlers = Handlers(world)
    world.factory.remove_config(world.uuid, "certs/ca-bundle.pem")
    world.factory.set_config(world.uuid, {"app-secret": b"new", "other": b"2"})
    world.factory.set_config(
        world.uuid, {"fio-rotate-certs": b"x"}, plain=True, on_changed=rotating(world, handlers)
    )
    options = {"FIOCONFIG_BIN": handlers.program()}

    ran = world.fioagent("check-in", "--json", environ=options)

    assert ran.lines[-1]["result"] == "not-stored", ran.err
    assert world.live_pair()[1].name == "pkey.certs-1.pem"
    after = world.fioagent("check-in", "--json", environ=options)
    assert after.lines[-1]["result"] == "stored", after.err
    assert since(world) is None
    opened = world.opened_config()
    assert (opened["app-secret"], opened["other"]) == (b"new", b"2")
    assert "certs/ca-bundle.pem" not in opened
    wanted = {**PLAIN, "app-secret": b"new", "other": b"2", "fio-rotate-certs": b"x"}
    assert extracted(world) == wanted
    assert world.fioagent("check-in", "--json").lines[-1]["result"] == "unchanged"
    world.check_nothing_left_behind()


def test_a_rotation_that_has_only_moved_on_meanwhile_counts_too(world: World) -> None:
    """Credential and copy are as they were; what it has staged is of the copy before."""
    changed_ago(world, 1000)
    told(world)
    handlers = Handlers(world)
    world.factory.set_config(
        world.uuid, {"fio-rotate-certs": b"x"}, plain=True, on_changed=rotating(world, handlers)
    )
    world.factory.set_knob("gateway_patch_config", "500")

    ran = world.fioagent("check-in", "--json", environ={"FIOCONFIG_BIN": handlers.program()})

    assert ran.lines[-1]["result"] == "not-stored", ran.err
    assert "changed meanwhile" in ran.lines[-1]["message"]
    world.factory.set_knob("gateway_patch_config", "on")
    assert world.rotate().code == 0
    assert told(world)["result"] == "stored"
    assert world.opened_config()["fio-rotate-certs"] == b"x"


def test_what_a_rotation_has_encrypted_anew_is_fetched_as_a_whole(configured: World) -> None:
    """Its Date says nothing of what the gateway has by now."""
    told(configured)
    assert configured.rotate("--id", "certs-1").code == 0

    line = told(configured)

    assert since(configured) is None
    assert (line["result"], line["written"]) == ("stored", [])
    assert told(configured)["result"] == "unchanged"


def test_a_pending_rotation_never_stops_check_ins(configured: World) -> None:
    """The operator can always send a correction; values are under the key to come by then."""
    told(configured)
    configured.factory.set_knob("switch_lose_answer", "on")
    configured.pause_before_the_commit("certs-1")
    configured.factory.set_knob("operator_write_locked", "accept")
    configured.factory.set_config(configured.uuid, {"fix": b"1"})

    line = told(configured)

    assert line["result"] == "stored"
    assert extracted(configured) == {**ALL, "fix": b"1"}
    configured.factory.set_knob("switch_lose_answer", "off")
    assert configured.rotate().code == 0
    assert configured.opened_config()["fix"] == b"1"
    assert configured.opened_device_config()["fix"] == b"1"


def test_a_new_credential_that_is_refused_does_not_stop_check_ins(configured: World) -> None:
    """Committed, refused, and the way back is held up: the old one is asked with."""
    told(configured)
    configured.pause_before_the_commit("certs-1")
    configured.make_the_gateway_forget_the_new_key()
    configured.factory.set_knob("gateway_answer", "normal")
    stop_after_the_commit(configured)
    assert configured.live_pair()[1].name == "pkey.certs-1.pem"

    line = told(configured)

    assert line["result"] in ("stored", "unchanged"), line
    assert line["rotation"]["wanted"] is True


def stop_after_the_commit(world: World) -> None:
    """The power fails when sota.toml names the new pair, and recovery finishes the commit."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("before check"), "certs-1")


def test_the_trigger_makes_a_rotation_wanted_once(configured: World) -> None:
    """The service goes by this word."""
    told(configured)
    identifier = configured.factory.rotate_certs(configured.uuid)

    assert told(configured)["rotation"]["wanted"] is True

    assert configured.rotate("--id", identifier).code == 0
    assert told(configured)["rotation"]["wanted"] is False


def test_events_that_a_rotation_could_not_deliver_come_with_a_check_in(configured: World) -> None:
    """Else they would wait for the next rotation, in years; once, and then no more."""
    told(configured)
    rotate_unheard(configured, "certs-1")
    assert configured.event_names() == []

    told(configured)
    configured.factory.clear_requests()
    told(configured)

    assert configured.event_names() == SUCCESS
    assert [r.method for r in configured.factory.requests("gateway")] == ["GET"]


def test_no_secret_is_told_or_left_outside(configured: World) -> None:
    """Neither on the terminal nor in a file of ours."""
    ran = configured.fioagent("check-in")

    for place in (ran.out, ran.err):
        assert "hunter2" not in place
    configured.check_no_secret_outside()
    private = [p for p in (configured.storage / "fioagent").iterdir() if p.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert Path(configured.storage / "fioagent" / "check-in.json") in private

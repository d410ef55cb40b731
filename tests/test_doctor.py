"""``fioagent doctor``: each line true, nothing changed, and an end in bounded time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from fioagent.doctor.checks import CHECKS
from tests import needs, systemd_machine
from tests.token_world import TokenWorld
from tests.tunnel import listening
from tests.world import Ran, World

TOP = Path(__file__).resolve().parent.parent
NAMES = [each.name for each in CHECKS]


def digest(*directories: Path) -> dict[str, tuple[str, int, int]]:
    """Content, mode and time of change of everything below them."""
    found = {}
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            status = path.lstat()
            content = b"" if path.is_dir() or path.is_symlink() else path.read_bytes()
            kept = (hashlib.sha256(content).hexdigest(), status.st_mode, status.st_mtime_ns)
            found[str(path)] = kept
    return found


def states(ran: Ran) -> dict[str, str]:
    """The worst state of each check, of ``--json``."""
    order = ["ok", "skip", "warn", "fail"]
    found: dict[str, str] = {}
    for line in ran.lines[:-1]:
        before = found.get(line["check"], "ok")
        found[line["check"]] = max(before, line["state"], key=order.index)
    return found


def said(ran: Ran, check: str) -> dict[str, Any]:
    """The first line of a check that is not ok."""
    return next(x for x in ran.lines if x.get("check") == check and x["state"] != "ok")


def asked(world: World) -> set[str]:
    """Of every server, since it was cleared."""
    seen = [each for name in ("gateway", "est") for each in world.factory.requests(name)]
    return {f"{each.method} {each.path}" for each in seen}


def test_a_healthy_device_and_nothing_changed(world: World) -> None:
    """Every check has its line; files are as they were, the gateway has seen questions alone."""
    before = digest(world.device.directory)
    world.factory.clear_requests()

    ran = world.process("doctor", "--json")

    assert ran.code == 0, ran.out
    found = states(ran)
    assert list(found) == NAMES
    assert {name for name, state in found.items() if state not in ("ok", "skip")} == set()
    assert ran.lines[-1]["result"] == "healthy"
    assert digest(world.device.directory) == before
    assert asked(world) == {
        "GET /config",
        "GET /config-device",
        "GET /.well-known/est/cacerts",
    }


def test_a_healthy_token_and_nothing_changed(token_world: TokenWorld) -> None:
    """Nor in the token: SoftHSM notes in token.object that a PIN was right, as at each login."""
    token_world.give_config()
    places = (token_world.storage, token_world.token.directory)

    def kept() -> dict[str, tuple[str, int]]:
        found = digest(*places).items()
        return {k: v[:2] for k, v in found if not k.endswith("/token.object")}

    before = kept()

    ran = token_world.process("doctor", "--json")

    assert ran.code == 0, ran.out
    assert {name for name, state in states(ran).items() if state not in ("ok", "skip")} == set()
    assert states(ran)["token"] == "ok"
    assert kept() == before


def test_offline_asks_nobody(world: World) -> None:
    world.factory.clear_requests()

    ran = world.process("doctor", "--offline", "--json")

    assert ran.code == 0, ran.out
    assert list(states(ran)) == [each.name for each in CHECKS if not each.online]
    assert asked(world) == set()


def test_without_a_network_the_local_half_is_told(world: World) -> None:
    needs.root_and("unshare")

    ran = world.process("doctor", "--json", before=("unshare", "--net"))

    assert ran.code == 75
    found = states(ran)
    assert {found[each.name] for each in CHECKS if not each.online} <= {"ok", "skip"}
    assert found["gateway"] == "fail"
    assert found["support"] == "skip"


def test_while_a_rotation_is_open_the_gateway_sees_no_request(world: World) -> None:
    """The first request with a new certificate switches it over: that is the rotation's to do."""
    world.pause_before_the_commit("certs-1")
    world.factory.clear_requests()

    ran = world.process("doctor", "--json")

    assert ran.code == 0, ran.out
    assert asked(world) == {"GET /.well-known/est/cacerts"}
    assert said(ran, "rotation")["cause"] == "rotation-open"


def test_a_journal_that_is_damaged_counts_as_open(world: World) -> None:
    """Nobody knows what the gateway waits for."""
    (world.storage / "fioagent").mkdir()
    (world.storage / "fioagent" / "rotation.journal").write_bytes(b"garbage\n")
    world.factory.clear_requests()

    assert world.process("doctor").code == 78

    assert asked(world) == {"GET /.well-known/est/cacerts"}


def test_lines_fit_a_serial_console(world: World) -> None:
    """Whatever is told: ASCII, no colour, one state and one check at the head of each."""
    world.sota_toml.write_text(world.sota_toml.read_text().replace("localhost", "nö.invalid"))

    ran = world.process("doctor", before=("env", "LANG=C", "LC_ALL=C"))

    assert ran.out.isascii()
    head = re.compile(r"(ok|warn|fail|skip) +[a-z.]+( +\S.*)?|^ {22}\S.*|[a-z ]+: [0-9].*")
    for line in ran.out.splitlines():
        assert head.fullmatch(line), line
        assert len(line) < 80 or str(world.device.directory) in line, line


def test_the_schema_of_the_page_is_that_of_the_lines(world: World) -> None:
    """docs/technicians.md: members with their values."""
    page = (TOP / "docs" / "technicians.md").read_text()
    section = page.partition("\n## doctor --json\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    (world.storage / "client.pem").unlink()

    *checks, end = world.process("doctor", "--json").lines

    for event, lines in (("check", checks), ("end", [end])):
        members = [row[1] for row in rows if row[0] == event]
        assert members
        for line in lines:
            assert list(line) == members
    assert {row[0] for row in rows} == {"check", "end"}
    for name in NAMES:
        assert f"| `{name}` |" in page, name


def test_a_module_that_hangs_holds_up_one_check(token_world: TokenWorld) -> None:
    """Inside C, where nothing in its own process ends it; what needs the key is not looked at."""
    conf = Path(token_world.token.env["SOFTHSM2_CONF"])
    conf.unlink()
    os.mkfifo(conf)  # SoftHSM reads its configuration when it is initialised

    ran = token_world.process("doctor", "--json", "--limit", "8")

    assert ran.code == 75
    found = states(ran)
    assert list(found) == NAMES
    assert found["token"] == "fail"
    assert said(ran, "token")["cause"] == "no-answer"
    assert {found[name] for name in ("pair", "config", "gateway", "est")} == {"skip"}
    assert found["leftovers"] == "ok"


def test_a_module_that_crashes_holds_up_one_check(
    token_world: TokenWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that aborts its process."""
    crashing = tmp_path / "pkcs11"
    crashing.mkdir()
    (crashing / "__init__.py").write_text("import os\nos.abort()\n")

    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    ran = token_world.process("doctor", "--json")

    assert ran.code == 75
    assert "ended with -6" in said(ran, "configuration")["message"]


def test_a_server_that_is_silent_does_not_hold_it_up(world: World) -> None:
    def silence(connection: Any) -> None:
        while connection.recv(4096):
            pass

    with listening(silence) as port:
        text = re.sub(
            r'(\[tls\][^\[]*server = )"[^"]*"',
            rf'\g<1>"https://localhost:{port}"',
            world.sota_toml.read_text(),
        )
        world.sota_toml.write_text(text)
        ran = world.process("doctor", "--json", "--limit", "8")

    assert ran.code == 75
    assert states(ran)["gateway"] == "fail"
    assert states(ran)["est"] == "ok"


def test_a_name_server_that_is_dead_does_not_hold_it_up(world: World, tmp_path: Path) -> None:
    """It takes questions and answers none."""
    needs.root_and("unshare", "mount", "ip")
    resolv, program = tmp_path / "resolv.conf", tmp_path / "dead-dns"
    resolv.write_text("nameserver 127.0.0.1\n")
    listen = (
        "import socket, os, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "s.bind(('127.0.0.1', 53)); s.set_inheritable(True); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    program.write_text(
        f"#!/bin/sh\nset -e\nmount --bind {resolv} /etc/resolv.conf\nip link set lo up\n"
        f'exec {sys.executable} -c "{listen}" "$@"\n'
    )
    program.chmod(0o755)
    world.sota_toml.write_text(world.sota_toml.read_text().replace("localhost", "gw.example"))

    ran = world.process(
        "doctor", "--json", "--limit", "8", before=("unshare", "--net", "--mount", str(program))
    )

    assert ran.code == 75, ran.err
    assert states(ran)["dns"] == "fail"
    assert states(ran)["gateway"] == "fail"
    assert list(states(ran)) == NAMES


def test_a_limit_that_is_none_is_told(world: World) -> None:
    ran = world.fioagent("doctor", "--limit", "soon")

    assert ran.code == 78
    assert "cannot use --limit 'soon'" in ran.err


def test_the_remedy_for_leftovers_is_true(world: World) -> None:
    """What fioconfig leaves in its marker goes with the next ``fioagent rotate``."""
    marker = world.storage / "cert-rotation.state.completed"
    kept = {"RotationId": "certs-1", "NewKey": world.live_pair()[1].read_text()}
    marker.write_text(json.dumps(kept))
    found = said(world.process("doctor", "--offline", "--json"), "leftovers")
    assert (found["state"], found["cause"]) == ("warn", "key-left-behind")
    assert "'fioagent rotate'" in found["hint"]

    assert world.fioagent("rotate").code == 0

    assert b"PRIVATE KEY" not in marker.read_bytes()
    assert states(world.process("doctor", "--offline", "--json"))["leftovers"] == "ok"


UNITS = {
    "fioagent.service": "[Service]\nExecStart=/bin/sleep infinity\n",
    "fioagent.path": "[Path]\nPathExists=/nowhere\n",
    "aktualizr-lite.service": "[Unit]\nStartLimitIntervalSec=541\nStartLimitBurst=3\n"
    "[Service]\nExecStart=/bin/sleep infinity\n",
}


def test_units_and_starts_of_a_real_systemd(world: World, tmp_path: Path) -> None:
    """What runs, what does not, fioconfig beside it, and starts as the journal counts them."""
    settings = Path(world.device.env["FIOAGENT_CONFIG"])
    settings.write_text(settings.read_text().replace('manager = "none"', 'manager = "auto"'))
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in world.device.env.items())
    doctor = (
        f"{shlex.quote(sys.executable)} -m fioagent doctor --offline --json | tr '\\n' ' '; echo"
    )
    script = (
        f"cd {TOP}\n{exports}"
        "systemctl start fioagent.path aktualizr-lite.service\n"
        f"{doctor}\n"
        "systemctl start fioagent.service\n"
        "systemctl restart aktualizr-lite.service\nsystemctl restart aktualizr-lite.service\n"
        "journalctl --sync\n"
        f"{doctor}\n"
        "systemctl start fioconfig.service\n"
        f"{doctor}\n"
    )
    fioconfig = {"fioconfig.service": "[Service]\nExecStart=/bin/sleep infinity\n"}

    (tmp_path / "machine").mkdir()
    output = systemd_machine.run(
        tmp_path / "machine", {**UNITS, **fioconfig}, script, writable=[world.device.directory]
    )

    found = [_findings(line) for line in output.splitlines() if line.startswith("{")]
    first, second, third = found
    assert "service-not-running" in str(first["units"])
    assert "1 of 3" in str(first["starts"])
    assert "service-not-running" not in str(second["units"])
    assert "start-limit" in str(second["starts"])
    assert "beside-fioconfig" in str(third["units"])


def _findings(line: str) -> dict[str, list[dict[str, Any]]]:
    decoder, at = json.JSONDecoder(), 0
    found: dict[str, list[dict[str, Any]]] = {}
    while at < len(line.rstrip()):
        value, at = decoder.raw_decode(line, at)
        at += 1
        found.setdefault(value.get("check", "end"), []).append(value)
    return found

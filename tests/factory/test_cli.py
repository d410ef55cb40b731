"""The command line: what it prints, what it leaves on the disk, and how it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fioagent.factory import Factory, FactoryError
from fioagent.factory.cli.main import main
from fioagent.factory.fleet.ecies import decrypt
from fioagent.factory.fleet.hsm import PIN, Hsm, softhsm, swtpm
from fioagent.factory.knobs import KNOBS
from tests.factory.conftest import Lab
from tests.factory.operator import Operator
from tests.factory.serving import served, until_ready
from tests.factory.test_events import event
from tests.processes import has_ended

SOTA_TOML = """\
[tls]
server = "{gateway}"
ca_source = "file"
pkey_source = "file"
cert_source = "file"

[provision]
server = "{gateway}"
primary_ecu_hardware_id = "raspberrypi4-64"

[uptane]
repo_server = "{gateway}/repo"
key_source = "file"

[pacman]
type = "ostree+compose_apps"
ostree_server = "{gateway}/treehub"
compose_apps_root = "{sota}/compose-apps"

[storage]
type = "sqlite"
path = "{sota}/"

[import]
tls_cacert_path = "{sota}/root.crt"
tls_pkey_path = "{sota}/pkey.pem"
tls_clientcert_path = "{sota}/client.pem"
"""


@pytest.fixture
def directory(lab: Lab) -> str:
    return str(lab.factory.paths.directory)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said on stderr; nothing on stdout, and the exit code is 1."""
    capsys.readouterr()

    assert 1 == main(arguments)

    said = capsys.readouterr()
    assert "" == said.out
    assert said.err.startswith("cannot ")
    return said.err


@pytest.fixture
def process(unserved: Factory) -> Iterator[subprocess.Popen[str]]:
    with served(unserved.paths.directory) as process:
        yield process
        process.kill()


# --- init and serve ---


def test_init_makes_a_factory_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "new" / "lab"

    assert 0 == main(["init", str(directory), "--name", "acme"])

    assert f"created the factory acme in {directory}\n" == capsys.readouterr().out
    assert "acme" == Factory.open(directory).name
    assert "is not empty" in refused(capsys, "init", str(directory))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_ready_and_ends_with_a_signal(
    unserved: Factory, process: subprocess.Popen[str], number: signal.Signals
) -> None:
    """The notice first, then the addresses, then ready on a line of its own; exit 0."""
    lines = until_ready(process)
    state = json.loads(unserved.paths.state.read_text())

    assert "not for production" in lines[0]
    assert process.pid == state["pid"]
    assert state["est"].endswith("/.well-known/est")
    assert {"gateway", "est", "api", "pid"} == set(state)
    token = unserved.paths.api_token.read_text().strip()
    assert f"page    {state['api']}/#{token}\n" in lines

    process.send_signal(number)
    assert 0 == process.wait(60)


def test_a_reader_that_goes_away_is_no_error(unserved: Factory) -> None:
    """As in ``fioagent-factory knob lab | head -1``."""
    command = [sys.executable, "-m", "fioagent.factory", "knob", str(unserved.paths.directory)]
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as nobody:
        ended = subprocess.run(
            command, stdout=nobody, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (141, b"") == (ended.returncode, ended.stderr)


def test_a_factory_comes_back_at_the_same_addresses(unserved: Factory) -> None:
    """Devices have them in their sota.toml."""
    with unserved.serving() as first:
        pass
    with unserved.serving() as second:
        assert first == second


def test_a_port_that_is_taken_meanwhile_is_replaced(unserved: Factory) -> None:
    with unserved.serving() as first:
        pass
    port = int(first.gateway.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), unserved.serving() as second:
        assert first.gateway != second.gateway
        assert first.est == second.est


def test_a_port_that_was_asked_for_must_be_free(
    unserved: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(capsys, "serve", str(unserved.paths.directory), "--est", address)

    assert "cannot serve the est at 127.0.0.1" in said


def test_one_factory_is_served_once(
    lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = lab.factory.paths.state.read_text()

    assert "it is being served already" in refused(capsys, "serve", directory)

    assert before == lab.factory.paths.state.read_text()


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.1", ":80", "::1:0", "x:70000", "x:-1"])
def test_an_address_is_a_host_and_a_port(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", str(tmp_path), "--gateway", text])

    assert 2 == stopped.value.code
    assert "argument --gateway" in capsys.readouterr().err


# --- devices ---


def test_a_new_device_has_all_that_an_agent_needs(
    lab: Lab, directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of the registration server, and an env file for a shell."""
    path = tmp_path / "my device"

    command = ["device", "add", directory, str(path), "--uuid", "device-9"]
    assert 0 == main([*command, "--hardware-id", "raspberrypi4-64"])

    sota = path / "var" / "sota"
    files = {"sota.toml", "root.crt", "client.pem", "pkey.pem", "current-target"}
    assert files == {file.name for file in sota.iterdir()}
    assert SOTA_TOML.format(gateway=lab.urls.gateway, sota=sota) == (sota / "sota.toml").read_text()
    assert lab.factory.paths.root.read_bytes() == (sota / "root.crt").read_bytes()
    target = 'TARGET_NAME="intel-corei7-64-lmp-42"\nCUSTOM_VERSION="42"\n'
    assert target == (sota / "current-target").read_text()
    modes = [p.stat().st_mode & 0o777 for p in (sota, sota / "pkey.pem", path / "run" / "secrets")]
    assert [0o700, 0o600, 0o750] == modes
    settings = (path / "etc" / "fioagent" / "fioagent.toml").read_text()
    assert f'server = "{lab.urls.est}"' in settings
    assert 'manager = "none"' in settings
    assert "device-9" in [device.uuid for device in lab.factory.all_devices()]

    script = '. "$1" && printf "%s|" "$SOTA_DIR" "$SECRETS_DIR" "$FIOAGENT_CONFIG"'
    shell = ["sh", "-ec", script, "sh", str(path / "env")]
    shown = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    expected = [sota / "sota.toml", path / "run" / "secrets", path / "etc/fioagent/fioagent.toml"]
    assert [str(p) for p in expected] == shown.split("|")[:3]


def test_a_new_device_may_have_its_key_in_a_token(
    lab: Lab, directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nowhere else; what is printed and the env file are all that a person needs."""
    path = tmp_path / "my device"

    assert 0 == main(["device", "add", directory, str(path), "--token", "softhsm"])

    said = capsys.readouterr().out
    assert f"  SOFTHSM2_CONF={path}/token/softhsm2.conf\n" in said
    assert f"user PIN {PIN}\n" in said
    keys = [p for p in path.rglob("*") if p.is_file() and b"PRIVATE KEY" in p.read_bytes()]
    assert [] == keys
    with in_shell(path, "rotate", "--now") as rotation:
        assert 0 == rotation.wait(60)
    with in_shell(path, "status", stdout=subprocess.PIPE) as status:
        assert "key          07\n" in status.communicate(timeout=60)[0]


def in_shell(path: Path, *arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
    """``fioagent`` after ``. DEVICE/env``."""
    script = '. "$1" && shift && exec "$@"'
    command = ["sh", "-ec", script, "sh", str(path / "env"), sys.executable, "-m", "fioagent"]
    return subprocess.Popen([*command, *arguments], stdout=stdout, text=True)


def test_a_new_device_may_have_a_tpm_of_its_own(
    lab: Lab, directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs on, and starts again by the line that is printed."""
    path = tmp_path / "my device"
    assert 0 == main(["device", "add", directory, str(path), "--token", "swtpm"])
    pid = path / "token" / "pid"
    try:
        assert f"again: sh {path}/token/start\n" in capsys.readouterr().out
        with in_shell(path, "status", stdout=subprocess.DEVNULL) as status:
            assert 0 == status.wait(60)
        first = int(pid.read_text())
        os.kill(first, signal.SIGTERM)
        assert has_ended(first)

        subprocess.run(["sh", str(path / "token" / "start")], check=True)

        with in_shell(path, "status", stdout=subprocess.DEVNULL) as status:
            assert 0 == status.wait(60)
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


def test_a_token_that_cannot_be_made_is_one_line(
    lab: Lab,
    directory: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the package to install; no device is left behind, on the disk or at the factory."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))

    said = refused(capsys, "device", "add", directory, str(tmp_path / "d"), "--token", "softhsm")

    line = "cannot make a token: pkcs11-tool is not installed\nhint: apt-get install opensc\n"
    assert line == said
    assert not (tmp_path / "d").exists()
    assert [] == lab.factory.all_devices()


@pytest.mark.parametrize("ca", ["local-ca", "online-ca"])
def test_a_new_device_is_served(lab: Lab, tmp_path: Path, ca: str) -> None:
    device = lab.factory.add_device(tmp_path / "device", "device-1", ca=ca)
    client = lab.client()
    client.session.cert = (str(device.sota / "client.pem"), str(device.sota / "pkey.pem"))

    assert device.public_key == client.get("/device").json()["pubkey"]


def test_a_device_that_cannot_be_added_changes_nothing(
    lab: Lab, directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Directory in use, name taken, name unfit, and a path that sota.toml cannot hold."""
    full, free = tmp_path / "full", tmp_path / "free"
    full.mkdir()
    (full / "file").touch()
    lab.device("device-1")
    add = ("device", "add", directory)

    assert "it is not empty" in refused(capsys, *add, str(full))
    assert "has it already" in refused(capsys, *add, str(free), "--uuid", "device-1")
    assert "letters, digits" in refused(capsys, *add, str(free), "--uuid", "a b")
    assert "sota.toml cannot name" in refused(capsys, *add, str(tmp_path / 'a"b'))
    assert "Not a directory" in refused(capsys, *add, str(full / "file" / "below"))

    assert not free.exists()
    assert ["device-1"] == [device.uuid for device in lab.factory.all_devices()]


def test_a_factory_must_have_been_served_before_devices_are_added(
    unserved: Factory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only then there are addresses to tell them."""
    directory = str(unserved.paths.directory)

    said = refused(capsys, "device", "add", directory, str(tmp_path / "device"))

    assert f"hint: fioagent-factory serve {directory}" in said


def test_devices_are_listed(lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    device = lab.device()
    device.announce(lab.credential().public_key)

    main(["device", "list", directory])
    line = capsys.readouterr().out
    main(["device", "list", directory, "--json"])
    (row,) = json.loads(capsys.readouterr().out)

    assert line.startswith(f"device-1 key={row['key'][:12]} locked last-seen=20")
    assert ("device-1", True, 0) == (row["uuid"], row["locked"], row["denied-keys"])
    assert int(lab.clock.now) == row["last-seen"]


# --- configuration and updates ---


def test_config_is_set_from_files(lab: Lab, directory: str, tmp_path: Path) -> None:
    """Under the file's own name or another; encrypted unless plain; for one device or all."""
    device = lab.device()
    assert device.credential is not None
    secret, text = tmp_path / "secret", tmp_path / "text"
    secret.write_bytes(b"\x00")
    text.write_text("hi")
    set_ = ["config", "set", directory]

    assert 0 == main([*set_, "device-1", str(secret), f"certs/x={secret}"])
    assert 0 == main(
        [*set_, "device-1", str(text), "--plain", "--on-changed", "/h", "--reason", "r"]
    )
    assert 0 == main([*set_, "-", f"all={text}", "--plain", "--factory-wide"])

    shown = device.get("/config").json()
    for name in ("secret", "certs/x"):
        assert b"\x00" == decrypt(shown[name]["Value"], device.credential.key)
    assert {"Value": "hi", "Unencrypted": True, "OnChanged": ["/h"]} == shown["text"]
    assert {"Value": "hi", "Unencrypted": True} == shown["all"]


def test_config_that_cannot_be_set(
    lab: Lab, directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = lab.device()
    file = tmp_path / "file"
    file.write_text("x")
    set_ = ("config", "set", directory)

    assert "hint: fioagent-factory device list" in refused(capsys, *set_, "nobody", str(file))
    assert "No such file" in refused(capsys, *set_, "device-1", str(tmp_path / "nothing"))
    assert "hint: add --plain" in refused(capsys, *set_, "-", str(file), "--factory-wide")
    device.announce(lab.credential().public_key)
    assert "hint: wait for the rotation" in refused(capsys, *set_, "device-1", str(file))
    assert {} == lab.factory.device("device-1").config


def test_rotate_certs_prints_the_id(
    lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The factory's own EST server and the present second, if nothing else is asked for."""
    lab.device()

    assert 0 == main(["rotate-certs", directory, "device-1", "--hsm-pkey-ids", "02,08"])

    rotation_id = capsys.readouterr().out.strip()
    assert rotation_id.startswith("certs-")
    value = lab.factory.device("device-1").config["fio-rotate-certs"]["Value"]
    assert f"ESTSERVER={lab.urls.est}\nPKEYIDS=02,08\nCERTIDS=03,09\n" in value
    assert f"ROTATIONID={rotation_id}\n" in value


def test_updates_are_shown(lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    lab.device().send("POST", "/events", json=[event(1), event(2, success=False, details="x")])

    assert 0 == main(["updates", directory, "device-1"])
    assert capsys.readouterr().out.splitlines()[2].startswith("certs-1  2026-11-21T00:01:03Z")
    assert 0 == main(["updates", directory, "device-1", "certs-1"])
    assert "CertRotationStarted(lmp-42) -> Failed!\n Details:\n | x\n" in capsys.readouterr().out
    assert 0 == main(["updates", directory, "device-1", "certs-1", "--json"])
    assert 2 == len(json.loads(capsys.readouterr().out))
    assert "no such event" in refused(capsys, "updates", directory, "device-1", "certs-2")
    assert "does not know it" in refused(capsys, "updates", directory, "nobody")


# --- knobs ---


def test_knobs_are_shown_and_set(
    lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them with a meaning, one with its value alone."""
    assert 0 == main(["knob", directory])
    listed = capsys.readouterr().out
    assert set(KNOBS) <= {line.split(" ")[0] for line in listed.splitlines()}

    assert 0 == main(["knob", directory, "old_key", "drop"])
    assert 0 == main(["knob", directory, "old_key"])
    assert "drop\n" == capsys.readouterr().out
    assert "drop" == lab.factory.knob("old_key")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("old_key", "404"), "it takes 403, 401, 502, drop"),
        (("old_kay", "403"), "there is no such knob"),
        (("old_kay",), "there is no such knob"),
        (("lock_lifetime_s", "-1"), "it takes a whole number"),
        (("lock_lifetime_s", "\u0663"), "it takes a whole number"),
    ],
)
def test_a_knob_that_cannot_be_set(
    lab: Lab,
    directory: str,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    before = lab.factory.knobs()

    assert said in refused(capsys, "knob", directory, *arguments)

    assert before == lab.factory.knobs()


def test_every_knob_is_documented() -> None:
    """Each has a row with all its values."""
    text = (Path(__file__).parents[2] / "docs" / "factory.md").read_text(encoding="utf-8")

    for name, knob in KNOBS.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert all(f"`{value}`" in row for value in knob.values or (knob.default,))


# --- bad input ---


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "{}"),
        ("device", "list", "{}"),
        ("device", "add", "{}", "x"),
        ("rotate-certs", "{}", "device-1"),
        ("updates", "{}", "device-1"),
        ("knob", "{}"),
    ],
)
def test_a_directory_without_a_factory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """It is not made one by looking at it."""
    said = refused(capsys, *(argument.format(tmp_path) for argument in arguments))

    assert f"hint: fioagent-factory init {tmp_path}" in said
    assert [] == list(tmp_path.iterdir())


def test_a_broken_database_is_no_traceback(
    unserved: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    unserved.paths.database.write_bytes(b"not a database, but long enough to be one" * 100)
    for extra in ("-wal", "-shm"):
        Path(f"{unserved.paths.database}{extra}").unlink(missing_ok=True)

    said = refused(capsys, "knob", str(unserved.paths.directory))

    assert "file is not a database" in said


@pytest.mark.parametrize(
    "command",
    [(), ("init",), ("serve",), ("device", "add"), ("device", "list"), ("config", "set"),
     ("rotate-certs",), ("updates",), ("knob",), ("demo",)],
)  # fmt: skip
def test_every_help_has_an_example(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])

    assert 0 == stopped.value.code
    assert f"example: fioagent-factory {' '.join(command)}" in capsys.readouterr().out


def test_no_secret_is_printed_or_logged(
    lab: Lab, directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the token nor a value, wherever people look."""
    device = lab.device()
    file = tmp_path / "file"
    file.write_text("top-s3cret")
    main(["config", "set", directory, "device-1", str(file), "--plain"])
    assert "top-s3cret" in device.get("/config").text

    logs = "".join(log.read_text() for log in lab.factory.paths.log.iterdir())
    said = logs + "".join(capsys.readouterr())
    assert "top-s3cret" not in said
    assert lab.factory.paths.api_token.read_text().strip() not in said
    assert os.stat(lab.factory.paths.directory).st_mode & 0o777 == 0o700


def test_without_its_extra_it_says_what_to_install() -> None:
    """The command comes with the agent's package, its libraries do not."""
    program = "import sys; sys.modules['flask'] = None; import fioagent.factory"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr == "cannot start: the factory needs flask; install fioagent[factory]\n"


def test_the_servers_go_on_while_a_token_is_made(lab: Lab, tmp_path: Path) -> None:
    """A TPM takes seconds, in which devices have to be served."""
    device = lab.device()

    def slowly(directory: Path) -> Hsm:
        assert 204 == device.get("/config").status_code  # it is written down that it came
        return softhsm(directory)

    lab.factory.add_device(tmp_path / "device", make_hsm=slowly)


def test_nothing_is_left_of_a_device_that_could_not_be_added(lab: Lab, tmp_path: Path) -> None:
    """Somebody else took its uuid while its token was made; its TPM ends."""
    made: list[int] = []

    def meanwhile(directory: Path) -> Hsm:
        lab.factory.add_device(tmp_path / "other", "device-1")
        token = swtpm(directory)
        assert 0o700 == directory.stat().st_mode & 0o777
        made.append(int((directory / "pid").read_text()))
        return token

    with pytest.raises(FactoryError, match="has it already"):
        lab.factory.add_device(tmp_path / "device", "device-1", make_hsm=meanwhile)

    assert has_ended(made[0])
    assert not (tmp_path / "device").exists()
    assert ["device-1"] == [device.uuid for device in lab.factory.all_devices()]


def test_a_token_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pkcs11-tool"
    program.write_text("#!/bin/sh\nexec sleep 3600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("fioagent.factory.fleet.hsm.LIMIT_S", 0.1)

    with pytest.raises(FactoryError, match="has not answered within"):
        softhsm(tmp_path / "token")


def test_a_device_answers_to_its_name(
    lab: Lab, directory: str, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    """In every command that names one."""
    lab.device().send("POST", "/events", json=[event(1)])
    operator.send("PATCH", "device-1/", json={"name": "till-1"})
    (file := lab.tmp_path / "greeting").write_text("hi")

    for command in (
        ["config", "set", directory, "till-1", "--plain", str(file)],
        ["rotate-certs", directory, "till-1"],
        ["device", "show", directory, "till-1"],
        ["updates", directory, "till-1"],
        ["device", "list", directory],
    ):
        assert 0 == main(command), command

    said = capsys.readouterr().out
    assert "certs-1" in said
    assert said.endswith(" name=till-1\n")


def test_all_knobs_go_back_to_their_defaults(
    lab: Lab, directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.factory.set_knob("old_key", "drop")

    assert "takes all" in refused(capsys, "knob", directory, "old_key", "--reset")
    assert "drop" == lab.factory.knob("old_key")
    assert 0 == main(["knob", directory, "--reset"])
    assert "403" == lab.factory.knob("old_key")

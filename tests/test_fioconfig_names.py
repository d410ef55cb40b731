"""The names, flags and variables of fioconfig: who swaps the package changes nothing else."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fioagent import __version__
from fioagent.errors import PeerError
from fioagent.gateway import HttpGateway
from fioagent.http import Session
from fioagent.ports import Upload
from tests.handlers import TOP, Handlers
from tests.test_extract import ALL, extracted
from tests.world import Ran, World

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def fioconfig(world: World, *arguments: str, directory: Path | None = None) -> Ran:
    """The program under that name, as pip writes it, in a process of its own."""
    place = directory or world.device.directory / "bin"
    place.mkdir(exist_ok=True)
    program = place / "fioconfig"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(TOP)!r})\n"
        "from fioagent.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    done = subprocess.run(
        [program, *arguments],
        env={**os.environ, **world.device.env, "PATH": f"{place}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_the_package_installs_both_names() -> None:
    scripts = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["scripts"]

    assert scripts["fioconfig"] == scripts["fioagent"] == "fioagent.cli:main"


def test_version(world: World) -> None:
    assert world.fioagent("version").out == f"fioagent {__version__}\n"


@pytest.mark.parametrize("command", ["extract", "check-in"])
def test_options_stand_before_the_command(world: World, command: str) -> None:
    """As fioconfig has them; behind it they mean the same."""
    elsewhere = world.device.directory / "elsewhere"
    bare = {"SOTA_DIR": "", "SECRETS_DIR": "", "UNSAFE_CALLBACKS": ""}
    options = ["--config", str(world.sota_toml), "--secrets-dir", str(elsewhere)]
    if command == "check-in":
        (world.storage / "config.encrypted").unlink()

    before = world.fioagent(*options, command, environ=bare)
    shutil.rmtree(elsewhere)
    (world.storage / "fioagent" / "check-in.json").unlink(missing_ok=True)
    behind = world.fioagent(command, *options, environ=bare)

    assert (before.code, behind.code) == (0, 0), before.err + behind.err
    found = {str(p.relative_to(elsewhere)) for p in elsewhere.rglob("*") if p.is_file()}
    assert found == set(ALL)
    assert extracted(world) == {}


@pytest.mark.parametrize(
    "options",
    [[], ["--pkcs11-key-ids=01,07", "--pkcs11-cert-ids=03,09"], ["--pkcs11-key-ids", "01"]],
    ids=["plain", "stock handler", "one"],
)
def test_renew_cert_rotates_now(world: World, options: Sequence[str]) -> None:
    """With that server and id; a second time it is done already, as the stock handler expects."""
    ran = world.fioagent("renew-cert", *options, world.urls.est, "certs-1")

    assert ran.code == 0, ran.err
    assert world.live_pair()[1].name == "pkey.certs-1.pem"
    again = world.fioagent("renew-cert", *options, world.urls.est, "certs-1")
    assert (again.code, again.out) == (0, "rotation certs-1 is done already\n")
    world.check_nothing_left_behind()


def test_renew_cert_without_an_id(world: World) -> None:
    """certs-<unix time>, as by fioconfig."""
    assert world.fioagent("renew-cert", world.urls.est).code == 0

    assert world.live_pair()[1].name.startswith("pkey.certs-1")


def test_renew_cert_that_fails_says_so(world: World) -> None:
    """Its handler makes 123 of it; the rotation stays open and the service goes on with it."""
    world.factory.set_knob("est_answer", "503")

    assert world.fioagent("renew-cert", world.urls.est, "certs-1").code == 75

    world.factory.set_knob("est_answer", "normal")
    assert world.rotate().code == 0


def test_under_fioconfigs_name_it_is_the_same_program(world: World) -> None:
    """And not taken for the fioconfig that it replaces, whose rotation would be left alone."""
    from tests.fioconfig import Fioconfig  # noqa: PLC0415  # of one test

    left = Fioconfig(world).run(3)

    recovered = fioconfig(world, "recover")
    rotated = fioconfig(world, "renew-cert", world.urls.est, "certs-1")

    assert "rotation certs-1" in recovered.out, recovered.err
    assert rotated.code == 0, rotated.err
    assert left.key.public_key() == world.key().public_key()
    assert fioconfig(world, "check-in").code == 0
    assert fioconfig(world, "version").out == f"fioagent {__version__}\n"


def test_what_fioconfig_has_left_is_taken_as_it_is(world: World) -> None:
    """Its copy and its files: one whole fetch, nothing is written, no handler runs again."""
    handlers = Handlers(world)
    world.factory.set_config(world.uuid, {"a": b"1"}, plain=True, on_changed=handlers.noting())
    world.fetch_config()
    for name, content in {**ALL, "a": b"1"}.items():
        path = Path(world.device.env["SECRETS_DIR"]) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    line = world.fioagent("check-in", "--json").lines[0]

    assert (line["result"], line["written"]) == ("stored", [])
    assert handlers.told() == []
    assert world.fioagent("check-in", "--json").lines[0]["result"] == "unchanged"


# --- initial data ---


def test_the_gateway_is_told_of_remote_actions_once(bare: World) -> None:
    """The comma list of the image's actions; told again when an update brings another."""
    handlers = Handlers(bare)
    actions = bare.device.directory / "actions"
    actions.mkdir()
    (actions / "reboot").touch()
    (actions / "diag").touch()
    (actions / "\udcff").touch()  # no text: nobody can ask for it, and nothing ends by it

    told = bare.fioagent("check-in")
    bare.factory.clear_requests()
    bare.fioagent("check-in")

    assert "told the gateway: fio-remote-actions" in told.err, told.err
    entry = bare.factory.device(bare.uuid).config["fio-remote-actions"]
    assert entry == {"Value": "diag,reboot", "Unencrypted": True}
    assert extracted(bare)["fio-remote-actions"] == b"diag,reboot"
    assert [r.method for r in bare.factory.requests("gateway")] == ["GET"]
    (actions / "new").touch()
    bare.fioagent("check-in")
    entry = bare.factory.device(bare.uuid).config["fio-remote-actions"]
    assert entry["Value"] == "diag,new,reboot"
    assert handlers.told() == []


def test_an_image_without_actions_tells_nothing(bare: World) -> None:
    """One request, as before."""
    Handlers(bare)

    bare.fioagent("check-in")

    assert [r.method for r in bare.factory.requests("gateway")] == ["GET"]


def test_the_wireguard_key_of_a_device_is_told_where_the_image_has_a_vpn(bare: World) -> None:
    """The private half stays in wg-priv, 0600; another program's key there is used."""
    handlers = Handlers(bare)
    handler = handlers.add("factory-config-vpn", "true\n")

    assert bare.fioagent("check-in").code == 0

    entry = bare.factory.device(bare.uuid).config["wireguard-client"]
    assert entry["OnChanged"] == [handler]
    private = bare.storage / "wg-priv"
    assert private.stat().st_mode & 0o777 == 0o600
    lines = entry["Value"].splitlines()
    assert lines[0] == "enabled=0"
    public = lines[2].removeprefix("pubkey=")
    if shutil.which("wg"):
        done = subprocess.run(
            ["wg", "pubkey"], input=private.read_text(), capture_output=True, text=True, check=True
        )
        assert public == done.stdout.strip()
    assert len(public) == 44
    bare.factory.clear_requests()
    bare.fioagent("check-in")
    assert [r.method for r in bare.factory.requests("gateway")] == ["GET"]


def test_the_vpn_of_an_operator_is_not_overwritten(world: World) -> None:
    """By a device that has lost its copy: it asks first."""
    handlers = Handlers(world)
    handlers.add("factory-config-vpn", "true\n")
    (world.storage / "config.encrypted").unlink()
    before = world.factory.device(world.uuid).config

    world.fioagent("check-in")

    assert before == world.factory.device(world.uuid).config


def test_a_gateway_that_takes_no_such_data_is_as_good(bare: World) -> None:
    """The public ones have no PATCH /config; it is told, and the check-in is a success."""
    Handlers(bare)
    (bare.device.directory / "actions").mkdir()
    (bare.device.directory / "actions" / "diag").touch()
    bare.factory.set_knob("gateway_patch_config", "500")

    ran = bare.fioagent("check-in")

    assert ran.code == 0
    assert "cannot tell the gateway what is on this device" in ran.err


def test_nothing_is_told_while_a_rotation_is_open(world: World) -> None:
    """The gateway takes configuration for the next key alone then."""
    Handlers(world)
    (world.device.directory / "actions").mkdir()
    (world.device.directory / "actions" / "diag").touch()
    world.pause_before_the_commit("certs-1")
    world.factory.clear_requests()

    world.fioagent("check-in")

    assert {r.method for r in world.factory.requests("gateway")} == {"GET"}


# --- remote actions ---

RUN = ["run-and-report", "--name", "diag", "--id", "action-0123456789"]


def test_a_remote_action_is_run_and_reported(world: World) -> None:
    """Its output, its result, and the files that it leaves."""
    artifacts = world.device.directory / "artifacts"
    artifacts.mkdir()
    (artifacts / "sub").mkdir()
    script = 'echo hello; echo trouble >&2; echo content > "$ARTIFACTS/note.txt"'

    ran = world.fioagent(*RUN, "--artifacts-dir", str(artifacts), "sh", "-c", script)

    assert (ran.code, ran.out) == (0, "hello\ntrouble\n"), ran.err
    (run,) = world.factory.remote_actions(world.uuid)
    assert (run.id, run.name, run.target) == ("action-0123456789", "diag", "fioconfig-action")
    assert (run.status, run.details) == ("PASSED", "")
    assert run.artifacts == {"console.log": b"hello\ntrouble\n", "note.txt": b"content\n"}


def test_an_action_that_fails_is_reported_as_such(world: World) -> None:
    """With its exit status, which is ours too; the id is the gateway's."""
    ran = world.fioagent("run-and-report", "--name", "diag", "sh", "-c", "echo no; exit 7")

    assert ran.code == 7
    (run,) = world.factory.remote_actions(world.uuid)
    assert (run.status, run.details) == ("FAILED", "sh ended with status 7")
    assert run.artifacts == {"console.log": b"no\n"}


def test_an_action_is_reported_with_all_that_it_has_said(world: World) -> None:
    """Columns, empty lines and all; the terminal and the log get what fits them."""
    said = "".join(f"  {number:>6}   of many\n\n" for number in range(1, 1001))
    source = world.device.directory / "long.txt"
    source.write_text(said)

    ran = world.fioagent(*RUN, "cat", str(source))

    assert ran.code == 0
    assert "1 of many\n" in ran.out
    assert "more lines)" in ran.out
    (run,) = world.factory.remote_actions(world.uuid)
    assert run.artifacts == {"console.log": said.encode()}


def test_a_file_that_cannot_be_sent_does_not_lose_the_result(world: World) -> None:
    """A link to nowhere, in the directory of the artifacts."""
    artifacts = world.device.directory / "artifacts"
    artifacts.mkdir()
    (artifacts / "broken").symlink_to("nowhere")
    (artifacts / "good").write_bytes(b"1")

    ran = world.fioagent(*RUN, "--artifacts-dir", str(artifacts), "true")

    assert ran.code == 0, ran.err
    assert "cannot read" in ran.out
    (run,) = world.factory.remote_actions(world.uuid)
    assert (run.status, run.artifacts) == ("PASSED", {"console.log": b"", "good": b"1"})


@pytest.mark.parametrize("url", ["http://x/", "https://x:99999/", "https://[x/", "ftp:", ""])
def test_a_place_that_is_none_is_a_plain_line(url: str) -> None:
    """The gateway says where artifacts go."""
    gateway = HttpGateway(Session("https://localhost:1", ssl.create_default_context()))

    with pytest.raises(PeerError, match="cannot upload an artifact: "):
        gateway.send_artifact(Upload(url, "text/plain"), b"1")


def test_an_action_that_cannot_be_started_is_reported(world: World) -> None:
    ran = world.fioagent(*RUN, "/nowhere/at-all")

    assert (ran.code, "cannot start /nowhere/at-all" in ran.err) == (78, True)
    (run,) = world.factory.remote_actions(world.uuid)
    assert run.status == "FAILED"


@pytest.mark.parametrize(
    ("name", "identifier"), [("x", ""), ("Diag", ""), ("a b c d", ""), ("diag", "short")]
)
def test_a_name_that_no_gateway_takes_is_refused(world: World, name: str, identifier: str) -> None:
    """Before anything is run."""
    ran = world.fioagent("run-and-report", "--name", name, "--id", identifier, "true")

    assert ran.code == 78
    assert ran.err.startswith("fioagent: cannot use the ")
    assert world.factory.remote_actions(world.uuid) == []


def test_an_action_without_a_gateway_is_not_run(world: World) -> None:
    """As by fioconfig: its caller tries again."""
    world.factory.set_knob("gateway_answer", "503")

    ran = world.fioagent(*RUN, "touch", str(world.device.directory / "done"))

    assert ran.code == 75
    assert not (world.device.directory / "done").exists()


def test_an_action_needs_a_command(world: World) -> None:
    ran = world.fioagent(*RUN)

    assert (ran.code, "no command is given" in ran.err) == (78, True)

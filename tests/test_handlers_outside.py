"""Handlers outside of our own sandbox, by a real systemd as the first process."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tests import systemd_machine
from tests.handlers import TOP, Handlers
from tests.test_check_in import changed_ago
from tests.world import World

# What the sandbox of fioagent.service takes from a handler: its rights, and /etc.
SANDBOXED = """
[Service]
Type=oneshot
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths={directory}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
WorkingDirectory={top}
{environ}
ExecStart=-{python} -m fioagent {command}
ExecStopPost=/bin/sh -c "echo $EXIT_STATUS > {directory}/status"
StandardOutput=append:{directory}/log
StandardError=append:{directory}/log
"""


def run(world: World, scratch: Path, command: str, handlers_run: str = "auto") -> tuple[str, int]:
    """``fioagent COMMAND`` in a unit with a sandbox; what it said, and its exit status."""
    directory = world.device.directory
    settings = Path(world.device.env["FIOAGENT_CONFIG"])
    settings.write_text(
        settings.read_text().replace("[handlers]\n", f'[handlers]\nrun = "{handlers_run}"\n')
    )
    environ = "".join(f'Environment="{k}={v}"\n' for k, v in world.device.env.items())
    unit = SANDBOXED.format(
        directory=directory,
        top=TOP,
        environ=environ,
        python=sys.executable,
        command=command,
    )
    script = "systemctl start dbus.socket\nmkdir -p /etc/NetworkManager\n"
    script += "systemctl start fioagent.service\n"
    script += f"for p in {directory}/told/pid*; do kill -0 $(cat $p); echo $? > $p.alive; done\n"
    script += f"cp -r /etc/NetworkManager {shlex.quote(str(directory))}/etc-after\necho done\n"

    systemd_machine.run(scratch, {"fioagent.service": unit}, script, writable=[directory])

    return (directory / "log").read_text(), int((directory / "status").read_text())


def configured(bare: World, script: str, timeout_s: int = 60) -> World:
    handlers = Handlers(bare, timeout_s)
    handler = handlers.add("vpn", script)
    bare.factory.set_config(bare.uuid, {"vpn": b"on"}, plain=True, on_changed=handler)
    changed_ago(bare, 100)
    return bare


CONNECTION = 'cp "$CONFIG_FILE" /etc/NetworkManager/vpn0\necho "for $STORAGE_DIR"\nexit 123\n'


def test_a_handler_writes_where_the_service_may_not(bare: World, tmp_path: Path) -> None:
    """Its output, its environment and its status come back all the same."""
    world = configured(bare, CONNECTION)

    log, status = run(world, tmp_path, "check-in")

    assert f"| for {world.storage}\n" in log, log
    assert status == 123
    assert (world.device.directory / "etc-after" / "vpn0").read_bytes() == b"on"


def test_inside_the_sandbox_it_could_not(bare: World, tmp_path: Path) -> None:
    """Which is why; the setting is for images whose unit has no sandbox."""
    world = configured(bare, CONNECTION)

    log, status = run(world, tmp_path, "check-in", handlers_run="direct")

    assert "Read-only file system" in log, log
    assert status == 0
    assert not (world.device.directory / "etc-after" / "vpn0").exists()


def test_at_boot_too_and_no_longer_than_its_limit(bare: World, tmp_path: Path) -> None:
    """Ended with all that it has started."""
    told = bare.device.directory / "told"
    script = f"sleep 600 &\necho $! > {told}/pid1\necho $$ > {told}/pid2\nwait\n"
    world = configured(bare, script, timeout_s=1)
    world.fetch_config()

    log, status = run(world, tmp_path, "extract")

    assert "it ran longer than 1 s" in log, log
    assert status == 0
    assert Path(world.device.env["SECRETS_DIR"], "vpn").read_bytes() == b"on"
    assert [(told / f"pid{n}.alive").read_text() for n in (1, 2)] == ["1\n", "1\n"]


def test_what_it_leaves_running_goes_on_running(bare: World, tmp_path: Path) -> None:
    """As it does of a handler that is our child; and nobody waits for it."""
    told = bare.device.directory / "told"
    world = configured(bare, f"sleep 600 &\necho $! > {told}/pid1\n")

    log, status = run(world, tmp_path, "check-in")

    assert status == 0, log
    assert (told / "pid1.alive").read_text() == "0\n"


def test_arguments_reach_it_as_they_are(bare: World, tmp_path: Path) -> None:
    """Systemd would make variables of some."""
    world = configured(bare, 'for a in "$@"; do echo "<$a>"; done\n')
    with world.factory.store.write() as db:
        db.execute(
            "UPDATE config_files SET entry = json_set(entry, '$.OnChanged[1]', '$HOME',"
            " '$.OnChanged[2]', 'a ${HOME} $$ %n \\x41 \"b\"') WHERE owner = ?",
            (world.uuid,),
        )

    log, _ = run(world, tmp_path, "check-in")

    assert "| <$HOME>\n" in log, log
    assert '| <a ${HOME} $$ %n \\x41 "b">\n' in log

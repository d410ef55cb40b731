"""Handlers outside of our own sandbox, by a real systemd as the first process."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests import needs, systemd_machine
from tests.handlers import Handlers
from tests.test_check_in import changed_ago
from tests.world import World

# The sandbox is that of the service as it is shipped; one command runs in it, and ends.
ONCE: Final = """
[Service]
Type=oneshot
Restart=no
ReadWritePaths={directory}
ExecStopPost=/bin/sh -c "echo $EXIT_STATUS > {directory}/status"
StandardOutput=append:{directory}/log
StandardError=append:{directory}/log
"""


def run(
    world: World, scratch: Path, command: str, handlers_run: str = "auto", before: str = ""
) -> tuple[str, int]:
    """``fioagent COMMAND`` in the service's sandbox; what it said, and its exit status."""
    needs.root_and("dbus-daemon")
    directory = world.device.directory
    settings = Path(world.device.env["FIOAGENT_CONFIG"])
    settings.write_text(
        settings.read_text().replace("[handlers]\n", f'[handlers]\nrun = "{handlers_run}"\n')
    )
    program = f"-{sys.executable} -m fioagent {command}"
    unit = systemd_machine.shipped(world, "fioagent.service", program)
    unit += ONCE.format(directory=directory)
    script = "systemctl start dbus.socket\nmkdir -p /etc/NetworkManager\n" + before
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


NO_BUS: Final = "systemctl stop dbus.socket dbus.service; rm /run/dbus/system_bus_socket\n"


@pytest.mark.parametrize(
    ("handlers_run", "before"), [("direct", ""), ("auto", NO_BUS)], ids=["direct", "without a bus"]
)
def test_inside_the_sandbox_it_could_not(
    bare: World, tmp_path: Path, handlers_run: str, before: str
) -> None:
    """Which is why; the setting is for images whose unit has no sandbox, or that have no bus."""
    world = configured(bare, CONNECTION)

    log, status = run(world, tmp_path, "check-in", handlers_run, before)

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


# --- with the resident service ---

# Shell for what the machine is asked.
SHOW: Final = 'show() { systemctl show --value -p "$1" fioagent.service; }\n'
BEGIN: Final = "systemctl start dbus.socket fioagent.service; systemctl reload fioagent.service\n"
TOLD: Final = "journalctl -o cat -u fioagent.service\n"


def until(condition: str) -> str:
    return f"until {condition}; do sleep 0.05; done\n"


def checked_in(*, times: int = 1) -> str:
    """A shell line that waits until so many check-ins have ended."""
    # A handler that is due is started where nothing has changed, too.
    said = '$(journalctl -o cat -u fioagent.service | grep -c "running ")'
    at_rest = (
        'case "$(show StatusText)" in waits*check-in:*) [ {said} -ge {times} ];; *) false;; esac'
    )
    return until(at_rest.format(said=said, times=times))


def served(world: World, scratch: Path, script: str, units: Mapping[str, str] | None = None) -> str:
    """What ``script`` prints in a machine with the service as shipped."""
    needs.root_and("dbus-daemon")
    unit = systemd_machine.shipped(world, "fioagent.service")
    found = {"fioagent.service": unit, **(units or {})}
    return systemd_machine.run(scratch, found, SHOW + script, writable=[world.device.directory])


def test_a_handler_of_the_service_does_what_a_handler_does(bare: World, tmp_path: Path) -> None:
    """It writes to /etc and /var and restarts a unit; the journal has its words; 123 is no end."""
    script = 'cp "$CONFIG_FILE" /etc/vpn0; cp "$CONFIG_FILE" /var/lib/vpn0\n'
    script += "systemctl restart vpn.service\necho connected\nexit 123\n"
    world = configured(bare, script)
    pid = "systemctl show --value -p MainPID vpn.service"
    machine = f"systemctl start vpn.service; before=$({pid})\n{BEGIN}{checked_in()}"
    machine += f'[ "$({pid})" != "$before" ] && systemctl is-active vpn.service\n'
    machine += (
        "cat /etc/vpn0 /var/lib/vpn0; echo; show NRestarts; systemctl stop fioagent.service\n"
    )
    units = {"vpn.service": "[Service]\nExecStart=/bin/sleep infinity\n"}

    output = served(world, tmp_path, machine + TOLD, units)

    assert output.splitlines()[:3] == ["active", "onon", "0"], output
    assert "\n| connected\n" in output
    assert "vpn ended with status 123\n" in output
    assert "\nstopped\n" in output


def test_what_a_handler_has_started_ends_with_the_service(bare: World, tmp_path: Path) -> None:
    """``systemctl stop`` in the middle of one: no process of it and no unit is left."""
    told = bare.device.directory / "told"
    script = f"setsid sleep 600 &\necho $! > {told}/one\necho $$ > {told}/two\nwait\n"
    world = configured(bare, script)
    machine = BEGIN + until(f"[ -s {told}/two ]")
    machine += "systemctl stop fioagent.service; show Result\n"
    machine += "systemctl list-units --all --no-legend 'fioagent-handler-*'\n"
    machine += f"for p in one two; do kill -0 $(cat {told}/$p) 2>/dev/null; echo $?; done\n"

    assert served(world, tmp_path, machine).split() == ["success", "1", "1"]


def test_without_the_bus_a_handler_is_told_of_and_run_later(bare: World, tmp_path: Path) -> None:
    """By the next check-in after the bus is back, though nothing has changed by then."""
    told = bare.device.directory / "told"
    world = configured(bare, f"echo ran >> {told}/note\n")
    machine = "systemctl start dbus.socket; systemctl stop dbus.socket dbus.service\n"
    machine += "systemctl start fioagent.service; systemctl reload fioagent.service\n"
    machine += checked_in() + f"[ -e {told}/note ] || echo not run\n"
    machine += BEGIN + until(f"[ -e {told}/note ]") + checked_in(times=2)
    machine += f"cat {told}/note; systemctl stop fioagent.service\n"

    output = served(world, tmp_path, machine + TOLD)

    assert output.startswith("not run\nran\n"), output
    assert output.count("cannot start") == 1
    assert "the next check-in starts it" in output
    memory = (world.storage / "fioagent" / "check-in.json").read_text()
    assert json.loads(memory)["due"] == []


def test_a_bus_that_dies_under_a_handler_does_not_end_it(bare: World, tmp_path: Path) -> None:
    """What nobody can say any more is not said: how it ended."""
    told = bare.device.directory / "told"
    script = f"echo $$ > {told}/pid\nread _ < {told}/hold\necho done > {told}/note\n"
    world = configured(bare, script)
    machine = f"mkfifo {told}/hold\n{BEGIN}" + until(f"[ -s {told}/pid ]")
    machine += "systemctl kill --signal=KILL dbus.service\n" + checked_in()
    machine += f"echo > {told}/hold\n" + until(f"[ -e {told}/note ]")
    machine += "systemctl stop fioagent.service\n"

    output = served(world, tmp_path, machine + TOLD)

    assert "it goes on by itself" in output, output
    assert "ended with status" not in output


BOOT: Final = ("fioagent-recover.service", "fioagent-extract.service")
# As multi-user.target: all of them in one transaction.
ALL: Final = f"[Unit]\nWants=fioagent.service aktualizr-lite.service {' '.join(BOOT)}\n"


def boot_units(world: World) -> dict[str, str]:
    """What starts at boot beside the service, and a target that wants all of it."""
    units = {name: systemd_machine.shipped(world, name) for name in BOOT}
    units["aktualizr-lite.service"] = "[Service]\nExecStart=/bin/sleep infinity\n"
    return {**units, "all.target": ALL}


def test_the_service_waits_for_the_boots_handlers(bare: World, tmp_path: Path) -> None:
    """One that restarts a unit and waits for it, as fioconfig's does, waits for none of ours."""
    told = bare.device.directory / "told"
    script = "systemctl restart aktualizr-lite.service\n"
    script += f"echo restarted > {told}/note\nread _ < {told}/hold\n"
    world = configured(bare, script)
    world.fetch_config()
    machine = f"mkfifo {told}/hold; systemctl start dbus.socket\n"
    machine += "systemctl start --no-block all.target\n" + until(f"[ -e {told}/note ]")
    machine += "show ActiveState; systemctl is-active aktualizr-lite.service\n"
    machine += f"systemctl show --value -p SubState fioagent-extract.service; echo > {told}/hold\n"
    machine += until("systemctl is-active -q fioagent.service")
    machine += "systemctl show --value -p Result fioagent-extract.service\n"
    machine += "systemctl stop fioagent.service\n"

    output = served(world, tmp_path, machine, boot_units(world))

    assert output.split() == ["inactive", "active", "start", "success"]


def test_a_handler_that_waits_for_the_service_does_not_end_the_boot(
    bare: World, tmp_path: Path
) -> None:
    """Each would wait for the other for ever; its limit is what lets the boot go on."""
    told = bare.device.directory / "told"
    script = f"systemctl restart fioagent.service\necho 'never by then' > {told}/note\n"
    world = configured(bare, script, timeout_s=2)
    world.fetch_config()
    machine = "systemctl start dbus.socket all.target; systemctl is-active fioagent.service\n"
    machine += "systemctl show --value -p Result fioagent-extract.service\n"
    machine += f"systemctl stop fioagent.service; ls {told}\n"
    machine += "journalctl -o cat -u fioagent-extract.service | grep -o 'it ran longer than 2 s'\n"

    output = served(world, tmp_path, machine, boot_units(world))

    assert output.splitlines() == ["active", "success", "it ran longer than 2 s"]

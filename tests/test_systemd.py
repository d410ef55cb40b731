"""Restarts by a real systemd: the right units, once, and within the start limit of LmP."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs, systemd_machine
from tests.power import PowerCutError, StopAt, rotate
from tests.world import World

# The limits of aktualizr-lite.service on LmP; only the reboot is left out.
AKTUALIZR = """
[Unit]
StartLimitIntervalSec=541
StartLimitBurst=3
[Service]
ExecStart=/bin/sleep infinity
Restart=always
RestartSec=180
"""
IDLE = "[Service]\nExecStart=/bin/sleep infinity\n"
BROKEN = "[Service]\nExecStart=/bin/false\nRestart=no\n"
UNITS = {"aktualizr-lite.service": AKTUALIZR, "idle.service": IDLE, "broken.service": BROKEN}
PYTHON = shlex.quote(sys.executable)
PID = "systemctl show -p MainPID --value aktualizr-lite.service"


def adapter_says(unit: str, *moments: str) -> str:
    """A shell line that asks the adapter for a restart of ``unit``."""
    program = (
        "from fioagent.clock import SystemClock; from fioagent.systemd import SystemdServices; "
        "from fioagent.ports import Moment; now = SystemClock().moment(); "
        f"print(SystemdServices(SystemClock()).restart('{unit}', {', '.join(moments)}))"
    )
    return f"{PYTHON} -c {shlex.quote(program)}\n"


def test_a_rotation_restarts_what_runs_and_survives_the_start_limit(
    world: World, tmp_path: Path
) -> None:
    """Four rotations within the limit's interval; without reset-failed the third would kill it."""
    settings = Path(world.device.env["FIOAGENT_CONFIG"])
    settings.write_text(
        settings.read_text().replace('manager = "none"', 'manager = "auto"')
        + 'restart = ["aktualizr-lite.service", "idle.service", "absent.service"]\n'
    )
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in world.device.env.items())
    rotate = f"{PYTHON} -m fioagent rotate --now --id certs-%d || exit 1\n"
    top = Path(__file__).resolve().parent.parent
    script = f"cd {top}\nsystemctl start aktualizr-lite.service\n{exports}before=$({PID})\n"
    for number in range(4):
        script += rotate % number
        script += f"sync_pid() {{ {PID}; }}\n"
        script += 'until [ "$(sync_pid)" != "$before" ] && [ "$(sync_pid)" != 0 ]; do :; done\n'
        script += 'before=$(sync_pid); echo "restarted as another process"\n'
    script += "systemctl is-active aktualizr-lite.service idle.service absent.service\n"

    output = systemd_machine.run(tmp_path, UNITS, script, writable=[world.device.directory])

    output = re.sub("\n {10,}", " ", output)
    told = "aktualizr-lite.service: restarted; idle.service: not running, left alone; "
    assert output.count(told + "absent.service: not running, left alone") == 4, output
    assert output.count("restarted as another process") == 4
    assert output.splitlines()[-3:] == ["active", "inactive", "inactive"]
    world.check_nothing_left_behind()


def test_a_unit_that_has_read_the_new_pair_is_left_alone(tmp_path: Path) -> None:
    """Started after the commit, or in another boot: no second start out of the budget."""
    top = Path(__file__).resolve().parent.parent
    script = f"cd {top}\nsystemctl start aktualizr-lite.service\n{PID}\n"
    script += adapter_says("aktualizr-lite.service", "Moment(now.boot_id, 1)")
    script += adapter_says("aktualizr-lite.service", "Moment('another', now.monotonic_us)")
    script += f"{PID}\n"

    first, started, booted, second = systemd_machine.run(
        tmp_path, UNITS, script, writable=[]
    ).splitlines()

    assert started == "not needed, started after the change"
    assert booted == "not needed, started at boot after the change"
    assert first == second


def test_a_unit_that_has_read_a_pair_that_is_put_back_is_restarted(tmp_path: Path) -> None:
    """Started after the commit, in this boot or since; what runs from before has not seen it."""
    top = Path(__file__).resolve().parent.parent
    script = f"cd {top}\nsystemctl start aktualizr-lite.service\n{PID}\n"
    script += adapter_says("aktualizr-lite.service", "now", "now")
    script += f"{PID}\n"
    script += adapter_says("aktualizr-lite.service", "now", "Moment(now.boot_id, 1)")
    script += adapter_says("idle.service", "now", "Moment('another', now.monotonic_us)")
    script += f"until systemctl is-active -q aktualizr-lite.service; do :; done\n{PID}\n"

    first, before, same, restarted, idle, second = systemd_machine.run(
        tmp_path, UNITS, script, writable=[]
    ).splitlines()

    assert (first, before) == (same, "not needed, started before")
    assert restarted == "restarted"
    assert idle == "not running, left alone"
    assert second != first


def test_a_failed_unit_is_started_again(tmp_path: Path) -> None:
    """It may have failed because of the credential: fioconfig's rule."""
    top = Path(__file__).resolve().parent.parent
    script = f"cd {top}\nsystemctl start broken.service\n"
    script += "until systemctl is-failed --quiet broken.service; do :; done\n"
    script += adapter_says("broken.service", "now")

    assert "restarted\n" in systemd_machine.run(tmp_path, UNITS, script, writable=[])


# Notes its signals, as fioup reads its configuration again.
FIOUP = """
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'trap "echo again >> /run/heard" HUP; systemd-notify --ready; \\
  sleep infinity & while :; do wait; done'
"""


def test_fioup_is_told_and_not_restarted(tmp_path: Path) -> None:
    """It reads the credential again at SIGHUP; what is not running is left alone, too."""
    top = Path(__file__).resolve().parent.parent
    pid = "systemctl show -p MainPID --value fioup.service"
    script = f"cd {top}\n{adapter_says('fioup.service', 'now')}"
    script += f"systemctl start fioup.service; before=$({pid})\n"
    script += adapter_says("fioup.service", "now")
    script += f'until [ -e /run/heard ]; do sleep 0.05; done; [ "$({pid})" = "$before" ]; echo $?\n'
    script += "systemctl is-active fioup.service; cat /run/heard\n"

    output = systemd_machine.run(tmp_path, {"fioup.service": FIOUP}, script, writable=[])

    assert output.splitlines() == [
        "not running, left alone",
        "told to read it again",
        "0",
        "active",
        "again",
    ]


RECOVER = Path(__file__).parent.parent / "packaging" / "systemd" / "fioagent-recover.service"
# Whoever reads the files, and what it finds in them.
READER = """
[Service]
Type=oneshot
ExecStart=/bin/sh -c "grep tls_pkey_path {sota} > {seen}"
"""


def test_recovery_comes_before_whoever_reads_the_files(world: World, tmp_path: Path) -> None:
    """Both are asked for in one transaction, the reader first; the unit orders them."""
    with pytest.raises(PowerCutError):
        rotate(world, StopAt("after replace", 5), "certs-1")
    seen = world.device.directory / "seen"
    reader = READER.format(sota=world.sota_toml, seen=seen)
    units = {
        "fioagent-recover.service": systemd_machine.shipped(world, RECOVER.name),
        "aktualizr-lite.service": reader,
        "all.target": "[Unit]\nWants=aktualizr-lite.service fioagent-recover.service\n",
    }
    script = "systemctl start all.target\n"
    script += "systemctl show -p Result -p ConditionResult fioagent-recover.service\n"

    output = systemd_machine.run(tmp_path, units, script, writable=[world.device.directory])

    assert output.split() == ["Result=success", "ConditionResult=yes"], output
    assert "pkey.certs-1.pem" in seen.read_text()
    assert world.fioagent("status", "--json").lines[0]["rotation"]["phase"] == "committed"
    assert world.rotate().code == 0


def test_a_usual_boot_does_not_start_the_recovery(world: World, tmp_path: Path) -> None:
    """No rotation is open, so not even Python is started."""
    world.rotate("--id", "certs-1")
    script = "systemctl start fioagent-recover.service\n"
    script += "systemctl show -p ConditionResult fioagent-recover.service\n"
    units = {"fioagent-recover.service": systemd_machine.shipped(world, RECOVER.name)}

    output = systemd_machine.run(tmp_path, units, script, writable=[world.device.directory])

    assert output.split() == ["ConditionResult=no"]


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """Every word of it: systemd ignores what it does not know."""
    needs.root_and("systemd-analyze")
    unit = tmp_path / RECOVER.name
    unit.write_text(RECOVER.read_text().replace("/usr/bin/fioagent", "/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")

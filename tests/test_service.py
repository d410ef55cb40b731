"""The service under a real systemd, by the units that are shipped, in their sandbox.

What differs from a device: where storage.path and Python are, which the sandbox
would hide, and the program that the units start.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from fioagent import log
from tests import needs, power, systemd_machine
from tests.fioconfig import Fioconfig
from tests.power import PowerCutError, StopAt
from tests.slow_line import held_line, slow_line
from tests.token_world import TokenWorld
from tests.world import World

TOP: Final = Path(__file__).resolve().parent.parent
SHIPPED: Final = TOP / "packaging" / "systemd"
UNITS: Final = sorted(
    path.name for path in SHIPPED.iterdir() if path.suffix in (".service", ".path")
)
SERVICES: Final = [name for name in UNITS if name.endswith(".service")]
PYTHON: Final = shlex.quote(sys.executable)
# A check-in that answers what the file beside it says; an operator who wants certs-1.
PROGRAM: Final = """#!/bin/sh
cd {top} || exit 1
if [ "$1" = check-in ]; then cat {directory}/check-in; exit; fi
if [ "$1" = rotate ]; then shift; set -- rotate --now --id certs-1 "$@"; fi
export PATH="{directory}/bin:$PATH"
exec {python} -m fioagent "$@"
"""
WANTED: Final = '{"result": "unchanged", "rotation": {"wanted": true, "next_at": null}}\n'
UNCHANGED: Final = '{"result": "unchanged", "rotation": {"wanted": false, "next_at": null}}\n'
# A reload checks in at once.
BEGIN: Final = "systemctl start fioagent.service; systemctl reload fioagent.service\n"


def daemon(world: World | TokenWorld, check_in: str) -> str:
    """The service unit with a check-in of the test's own; all else is the real thing."""
    directory = world.device.directory
    (directory / "check-in").write_text(check_in)
    program = directory / "program"
    program.write_text(PROGRAM.format(top=TOP, directory=directory, python=PYTHON))
    program.chmod(0o755)
    resident = TOP / "fioagent" / "resident.py"
    command = f"{sys.executable} -I -S {resident} 60 60 {program}"
    return systemd_machine.shipped(world, "fioagent.service", command)


def booted(world: World | TokenWorld, scratch: Path, units: dict[str, str], script: str) -> str:
    """What ``script`` prints in a machine with these units."""
    prepare = f"cd {TOP}\nshow() {{ systemctl show --value -p $1 fioagent.service; }}\n"
    writable = [world.device.directory]
    if isinstance(world, TokenWorld):
        writable.append(world.token.directory)
    return systemd_machine.run(scratch, units, prepare + script, writable=writable)


def later(world: World, delay_s: float) -> contextlib.ExitStack:
    """Gateway and EST server answer late, so that phases can be seen; until closed."""
    stack = contextlib.ExitStack()
    for url in (world.urls.gateway, world.urls.est):
        port = port_of(url)
        lead(world, port, stack.enter_context(slow_line(port, delay_s)))
    return stack


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def lead(world: World, port: int, instead: int) -> None:
    """What the device reaches by ``port`` it reaches by the other from now on."""
    for path in (world.sota_toml, Path(world.device.env["FIOAGENT_CONFIG"])):
        path.write_text(path.read_text().replace(f":{port}", f":{instead}"))


def held_systemctl(world: World) -> Path:
    """The worker's own waits for this file; so that what comes before the restarts can be seen."""
    settings = Path(world.device.env["FIOAGENT_CONFIG"])
    text = settings.read_text()
    assert 'manager = "none"' in text
    settings.write_text(text.replace('manager = "none"', 'manager = "systemd"'))
    release = world.device.directory / "release"
    program = world.device.directory / "bin" / "systemctl"
    program.parent.mkdir()
    wait = f"until [ -e {release} ]; do sleep 0.05; done"
    program.write_text(f'#!/bin/sh\n{wait}\nexec /usr/bin/systemctl "$@"\n')
    program.chmod(0o755)
    return release


def until(condition: str) -> str:
    # The pause leaves the processors to what is waited for.
    return f"until {condition}; do sleep 0.05; done\n"


@pytest.mark.parametrize("name", UNITS)
def test_units_are_taken_word_for_word(tmp_path: Path, name: str) -> None:
    """systemd ignores what it does not know."""  # noqa: D403  # its name
    needs.root_and("systemd-analyze")
    for each in UNITS:
        text = (SHIPPED / each).read_text().replace("/usr/bin/fioagent", "/bin/true")
        (tmp_path / each).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_units_are_well_confined(name: str) -> None:
    """2.0 of 10 at most; fioconfig's are at 9.6."""
    needs.root_and("systemd-analyze")
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"),
            str(SHIPPED / name),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", UNITS)
def test_units_open_with_a_note_to_the_administrator(name: str) -> None:
    """What it is for, and how to turn it off."""
    note = (SHIPPED / name).read_text().partition("[Unit]")[0].splitlines()

    assert len(note) >= 2
    assert all(line.startswith("#") for line in note)


def test_the_directories_are_there_before_the_sandbox_needs_them(tmp_path: Path) -> None:
    """By systemd-tmpfiles, with the modes of LmP: keys are nobody else's."""
    needs.root_and("systemd-tmpfiles")
    command = ["systemd-tmpfiles", "--create", f"--root={tmp_path}"]

    subprocess.run([*command, str(SHIPPED / "fioagent.tmpfiles")], timeout=60, check=True)

    places = ("var/sota", "etc/sota", "etc/sota/conf.d", "run/secrets")
    modes = {place: stat.S_IMODE((tmp_path / place).stat().st_mode) for place in places}
    assert list(modes.values()) == [0o700, 0o755, 0o700, 0o750]


def test_variables_of_both_default_files_reach_the_service(world: World, tmp_path: Path) -> None:
    """fioconfig's still counts; ours before it."""  # noqa: D403  # its name
    unit = systemd_machine.shipped(world, "fioagent.service")
    told = "journalctl -o cat -t fioagent | grep -o 'every.*'"
    script = "mkdir -p /etc/default\n"
    for number, (name, seconds) in enumerate((("fioconfig", 777), ("fioagent", 888)), start=1):
        script += f"echo DAEMON_INTERVAL={seconds} > /etc/default/{name}\n{BEGIN}"
        script += until(f'[ "$({told} | wc -l)" = {number} ]') + "systemctl stop fioagent.service\n"
    script += told + "\n"

    output = booted(world, tmp_path, {"fioagent.service": unit}, script)

    assert output.splitlines() == ["every 777 s", "every 888 s"]


def test_the_service_starts_reloads_and_stops(world: World, tmp_path: Path) -> None:
    """``systemctl start`` returns when it is ready, ``restart`` with another that is."""
    script = "systemctl start fioagent.service; echo started $?\nshow StatusText\n"
    script += "systemctl reload fioagent.service; echo reloaded $?\n"
    script += until('[ "$(show StatusText | cut -d" " -f5-)" = "check-in: unchanged" ]')
    script += "first=$(show MainPID); systemctl restart fioagent.service; echo restarted $?\n"
    script += '[ "$(show MainPID)" != "$first" ] && ! kill -0 $first 2>/dev/null; echo another $?\n'
    script += "show ActiveState; systemctl stop fioagent.service; echo stopped $?\n"
    script += "show Result; show NRestarts; show ActiveState\n"
    script += "journalctl -o cat -t fioagent\n"

    output = booted(
        world, tmp_path, {"fioagent.service": daemon(world, UNCHANGED)}, script
    ).splitlines()

    assert output[0] == "started 0"
    assert re.fullmatch(r"waits until [0-9:]{8} UTC; check: the configuration .*", output[1])
    assert output[2:5] == ["reloaded 0", "restarted 0", "another 0"]
    assert output[5:9] == ["active", "stopped 0", "success", "0"]
    assert output[9:] == [
        "inactive",
        "started",
        "configuration read again; check-in every 300 s",
        "stopped",
        "started",
        "stopped",
    ]


def test_a_service_that_hangs_is_started_again(world: World, tmp_path: Path) -> None:
    """systemd waits for signs of life; what the service had started ends with it."""  # noqa: D403
    text = daemon(world, UNCHANGED).replace("WatchdogSec=15min", "WatchdogSec=2")
    text = text.replace("RestartSec=10", "RestartSec=0")
    script = "systemctl start fioagent.service\nfirst=$(show MainPID)\nkill -STOP $first\n"
    script += until('[ "$(show NRestarts)" = 1 ] && [ "$(show ActiveState)" = active ]')
    script += '[ "$(show MainPID)" != "$first" ] && echo another process\n'
    script += "kill -0 $first 2>/dev/null || echo the first is gone\n"

    output = booted(world, tmp_path, {"fioagent.service": text}, script)

    assert output.splitlines() == ["another process", "the first is gone"]


def test_a_rotation_in_the_sandbox_and_its_history_in_the_journal(
    world: World, tmp_path: Path
) -> None:
    """What it writes is within reach, what others own is not; the fields find it again."""
    unit = daemon(world, WANTED)
    script = BEGIN + until('case "$(show StatusText)" in *"rotate: rotated"*) ;; *) false;; esac')
    script += "systemctl stop fioagent.service\n"
    script += "id=$(journalctl -o cat --output-fields=FIOAGENT_ROTATION_ID FIOAGENT_PHASE=begun)\n"
    script += "journalctl -o json FIOAGENT_ROTATION_ID=$id\n"

    output = booted(world, tmp_path, {"fioagent.service": unit}, script)

    entries = [json.loads(line) for line in output.splitlines()]
    *phases, end = entries
    assert [entry["FIOAGENT_PHASE"] for entry in phases][:3] == [
        "begun",
        "key-generated",
        "cert-issued",
    ]
    assert {entry["MESSAGE_ID"] for entry in phases} == {log.PHASE}
    assert (end["MESSAGE_ID"], end["FIOAGENT_OUTCOME"], end["PRIORITY"]) == (
        log.ENDED,
        "completed",
        "5",
    )
    assert all(entry["_SYSTEMD_UNIT"] == "fioagent.service" for entry in entries)
    assert not any("PRIVATE" in line or "hunter2" in line for line in output.splitlines())
    world.check_nothing_left_behind()
    world.check_reachable()


def test_lines_of_one_message_stay_one_entry_of_the_journal(world: World, tmp_path: Path) -> None:
    """What a server or a handler said is never taken for a field of ours."""
    code = "import os; from fioagent import log; "
    code += r"log.Log(os.environ).say('0' * 32, 4, 'one\nPRIORITY=0', {'REASON': 'two\nlines'})"
    unit = f"[Service]\nType=oneshot\nWorkingDirectory={TOP}\n"
    (world.device.directory / "say").write_text(code)
    unit += f"ExecStart={PYTHON} {world.device.directory}/say\n"
    script = "systemctl start says.service; journalctl --sync\n"
    script += "journalctl -o json SYSLOG_IDENTIFIER=fioagent\n"

    output = booted(world, tmp_path, {"says.service": unit}, script)

    (entry,) = map(json.loads, output.splitlines())
    found = entry["MESSAGE"], entry["PRIORITY"], entry["FIOAGENT_REASON"]
    assert found == ("one\nPRIORITY=0", "4", "two\nlines")


# What commits goes on to its confirmation and perhaps beyond, so that is the last one of its
# line (COMMITTED: below). RETIRED lasts for one write, too short to be seen.
@pytest.mark.parametrize(
    "phases",
    [
        ("begun",),
        ("locked",),
        ("key-generated", "cert-issued", "config-staged"),
        ("device-config-updated",),
        ("confirmed",),
        ("services-restarted",),
    ],
    ids="+".join,
)
def test_stop_in_the_middle_of_a_rotation(
    world: World, tmp_path: Path, phases: tuple[str, ...]
) -> None:
    """Clean each time, the device reachable, and the next start goes on to the end."""
    unit = daemon(world, WANTED)
    release = held_systemctl(world)
    if "confirmed" not in phases:
        release.touch()
    if "locked" in phases:  # what comes next is work, no wait
        config = world.storage / "config.encrypted"
        entries = json.loads(config.read_bytes())
        much = {f"value-{number}": entries["app-secret"] for number in range(2000)}
        config.write_text(json.dumps({**entries, **much}))
    script = ""
    for phase in phases:
        script += BEGIN + until(f'[ "$(show StatusText)" = "rotate: {phase}" ]')
        script += f"systemctl stop fioagent.service; show Result; touch {release}\n"
        script += f"{PYTHON} -m fioagent status >/dev/null; echo status $?\n"
    script += BEGIN + until('case "$(show StatusText)" in *"rotate: rotated"*) ;; *) false;; esac')
    script += "systemctl stop fioagent.service; show Result\n"
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in world.device.env.items())

    with later(world, 0.4):
        output = booted(world, tmp_path, {"fioagent.service": unit}, exports + script)

    assert output.split() == ["success", "status", "0"] * len(phases) + ["success"]
    world.check_nothing_left_behind()
    assert [name for name, _ in world.event_names()].count("CertRotationCompleted") == 1


def test_stop_in_the_middle_of_a_way_back(world: World, tmp_path: Path) -> None:
    """It goes on to its end, as a commit does: the old pair works, and is alone."""
    world.pause_before_the_commit("certs-1")
    world.make_the_gateway_forget_the_new_key()
    unit = daemon(world, WANTED)
    script = BEGIN + until('[ "$(show StatusText)" = "rotate: reverting" ]')
    script += "systemctl stop fioagent.service; show Result\n"

    with later(world, 0.4):
        output = booted(world, tmp_path, {"fioagent.service": unit}, script)

    assert output == "success\n"
    world.check_old_pair_is_live()
    assert world.fioagent("recover").code == 0  # what a later stop would have left to it
    world.check_nothing_left_behind()
    assert world.opened_config() == world.opened_device_config()


def test_a_stop_that_commits_takes_the_time_that_it_needs(world: World, tmp_path: Path) -> None:
    """More than the unit gives to a stop: systemd is asked for it, and grants it."""
    # What comes back is held on the connection that proves the new pair: the one after that of
    # the old pair and the bare handshake.
    release, port = world.device.directory / "release", port_of(world.urls.gateway)
    unit = daemon(world, WANTED).replace("TimeoutStopSec=30", "TimeoutStopSec=1")
    script = BEGIN + until('[ "$(show StatusText)" = "rotate: committed" ]')
    script += "systemctl stop --no-block fioagent.service\n"
    script += until('[ "$(show StatusText)" = "stops: rotate: committed" ]')
    script += f"sleep 3  # the limit passes\nshow ActiveState; touch {release}\n"
    script += until('[ "$(show ActiveState)" != deactivating ]') + "show Result\n"

    with held_line(port, 3, release) as held:
        lead(world, port, held)
        output = booted(world, tmp_path, {"fioagent.service": unit}, script)
        lead(world, held, port)

    assert output.split() == ["deactivating", "success"]
    assert world.certificate().public_key() == world.key().public_key()
    assert world.rotate().code == 0
    world.check_nothing_left_behind()


def test_a_service_that_hangs_in_a_commit_goes_on_afterwards(world: World, tmp_path: Path) -> None:
    """The watchdog's way is the hard one: the worker is killed while the gateway answers it."""
    unit = daemon(world, WANTED).replace("WatchdogSec=15min", "WatchdogSec=2")
    unit = unit.replace("RestartSec=10", "RestartSec=0")
    script = BEGIN + until('[ "$(show StatusText)" = "rotate: committed" ]')
    script += "kill -STOP $(show MainPID)\n"
    script += until('[ "$(show NRestarts)" = 1 ] && [ "$(show ActiveState)" = active ]')
    script += "systemctl reload fioagent.service\n"
    script += until('case "$(show StatusText)" in *"rotate: rotated"*) ;; *) false;; esac')
    script += "systemctl stop fioagent.service; show Result\n"
    port = port_of(world.urls.gateway)

    # Held for good; those who come after the third are served.
    with held_line(port, 3, release := tmp_path / "release") as held:
        lead(world, port, held)
        output = booted(world, tmp_path, {"fioagent.service": unit}, script)
        lead(world, held, port)
        release.touch()  # or its thread would wait

    assert output == "success\n"
    world.check_nothing_left_behind()
    assert [name for name, _ in world.event_names()].count("CertRotationCompleted") == 1


def test_a_fioconfig_that_runs_is_seen_from_within_the_sandbox(
    world: World, tmp_path: Path
) -> None:
    """As root with all capabilities, which the sandbox has not; else both would rotate one key."""
    program = "from fioagent import systemd; print(systemd.is_running('fioconfig'))"
    command = f'{sys.executable} -c "{program}"'
    unit = systemd_machine.shipped(world, "fioagent-recover.service", command)
    unit = re.sub("ConditionPathExists=.*", "", unit)
    script = "cp /bin/sleep /run/fioconfig; /run/fioconfig 600 &\n"
    script += "systemctl start fioagent-recover.service\n"
    script += "journalctl -o cat -u fioagent-recover.service _TRANSPORT=stdout\n"

    output = booted(world, tmp_path, {"fioagent-recover.service": unit}, script)

    assert output.split() == ["True"]


def test_the_path_unit_starts_the_service_once_the_device_is_registered(
    world: World, tmp_path: Path
) -> None:
    """As fioconfig.path: it comes back when it is stopped, until the path unit is."""
    units = {
        "fioagent.service": daemon(world, UNCHANGED),
        "fioagent.path": systemd_machine.shipped(world, "fioagent.path"),
    }
    active = "systemctl is-active -q fioagent.service"
    script = f"mv {world.sota_toml} {world.sota_toml}.later\nsystemctl start fioagent.path\n"
    script += f"systemctl start fioagent.service; {active} || echo not yet\n"
    script += f"mv {world.sota_toml}.later {world.sota_toml}\n"
    script += until(active) + "echo registered\n"
    script += "first=$(show InvocationID)\nsystemctl stop fioagent.service 2>/dev/null\n"
    script += until(f'{active} && [ "$(show InvocationID)" != "$first" ]') + "echo back\n"
    script += f"systemctl stop fioagent.path fioagent.service; {active} || echo down\n"

    output = booted(world, tmp_path, units, script)

    assert output.splitlines() == ["not yet", "registered", "back", "down"]


# Says who runs, and asks for what would wait for ever if the order were another.
EXTRACT: Final = """#!/bin/sh
grep tls_pkey_path {sota} >> {seen}
echo extract >> {seen}
systemctl restart aktualizr-lite.service && echo restarted >> {seen}
"""


def test_the_boot_recovers_then_extracts_then_starts_the_service(
    world: World, tmp_path: Path
) -> None:
    """One transaction; a handler that restarts a unit and waits for it, as fioconfig's does."""
    with pytest.raises(PowerCutError):
        power.rotate(world, StopAt("after replace", 5), "certs-1")
    seen, extract = world.device.directory / "seen", world.device.directory / "extract"
    extract.write_text(EXTRACT.format(sota=world.sota_toml, seen=seen))
    extract.chmod(0o755)
    service = daemon(world, UNCHANGED)
    program = world.device.directory / "program"
    program.write_text(program.read_text().replace("#!/bin/sh", f"#!/bin/sh\necho $1 >> {seen}"))
    # The stand-in is no handler: it writes where one that runs outside of the sandbox would.
    unit = systemd_machine.shipped(world, "fioagent-extract.service", str(extract))
    unit += f"[Service]\nReadWritePaths={world.device.directory}\n"
    service += f"[Service]\nReadWritePaths={world.device.directory}\n"
    units = {
        "fioagent-recover.service": systemd_machine.shipped(world, "fioagent-recover.service"),
        "fioagent-extract.service": unit,
        "fioagent.service": service,
        "aktualizr-lite.service": "[Service]\nExecStart=/bin/sleep infinity\n",
    }
    names = "fioagent.service fioagent-extract.service fioagent-recover.service"
    # As multi-user.target: all of them in one transaction.
    units["all.target"] = f"[Unit]\nWants={names}\n"
    script = "systemctl start all.target; echo $?\n"
    script += f"systemctl show --value -p Result {names}; systemctl stop fioagent.service\n"

    output = booted(world, tmp_path, units, script)

    assert output.split() == ["0", "success", "success", "success"], output
    pair, *order = seen.read_text().splitlines()
    assert "pkey.certs-1.pem" in pair  # recovered before it was read
    assert order[:3] == ["extract", "restarted", "daemon"]


# Locked, with all of its own to be done; and with nothing but the files to be switched over.
@pytest.mark.parametrize("steps", [2, 4])
def test_a_rotation_that_fioconfig_left_is_finished_by_the_service(
    world: World, tmp_path: Path, steps: int
) -> None:
    """The upgrade: its units run, its state is half-done, its path unit would bring it back."""
    Fioconfig(world, "certs-1").run(steps)
    # fioconfig's own units (meta-lmp), with a program that does nothing.
    fioconfig = "[Service]\nExecStart=/run/fioconfig 600\nRestart=always\nRestartSec=10\n"
    path = f"[Path]\nPathExists={world.sota_toml}\n"
    units = {
        "fioconfig.service": fioconfig,
        "fioconfig.path": path,
        "fioagent.service": daemon(world, WANTED),
        "fioagent.path": systemd_machine.shipped(world, "fioagent.path"),
    }
    script = "cp /bin/sleep /run/fioconfig; systemctl start fioconfig.path\n"
    script += until("systemctl is-active -q fioconfig.service")
    script += "systemctl enable --runtime --now --quiet fioagent.service fioagent.path\n"
    script += "systemctl reload fioagent.service\n"
    script += until('case "$(show StatusText)" in *"rotate: rotated"*) ;; *) false;; esac')
    script += "systemctl is-active fioconfig.path fioconfig.service fioagent.service\n"
    script += "systemctl stop fioagent.path fioagent.service\n"

    output = booted(world, tmp_path, units, script)

    assert output.split() == ["inactive", "inactive", "active"], output
    world.check_nothing_left_behind()
    world.check_reachable()


def test_the_operators_file_arrives_by_the_service(world: World, tmp_path: Path) -> None:
    """All of it as shipped: check-in, extraction and storing, within the sandbox."""
    world.factory.set_config(world.uuid, {"added": b"by the operator"})
    unit = systemd_machine.shipped(world, "fioagent.service")
    script = BEGIN
    script += until(
        'case "$(show StatusText)" in *"check-in: configuration st"*) ;; *) false;; esac'
    )
    script += "systemctl stop fioagent.service; show Result\njournalctl -o cat -u fioagent\n"

    output = booted(world, tmp_path, {"fioagent.service": unit}, script)

    assert output.startswith("success\n")
    assert Path(world.device.env["SECRETS_DIR"], "added").read_bytes() == b"by the operator"
    assert b"by the operator" == world.opened_config()["added"]
    assert "by the operator" not in output
    assert "hunter2" not in output


def test_the_operators_word_becomes_a_new_certificate(world: World, tmp_path: Path) -> None:
    """fio-rotate-certs is all that is given: check-in, trigger, rotation, proof."""
    trigger = f"ESTSERVER={world.urls.est}\nROTATIONID=certs-7\n".encode()
    world.factory.set_config(world.uuid, {"fio-rotate-certs": trigger}, plain=True)
    script = BEGIN + until('case "$(show StatusText)" in *"rotate: rotated"*) ;; *) false;; esac')
    script += "systemctl stop fioagent.service; show Result\n"

    output = booted(
        world,
        tmp_path,
        {"fioagent.service": systemd_machine.shipped(world, "fioagent.service")},
        script,
    )

    assert output == "success\n"
    world.check_nothing_left_behind()
    assert ("CertRotationCompleted", True) in world.event_names()


def test_a_key_in_a_token_is_rotated_in_the_sandbox(
    token_world: TokenWorld, tmp_path: Path
) -> None:
    """OpenSSL calls back into Python, where no memory may be written and run; no core is kept."""
    world = token_world
    unit = daemon(world, WANTED).replace("/var/lib/softhsm", str(world.token.directory))
    environ = "".join(f"Environment={name}={value}\n" for name, value in world.token.env.items())
    script = BEGIN + until('case "$(show StatusText)" in *"rotate: rotated"*) ;; *) false;; esac')
    script += "systemctl stop fioagent.service\nshow LimitCORE\n"

    output = booted(
        world, tmp_path, {"fioagent.service": unit.replace("User=root\n", environ)}, script
    )

    assert output.splitlines()[-1] == "0"
    assert world.live_ids() == ("07", "09")
    assert len(world.token.objects()) == 3

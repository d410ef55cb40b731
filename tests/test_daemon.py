"""The resident service as systemd sees it: real processes, and this test on the notify socket.

The workers are small programs of the test's own that answer as the command line
does; ``test_service.py`` has the real ones, under a real systemd.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from fioagent import cli
from tests.processes import has_ended

TOP: Final = Path(__file__).resolve().parent.parent
LONG: Final = 3600.0
UNCHANGED: Final = '{"result": "unchanged", "rotation": {"wanted": false, "next_at": null}}'
WANTED: Final = '{"result": "unchanged", "rotation": {"wanted": true, "next_at": null}}'
# What each duty does is a shell script of its own, named for it.
WORKER: Final = """#!/bin/sh
echo "$@" >> {place}/calls
case $1 in daemon) duty=check;; *) duty=$1;; esac
if [ -e {place}/$duty ]; then . {place}/$duty; fi
"""


class Service:
    """The service with stand-in workers; what it tells systemd arrives here."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.worker = place / "worker"
        self.worker.write_text(WORKER.format(place=place))
        self.worker.chmod(0o755)
        self.does("check-in", f"echo '{UNCHANGED}'")
        self.does("rotate", 'echo \'{"event": "end", "result": "completed"}\'')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(place / "notify"))
        self.socket.settimeout(30)
        self.process: subprocess.Popen[str] | None = None

    def does(self, duty: str, script: str) -> None:
        """From the next start of it on."""
        (self.place / duty).write_text(script + "\n")

    def start(
        self,
        interval_s: float = LONG,
        *,
        check_in_limit_s: float = LONG,
        rotate_limit_s: float = LONG,
        watchdog_s: float | None = None,
        program: str | None = None,
    ) -> None:
        environ = {**os.environ, "NOTIFY_SOCKET": str(self.place / "notify")}
        if watchdog_s is not None:
            environ["WATCHDOG_USEC"] = str(int(watchdog_s * 1_000_000))
        seconds = [str(check_in_limit_s), str(rotate_limit_s)]
        if not (self.place / "check").exists():
            answer = json.dumps({"result": "ready", "interval_s": interval_s})
            self.does("check", f"echo '{answer}'")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(TOP / "fioagent" / "resident.py")),
                *(*seconds, program or str(self.worker)),
            ],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        """The next thing that it tells systemd."""
        return self.socket.recv(4096).decode()

    def until(self, text: str) -> list[str]:
        """What it tells systemd, up to what has ``text`` in it."""
        heard = [self.said()]
        while text not in heard[-1]:
            heard.append(self.said())
        return heard

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> str:
        """By SIGTERM; what it had to say on standard error."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> str:
        assert self.process is not None
        _, told = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, told
        return told

    def calls(self) -> list[str]:
        path = self.place / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.socket.close()
    process = made.process
    if process is not None and process.poll() is None:  # a failed test
        process.terminate()  # it ends its worker, which else would stay
        process.communicate(timeout=30)


def cpu_s(service: Service) -> float:
    """What it has used of a processor."""
    assert service.process is not None
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def phases(*names: str, event: str = "phase") -> str:
    """A worker's script that tells of phases."""
    lines = [json.dumps({"event": event, "phase": name}) for name in names]
    return "\n".join(f"echo '{line}'" for line in lines)


# --- the round of duties ---


def test_it_is_ready_once_the_configuration_was_looked_at(service: Service) -> None:
    """Whoever waits for the unit gets its word after that, and not before."""
    service.start()

    assert service.said().startswith("READY=1\nSTATUS=waits until ")
    assert service.calls() == ["daemon --check --json"]
    service.stop()


def test_it_is_ready_although_the_configuration_cannot_be_used(service: Service) -> None:
    """A service that fails is started again for ever; this one says what is wrong, and stays."""
    service.does("check", """echo '{"event": "end", "message": "cannot use X"}'; exit 78""")
    service.start()

    assert service.said().endswith("check: cannot use X")
    service.signal(signal.SIGHUP)
    service.until("STATUS=check-in")
    service.stop()


def test_it_checks_in_again_and_again(service: Service) -> None:
    """At its interval; nothing else is started while no rotation is wanted."""
    service.start(0.1)
    for _ in range(4):
        service.until("STATUS=check-in")
    service.stop()

    assert set(service.calls()[1:]) == {"check-in --json"}


def test_it_rotates_when_a_check_in_says_so(service: Service) -> None:
    """Right away, and once."""
    service.does("check-in", f"echo '{WANTED}'")
    service.does("rotate", phases("begun", "locked"))
    service.start(LONG)
    service.until("READY=1")
    service.signal(signal.SIGHUP)

    heard = service.until("rotate: done")
    service.stop()

    assert "STATUS=rotate" in heard
    assert service.calls()[2:] == ["check-in --json", "rotate --json"]


def test_it_rotates_when_the_time_has_come_that_a_check_in_told(service: Service) -> None:
    """A rotation that waits for a server goes on between two check-ins."""
    past = '{"rotation": {"wanted": false, "next_at": "2026-11-21T10:00:00+00:00"}}'
    service.does("check-in", f"echo '{past}'")
    service.start()
    service.until("READY=1")
    service.signal(signal.SIGHUP)
    service.until("STATUS=rotate")
    service.until("rotate: completed")
    service.stop()


def test_it_says_which_phase_a_rotation_has_reached(service: Service) -> None:
    """For ``systemctl status``."""
    service.does("check-in", f"echo '{WANTED}'")
    service.does("rotate", phases("begun", "locked") + f"\nread _ < {service.place}/hold")
    os.mkfifo(service.place / "hold")
    service.start(0.1)

    service.until("STATUS=rotate: locked")

    told = service.stop()
    assert "fioagent: rotate: begun\nfioagent: rotate: locked\n" in told


def test_by_hand_the_end_of_a_rotation_is_told(service: Service) -> None:
    """Who has started the service on a terminal sees more than phases that stop coming."""
    end = json.dumps({"event": "end", "result": "completed", "message": "rotated to serial 5"})
    service.does("check-in", f"echo '{WANTED}'")
    service.does("rotate", f"{phases('completed')}\necho '{end}'")
    service.start(0.1)
    service.until("rotate: rotated to serial 5")

    told = service.stop()
    assert "fioagent: rotate: completed\nfioagent: rotate: rotated to serial 5\n" in told
    assert "check-in" not in told


def test_what_is_no_json_is_passed_over(service: Service) -> None:
    """A library may print; that is no reason to crash."""
    noise = 'echo hello; echo "{"; echo "{]"; head -c 200000 /dev/zero; echo; printf "\\377\\n"'
    service.does("check-in", f"{noise}\necho '{WANTED}'")
    service.start(0.1)

    service.until("STATUS=rotate")
    service.stop()


def test_an_interval_that_the_kernel_cannot_wait_for_at_once(service: Service) -> None:
    """poll(2) takes 24 days."""
    service.start(1e9)
    service.until("READY=1")
    service.signal(signal.SIGHUP)
    service.until("check-in: unchanged")
    service.stop()


@pytest.mark.parametrize("interval", ["abc", "0", "", "-1", "5m "])
def test_an_interval_that_is_none_starts_no_service(
    interval: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would stay, and every worker of it would fail."""
    assert cli.main(["daemon", f"--interval={interval}"], {}) == 78

    assert f"cannot use --interval {interval!r}" in capsys.readouterr().err


def test_a_flood_of_words_stays_out_of_memory(service: Service) -> None:
    """It is what the service has too little of, and what a library says is no duty's answer."""
    flood = "yes | tr -d '\\n' | head -c 40000000"
    service.does("check-in", f"{flood}\necho\necho '{WANTED}'")
    service.start(0.1)
    service.until("STATUS=rotate")

    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    peak_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    service.stop()
    assert int(peak_kb) < 20_000


# --- workers that go wrong ---


def test_a_worker_that_crashes_is_told_and_tried_again(service: Service) -> None:
    """Of a token's module, say."""
    service.does("check-in", "kill -SEGV $$")
    service.start(0.1)
    service.until("check-in crashed: signal 11")
    service.does("check-in", f"echo '{UNCHANGED}'")
    service.until("check-in: unchanged")

    assert "fioagent: check-in crashed: signal 11\n" in service.stop()


def test_a_worker_that_hangs_is_ended_with_all_that_it_started(service: Service) -> None:
    """Even where nothing is listened to that can be ignored."""
    place = service.place
    service.does("check-in", f"trap '' TERM ALRM; sleep 600 & echo $! > {place}/child; wait; wait")
    service.start(0.1, check_in_limit_s=0.3)

    service.until("check-in was ended: it took too long")

    child = int((place / "child").read_text())
    assert has_ended(child)
    assert "check-in was ended" in service.stop()


# Tells a phase once it can be sent a signal, and which one it was.
SIGNALLED: Final = """
import signal, sys
both = signal.SIGTERM, signal.SIGALRM
signal.pthread_sigmask(signal.SIG_BLOCK, both)
print(sys.argv[1], flush=True)
open(sys.argv[2], "w").write(signal.sigwait(both).name)
"""


@pytest.mark.parametrize(("why", "got"), [("hung", "SIGALRM"), ("stopped", "SIGTERM")])
def test_a_worker_can_tell_a_stop_from_its_limit(service: Service, why: str, got: str) -> None:
    """A rotation that hangs counts as one that died, a stop does not."""
    program, told = service.place / "program.py", service.place / "got"
    program.write_text(SIGNALLED)
    begun = json.dumps({"event": "phase", "phase": "begun"})
    service.does("check-in", f"echo '{WANTED}'")
    service.does("rotate", f"exec {sys.executable} {program} '{begun}' {told}")
    service.start(0.1, rotate_limit_s=10 if why == "hung" else LONG)
    service.until("STATUS=rotate: begun")
    if why == "hung":
        service.until("rotate was ended: it took too long")
    service.stop()

    assert told.read_text() == got


def test_a_worker_that_cannot_start_is_told_and_tried_again(service: Service) -> None:
    """An update of the package, or a full process table."""
    service.start(program=str(service.place / "absent"))
    service.until("READY=1")
    for _ in range(2):
        service.signal(signal.SIGHUP)
        service.until("cannot start check-in: no such file or directory")
    (service.place / "absent").symlink_to(service.worker)
    service.signal(signal.SIGHUP)
    service.until("check-in: unchanged")
    service.stop()


# --- what systemd asks ---


def test_signs_of_life_come_while_a_worker_runs(service: Service) -> None:
    """The watchdog asks whether the service is alive, not whether a server is slow."""
    os.mkfifo(service.place / "hold")
    service.does("check-in", f"read _ < {service.place}/hold")
    service.start(0.1, watchdog_s=0.4)
    service.until("STATUS=check-in")

    for _ in range(5):
        assert service.said() == "WATCHDOG=1"
    service.stop()


def test_a_worker_that_says_no_more_costs_nothing(service: Service) -> None:
    """Its output is at its end, and it is not: that must not be looked at in a circle."""
    os.mkfifo(service.place / "hold")
    service.does("check-in", f"exec >&-; read _ < {service.place}/hold")
    service.start(0.1, watchdog_s=0.4)
    service.until("STATUS=check-in")
    before = cpu_s(service)
    for _ in range(10):
        assert service.said() == "WATCHDOG=1"

    assert cpu_s(service) - before < 0.05  # in two seconds or more
    service.stop()


def test_workers_do_not_speak_for_the_service(service: Service) -> None:
    """The variables of systemd are not handed on."""
    service.does("check-in", f"env > {service.place}/env")
    service.start(0.1, watchdog_s=60)
    service.until("check-in: done")
    service.stop()

    names = {line.partition("=")[0] for line in (service.place / "env").read_text().splitlines()}
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}


def test_reload_looks_at_the_configuration_and_checks_in(service: Service) -> None:
    """And says when it begins and when it is done, by the clock that systemd compares."""
    service.start()
    service.until("READY=1")
    before_us = time.monotonic_ns() // 1000
    service.signal(signal.SIGHUP)

    heard = service.until("check-in: unchanged")

    reloading = next(text for text in heard if text.startswith("RELOADING=1"))
    said_us = int(reloading.partition("\nMONOTONIC_USEC=")[2])
    assert before_us <= said_us <= time.monotonic_ns() // 1000
    assert any(text.startswith("READY=1") for text in heard)
    assert service.calls() == ["daemon --check --json"] * 2 + ["check-in --json"]
    service.stop()


def test_stop_while_nothing_runs(service: Service) -> None:
    """At once."""
    service.start()
    service.until("READY=1")

    told = service.stop()

    assert service.said().startswith("STOPPING=1")
    assert told.splitlines()[-1] == "fioagent: stopped"


def test_stop_ends_a_worker(service: Service) -> None:
    """Whatever it does can be done another time."""
    os.mkfifo(service.place / "hold")
    place = service.place
    service.does("check-in", f"echo $$ > {place}/pid\n{phases('begun')}\nread _ < {place}/hold")
    service.start(0.1)
    service.until("STATUS=check-in: begun")
    service.stop()

    assert has_ended(int((service.place / "pid").read_text()))


@pytest.mark.parametrize("event", ["phase", "resumed"])
@pytest.mark.parametrize("phase", ["device-config-updated", "committed", "reverting"])
def test_stop_lets_a_commit_finish(service: Service, phase: str, event: str) -> None:
    """More time is asked for; with the next phase the worker is ended."""
    place = service.place
    os.mkfifo(place / "hold")
    os.mkfifo(place / "never")
    service.does("check-in", f"echo '{WANTED}'")
    rest = f"read _ < {place}/hold\n{phases('confirmed')}\nread _ < {place}/never; touch {place}/on"
    service.does("rotate", f"{phases(phase, event=event)}\n{rest}")
    service.start(0.1)
    service.until(f"STATUS=rotate: {phase}")
    service.signal(signal.SIGTERM)

    assert service.said() == f"STOPPING=1\nSTATUS=stops: rotate: {phase}"
    assert service.said().startswith("EXTEND_TIMEOUT_USEC=")
    assert service.process is not None
    assert service.process.poll() is None
    (place / "hold").write_text("go on\n")
    service.ended()
    assert not (place / "on").exists()

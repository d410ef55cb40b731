"""Restarts by ``systemctl``, so that no program goes on with a credential that is denied.

By the rules of LmP (docs/adr/0005): ``reset-failed`` first, because the
fourth start of aktualizr-lite within 541 s reboots the device; a unit that is
not running is left alone; and one that started after the commit has read the
new credential already. fioup gets a SIGHUP instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import Final

from fioagent.errors import TemporaryError
from fioagent.ports import Clock, Moment

_TIMEOUT_S: Final = 90.0
_SCRIPT_HEAD: Final = 4096  # bytes; a console script is shorter
# Reads sota.toml at its start, and again at SIGHUP: foundriesio/fioup cmd/fioup/daemon.go.
_READS_AGAIN: Final = frozenset(("fioup.service",))
_PROPERTIES: Final = "LoadState,ActiveState,SubState,ExecMainStartTimestampMonotonic"


def runs_this_machine() -> bool:
    """Whether systemd is the init, as sd_booted(3) decides it."""
    return os.path.isdir("/run/systemd/system")


def is_installed(program: str) -> bool:
    """By PATH; a link of that name to ourselves is none, nor is our own script of that name."""
    found = shutil.which(program)
    if found is None or os.path.basename(os.path.realpath(found)) == "fioagent":
        return False
    with contextlib.suppress(OSError), open(found, "rb") as file:
        head = file.read(_SCRIPT_HEAD)
        return not (head.startswith(b"#!") and b"fioagent" in head)
    return True


def is_running(program: str) -> bool:
    """By the names of the kernel's process table (proc(5), /proc/PID/comm).

    A script has the name of its file there, but its interpreter is what runs: that
    is ourselves under the name of ``fioconfig``, which is a compiled program.
    """
    for process in filter(str.isdigit, os.listdir("/proc")):
        # A process may be gone between the two looks.
        with contextlib.suppress(OSError), open(f"/proc/{process}/comm", "rb") as file:
            if file.read().rstrip(b"\n") != program.encode():
                continue
            if not _is_python(process) and not _is_in_a_container(process):
                return True
    return False


def _is_in_a_container(process: str) -> bool:
    """One that counts processes by itself; a fioconfig in it has nothing to do with this device."""
    try:
        return os.readlink(f"/proc/{process}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except OSError:  # as below
        return False


def _is_python(process: str) -> bool:
    try:
        runs = os.readlink(f"/proc/{process}/exe")
    except OSError:  # a sandbox may not look at those with more rights; better a false alarm
        return False
    return os.path.basename(runs).startswith("python")


class SystemdServices:
    """``ports.Services`` where systemd is the init."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def restart(self, unit: str, changed: Moment, since: Moment | None = None) -> str:
        state = self._state(unit)
        # fioconfig internal/state.go: inactive or dead units stay as they are,
        # failed ones and those waiting for their automatic restart do not.
        if state.get("ActiveState") == "inactive" or state.get("SubState") == "dead":
            return "not running, left alone"
        now = self._clock.moment()
        started = int(state.get("ExecMainStartTimestampMonotonic") or 0)
        if _is_another_boot(changed, now):
            return "not needed, started at boot after the change"
        if started > changed.monotonic_us:
            return "not needed, started after the change"
        if since is not None and not _is_another_boot(since, now) and started <= since.monotonic_us:
            return "not needed, started before"
        if unit in _READS_AGAIN and state.get("ActiveState") == "active":
            # --kill-who: systemd 252 calls it --kill-whom, and takes both.
            self._run("kill", "--kill-who=main", "--signal=SIGHUP", unit)
            return "told to read it again"
        self._run("reset-failed", unit)
        # --no-block: the unit may be ordered after the one that we run in.
        self._run("restart", "--no-block", unit)
        return "restarted"

    def is_installed(self, program: str) -> bool:
        return is_installed(program)

    def is_running(self, program: str) -> bool:
        return is_running(program)

    def _state(self, unit: str) -> dict[str, str]:
        text = self._run("show", f"--property={_PROPERTIES}", "--", unit)
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ("systemctl", *arguments),
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
        except FileNotFoundError as error:
            raise TemporaryError(
                "cannot restart services: no systemctl on this machine",
                hint='set services.manager = "none" and restart them by other means',
            ) from error
        except subprocess.TimeoutExpired as error:
            raise TemporaryError(
                f"cannot restart services: systemctl {arguments[0]} hangs"
            ) from error
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.split())
            raise TemporaryError(
                f"cannot restart services: systemctl {' '.join(arguments)}: {said}"
            ) from error
        return done.stdout


def _is_another_boot(then: Moment, now: Moment) -> bool:
    return bool(then.boot_id and now.boot_id) and then.boot_id != now.boot_id


class NoServices:
    """``ports.Services`` where nothing can be restarted: said, not faked."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def restart(self, unit: str, changed: Moment, since: Moment | None = None) -> str:
        del unit, changed, since
        return f"skipped, {self._reason}"

    def is_installed(self, program: str) -> bool:
        return is_installed(program)

    def is_running(self, program: str) -> bool:
        return is_running(program)

"""What the resident service costs while it waits, and what a start of it costs.

Measured on this machine and this Python, with check-ins that do nothing: the
service is what is measured, not its workers.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

_TOP: Final = Path(__file__).resolve().parent.parent.parent
_WORKER: Final = """#!/bin/sh
case $1 in
daemon) echo '{{"event": "end", "result": "ready", "interval_s": {interval_s}}}';;
check-in) echo '{{"result": "unchanged", "rotation": {{"wanted": false, "next_at": null}}}}';;
esac
"""
_HOUR_S: Final = 3600.0
_INTERVAL_S: Final = 300.0
_FIOCONFIG_KB: Final = (12_500, 1_900, 6_800)  # RSS; private after 1 and after 60 check-ins


class Resident:
    """The service with this test in the place of systemd."""

    def __init__(self, place: Path, interval_s: float, watchdog_s: float) -> None:
        worker = place / "worker"
        worker.write_text(_WORKER.format(interval_s=interval_s))
        worker.chmod(0o755)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(place / "notify"))
        self._socket.settimeout(60)
        usec = str(int(watchdog_s * 1_000_000))
        begun = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(_TOP / "fioagent" / "resident.py")),
                *("60", "60", str(worker)),
            ],
            env={**os.environ, "NOTIFY_SOCKET": str(place / "notify"), "WATCHDOG_USEC": usec},
            stderr=subprocess.DEVNULL,
        )
        self.until("READY=1", 1)
        self.start_ms = (time.monotonic() - begun) * 1000

    def until(self, text: str, times: int) -> None:
        while times:
            times -= text in self._socket.recv(4096).decode()

    def memory_kb(self) -> tuple[int, int, int]:
        """RSS, private dirty, private altogether."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        found = {name: int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
        return found["Rss"], found["Private_Dirty"], found["Private_Dirty"] + found["Private_Clean"]

    def wake_ups(self) -> int:
        """Times that it has waited of its own accord; each ends with a wake-up."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def cpu_ms(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1000

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._socket.close()


def measure(check_ins: int, idle_s: float) -> list[tuple[str, str]]:
    """Rows of the table."""
    starts = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as scratch:
            resident = Resident(Path(scratch), _HOUR_S, _HOUR_S)
            resident.close()
            starts.append(resident.start_ms)
    with tempfile.TemporaryDirectory() as scratch:
        resident = Resident(Path(scratch), 0.001, _HOUR_S)
        resident.until("check-in: unchanged", 1)
        first, wakes, cpu_ms = resident.memory_kb(), resident.wake_ups(), resident.cpu_ms()
        resident.until("check-in: unchanged", check_ins)
        last = resident.memory_kb()
        per_check_in = (resident.wake_ups() - wakes) / check_ins
        cpu_per_check_in = (resident.cpu_ms() - cpu_ms) / check_ins
        resident.close()
    with tempfile.TemporaryDirectory() as scratch:
        # An interval of an hour and the watchdog of the unit: what is left is waiting.
        resident = Resident(Path(scratch), 1e9, 900)
        time.sleep(1.0)  # until it waits
        before = resident.wake_ups()
        time.sleep(idle_s)
        idle = (resident.wake_ups() - before) * _HOUR_S / idle_s
        resident.close()
    an_hour = idle + per_check_in * _HOUR_S / _INTERVAL_S
    rss, one, many = _FIOCONFIG_KB
    return [
        ("Python", sys.version.split()[0]),
        ("RSS after 1 check-in", f"{first[0]} kB (fioconfig {rss})"),
        (f"RSS after {check_ins} more", f"{last[0]} kB"),
        ("private dirty after 1 check-in", f"{first[1]} kB (fioconfig {one})"),
        (f"private dirty after {check_ins} more", f"{last[1]} kB (fioconfig {many} after 60)"),
        ("private, clean pages too", f"{last[2]} kB"),
        ("wake-ups per hour while nothing is due", f"{idle:.0f}"),
        ("wake-ups per check-in", f"{per_check_in:.1f}"),
        ("wake-ups per hour at 300 s", f"{an_hour:.0f}"),
        ("CPU of the service per check-in", f"{cpu_per_check_in:.2f} ms"),
        ("start to READY, without the worker's time", f"{min(starts):.0f} ms (best of 5)"),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check-ins", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=10.0, metavar="SECONDS")
    given = parser.parse_args(arguments or [])
    for name, value in measure(given.check_ins, given.idle):
        print(f"{name:<44} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What the lab factory bears: many devices that check in and rotate at once.

``fioagent-factory serve`` runs as a process of its own, and all devices are on the same
machine: simulated ones, each with a key, a certificate and the requests of a rotation
(``tests/factory/simulated.py``), and a few real agents among them. They share the processors
with the factory, so the figures are those of a lab on one machine, not of the factory alone.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from fioagent.factory import Factory
from tests.factory.peers import Credential
from tests.factory.serving import running, serve_command
from tests.factory.simulated import SimulatedDevice

FLEETS: Final = (10, 100, 1000)
AGENTS: Final = 3
STACK: Final = 512 * 1024  # bytes; a thousand threads with the usual eight megabytes are many


@dataclass(frozen=True, slots=True)
class Load:
    """What a fleet met.

    Attributes:
        errors: what went wrong, with how often.
        wall_s: from the first request to the last answer, real agents included.
        latencies_s: of each answered request, in order of size.
        cpu_s: processor time of the factory's process.
        peak_kb: the most memory that it has had.
    """

    errors: Counter[str]
    wall_s: float
    latencies_s: list[float]
    cpu_s: float
    peak_kb: int


# --- the factory, seen from outside ---


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_kb(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise AssertionError("Linux tells it")
    return int(found[1])


# --- the devices ---


def at_once(jobs: Sequence[Callable[[], None]]) -> Counter[str]:
    """Each in a thread of its own, all let go together. What went wrong, with how often."""
    errors: Counter[str] = Counter()
    lock = threading.Lock()
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        barrier.wait()
        try:
            job()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is counted
            with lock:
                errors[f"{type(error).__name__}: {error}"] += 1

    stack = threading.stack_size(STACK)
    try:
        threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
    finally:
        threading.stack_size(stack)
    for thread in threads:
        thread.join()
    return errors


def simulated(factory: Factory, place: Path, count: int) -> list[SimulatedDevice]:
    place.mkdir()
    made = []
    for number in range(count):
        uuid = f"{place.name}-{number}"
        credential = Credential.issue(factory, place / uuid, uuid)
        made.append(SimulatedDevice(factory.urls(), factory.paths.root, credential))
    return made


def _life(device: SimulatedDevice) -> None:
    device.check_in()
    device.give_config(**{"app-secret": "c2VjcmV0" * 20, "certs/ca-bundle.pem": "Y2VydA==" * 30})
    device.rotate("certs-1")


def _agent(factory: Factory, place: Path) -> Callable[[], None]:
    """A rotation by the real agent, as its service would start it."""
    device = factory.add_device(place)
    factory.set_config(device.uuid, {"app-secret": b"secret" * 20})

    def rotate() -> None:
        command = [sys.executable, "-m", "fioagent", "rotate", "--now"]
        subprocess.run(
            command, env={**os.environ, **device.env}, check=True, capture_output=True, text=True
        )

    return rotate


def load(factory: Factory, pid: int, place: Path, count: int, agents: int) -> Load:
    """``count`` simulated devices and the real agents, at once."""
    devices = simulated(factory, place, count)
    jobs: list[Callable[[], None]] = [partial(_life, device) for device in devices]
    jobs += [_agent(factory, place / f"agent-{number}") for number in range(agents)]
    used_s, begun = cpu_s(pid), time.monotonic()
    errors = at_once(jobs)
    wall_s = time.monotonic() - begun
    latencies = sorted(seen.seconds for device in devices for seen in device.seen)
    return Load(errors, wall_s, latencies, cpu_s(pid) - used_s, peak_kb(pid))


# --- the table ---


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[*FLEETS])
    parser.add_argument("--agents", type=int, default=AGENTS, help="real ones among them")
    given = parser.parse_args(arguments or [])
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, {given.agents} agents too"
    )
    print(f"{'devices':>7} {'errors':>6} {'wall s':>7} {'req/s':>6}", end="")
    print(f"{'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'max ms':>8} {'CPU s':>6} {'peak MB':>8}")
    for count in given.devices:
        with tempfile.TemporaryDirectory() as scratch:
            factory = Factory.create(Path(scratch) / "lab")
            with running(serve_command(factory.paths.directory)) as process:
                found = load(factory, process.pid, Path(scratch) / "device", count, given.agents)
        _print(count, found)
        if found.errors:
            raise SystemExit(1)


def _print(count: int, found: Load) -> None:
    for error, times in found.errors.most_common(5):
        print(f"{count:7} devices: {times} times {error}", flush=True)
    if len(found.latencies_s) < 2:
        return
    parts = statistics.quantiles(found.latencies_s, n=100)
    shown = [parts[49], parts[94], parts[98], found.latencies_s[-1]]
    rate = len(found.latencies_s) / found.wall_s
    print(f"{count:7} {found.errors.total():6} {found.wall_s:7.1f} {rate:6.0f}", end="")
    print("".join(f" {seconds * 1000:8.0f}" for seconds in shown), end="")
    print(f" {found.cpu_s:6.1f} {found.peak_kb / 1024:8.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What one check-in costs: bytes in both directions, handshakes, requests, processor time.

Against the real factory over loopback, by the command that the service starts. Between
the two is a line that counts what passes: TLS with its handshake, but not what TCP adds.
Keys are P-256, and each side sends one certificate.

A server offers a ticket, for taking the session up again, to whoever could use one. Go's
client says that it cannot, and so fioconfig gets none; OpenSSL's has no way to say so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fioagent.factory import Factory
from tests.world import World

FIOCONFIG_BYTES: Final = 2417  # of a check-in that is answered 304, over one handshake
TICKET: Final = 735  # bytes: that of the factory holds the client's certificate, as Go's does
_CHUNK: Final = 65536


@dataclass
class Line:
    """A port on loopback that leads to the gateway.

    Attributes:
        port: where it begins.
        out: bytes from the device.
        back: bytes to it.
    """

    port: int
    out: int = 0
    back: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *, out: int = 0, back: int = 0) -> None:
        with self._lock:
            self.out += out
            self.back += back


@contextlib.contextmanager
def counting(port: int) -> Iterator[Line]:
    """A line to ``port`` that counts; all of it has passed once the device has ended."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line = Line(int(listening.getsockname()[1]))
        accepting = threading.Thread(target=_accept, args=(listening, port, line), daemon=True)
        accepting.start()
        yield line
        listening.shutdown(socket.SHUT_RDWR)  # ends the accept
        accepting.join()


def _accept(listening: socket.socket, port: int, line: Line) -> None:
    while True:
        try:
            near, _ = listening.accept()
        except OSError:
            return
        _connection(near, port, line)  # a check-in has one connection at a time


def _connection(near: socket.socket, port: int, line: Line) -> None:
    with near, socket.create_connection(("localhost", port)) as far:
        back = threading.Thread(target=_carry, args=(far, near, line, "back"), daemon=True)
        back.start()
        _carry(near, far, line, "out")
        back.join()


def _carry(source: socket.socket, sink: socket.socket, line: Line, way: str) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            line.count(**{way: len(data)})
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one check-in.

    Attributes:
        out: bytes from the device.
        back: bytes to it.
        handshakes: those that the gateway has completed.
        requests: those that it has seen.
        cpu_s: processor time of the command, with the start of Python.
        result: what the command told.
    """

    out: int
    back: int
    handshakes: int
    requests: int
    cpu_s: float
    result: str

    @property
    def total(self) -> int:
        return self.out + self.back


class CheckIns:
    """Check-ins of one device whose gateway is at the end of a line that counts."""

    def __init__(self, world: World) -> None:
        self._world = world

    def cost(self) -> Cost:
        """One check-in, by the command that the service starts."""
        world = self._world
        world.factory.clear_requests()
        port = urlsplit(world.urls.gateway).port
        if port is None:
            raise AssertionError(world.urls.gateway)
        text = world.sota_toml.read_text()
        with counting(port) as line:
            world.sota_toml.write_text(text.replace(f":{port}", f":{line.port}"))
            said, cpu_s = _timed(world, "check-in")
        world.sota_toml.write_text(text)
        requests = len(world.factory.requests("gateway"))
        handshakes = sum(world.factory.handshakes("gateway"))
        return Cost(line.out, line.back, handshakes, requests, cpu_s, said)


def _timed(world: World, *command: str) -> tuple[str, float]:
    """What ``fioagent COMMAND`` printed, and its processor time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fioagent", *command],
        env={**os.environ, **world.device.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if process.stdout is None:
        raise AssertionError("its output is a pipe")
    with process.stdout as output:
        said = output.read().strip()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AssertionError(f"{command[0]} ended with {process.returncode}")
    return said, used.ru_utime + used.ru_stime


@contextlib.contextmanager
def devices(place: Path) -> Iterator[World]:
    """A configured device of a new factory, that has checked in once."""
    factory = Factory.create(place / "lab")
    with factory.serving() as urls:
        world = World(factory, urls, place / "device")
        world.give_config()
        _timed(world, "check-in")
        yield world


def measure(times: int) -> list[tuple[str, str]]:
    """Rows of the table."""
    with tempfile.TemporaryDirectory() as scratch, devices(Path(scratch)) as world:
        check_ins = CheckIns(world)
        unchanged = [check_ins.cost() for _ in range(times)]
        world.factory.set_config(world.uuid, {"app-secret": b"x" * 100})
        changed = check_ins.cost()
        _, bare_s = _timed(world, "version")
    worst = max(unchanged, key=lambda cost: cost.total)
    return [
        ("Python", sys.version.split()[0]),
        ("answered 304: bytes", f"{worst.total} (fioconfig {FIOCONFIG_BYTES})"),
        ("  without the session ticket", f"{worst.total - TICKET}"),
        ("  from the device, to it", f"{worst.out}, {worst.back}"),
        ("  handshakes, requests", f"{worst.handshakes} (fioconfig 1), {worst.requests}"),
        ("  CPU, median", f"{statistics.median(c.cpu_s for c in unchanged) * 1000:.0f} ms"),
        ("a file has changed: bytes", f"{changed.total}"),
        ("  from the device, to it", f"{changed.out}, {changed.back}"),
        ("  handshakes, requests", f"{changed.handshakes}, {changed.requests}"),
        ("  CPU", f"{changed.cpu_s * 1000:.0f} ms"),
        ("CPU of the command line alone ('version')", f"{bare_s * 1000:.0f} ms"),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    given = parser.parse_args(arguments or [])
    for name, value in measure(given.times):
        print(f"{name:<44} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])

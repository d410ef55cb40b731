"""Programs of others: run with a time limit, ended with all that they have started.

Where the agent runs in the sandbox of its unit, a handler must not: handlers are
the customer's scripts, and write where they like. systemd starts them then as
units of their own (systemd-run), with full rights.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Final

from fioagent import systemd
from fioagent.errors import AgentError, ConfigError, NotBegunError, TemporaryError, one_line

MAX_LINES: Final = 500  # of output; the rest is counted
_MAX_LINE: Final = 500  # characters
_MAX_PENDING: Final = 64 * 1024  # bytes without a line end
_GRACE_S: Final = 5.0  # between the request to end and the end
_BUS: Final = "/run/dbus/system_bus_socket"
# Beyond the unit's own limit, for systemd to end it.
_SYSTEMD_S: Final = 30.0


class DirectPrograms:
    """``config.ports.Programs`` as child processes, each with a process group of its own."""

    def run(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        limit_s: float | None,
        say: Callable[[str], None],
        keep: Callable[[bytes], None] | None = None,
    ) -> int:
        with _ended_by_exception():
            return self._run(command, environ, limit_s, say, keep)

    def _run(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        limit_s: float | None,
        say: Callable[[str], None],
        keep: Callable[[bytes], None] | None,
    ) -> int:
        try:
            process = subprocess.Popen(
                command,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"cannot start {command[0]}: {why.lower()}") from error
        pipe = process.stdout
        if pipe is None:
            raise AssertionError("its output is a pipe")
        ended = False
        try:
            ended = _followed(process, _Output(pipe, say, keep), limit_s)
        finally:
            if not ended:  # at its limit, or because we are interrupted
                _end_group(process)
            pipe.close()
        if not ended:
            raise TemporaryError(f"cannot wait for {command[0]}: it ran longer than {limit_s:g} s")
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


class SystemdPrograms:
    """``config.ports.Programs`` as transient units, outside of the sandbox that we run in."""

    def __init__(self) -> None:
        self._direct = DirectPrograms()
        self._count = 0

    def run(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        limit_s: float | None,
        say: Callable[[str], None],
        keep: Callable[[bytes], None] | None = None,
    ) -> int:
        self._count += 1
        unit = f"fioagent-handler-{os.getpid()}-{self._count}.service"
        heard = _Heard(unit, say)
        starter = ["systemd-run", *_options(unit, command[0], environ, limit_s)]
        try:
            status = self._direct.run(
                [*starter, "--", *_announced(unit, command)],
                {},
                limit_s=limit_s,
                say=heard,
                keep=keep,
            )
        except TemporaryError as error:
            self._end(unit)
            raise TemporaryError(
                f"cannot wait for {command[0]}: it ran longer than {limit_s:g} s"
            ) from error
        except BaseException:  # we are told to end, and it with us
            self._end(unit)
            raise
        if not heard.begun:
            raise NotBegunError(f"cannot start {command[0]} outside of the sandbox: {heard.last}")
        # A bus that goes away takes systemd-run with it, which ends as if all were well.
        if self._systemctl("is-active", "--quiet", unit) == 0:
            raise TemporaryError(
                f"cannot wait for {command[0]}: the way to systemd is lost; it goes on by itself"
            )
        return status

    def _end(self, unit: str) -> None:
        """All of its processes."""
        for asked in (["kill", "--signal=SIGKILL", unit], ["stop", "--no-block", unit]):
            with contextlib.suppress(AgentError):  # gone by itself meanwhile
                self._systemctl(*asked)

    def _systemctl(self, *arguments: str) -> int:
        """As root it needs no bus."""
        command = ["systemctl", *arguments]
        return self._direct.run(command, {}, limit_s=_SYSTEMD_S, say=lambda _: None)


def _options(
    unit: str, program: str, environ: Mapping[str, str], limit_s: float | None
) -> Sequence[str]:
    """Of systemd-run."""
    options = [f"--unit={unit}", "--wait", "--pipe", "--collect", "--quiet"]
    options += [f"--description=fioagent: {program}"]
    # process: what it leaves running in the background is meant to.
    options += ["--property=Type=exec", "--property=KillMode=process"]
    if limit_s is not None:  # should we be gone by then
        options += [f"--property=RuntimeMaxSec={limit_s + _SYSTEMD_S:g}"]
    return [*options, *(f"--setenv={name}={value}" for name, value in environ.items())]


def _announced(word: str, command: Sequence[str]) -> list[str]:
    """``command`` in its process, which says ``word`` first: then it has begun.

    systemd-run ends with 1 for a program that does, and for a bus that it does not find.
    """
    whole = ["/bin/sh", "-c", f'echo {word}; exec "$0" "$@"', *command]
    # systemd takes "$NAME" for a variable, and "$$" for a "$".
    return [argument.replace("$", "$$") for argument in whole]


class _Heard:
    """What is said, but for the word that it has begun.

    Attributes:
        begun: that word has come.
        last: the latest line; before it has begun, systemd-run's own.
    """

    def __init__(self, word: str, say: Callable[[str], None]) -> None:
        self._word = word
        self._say = say
        self.begun = False
        self.last = "systemd-run does not say why"

    def __call__(self, line: str) -> None:
        if line == self._word and not self.begun:
            self.begun = True
            return
        self.last = line
        if self.begun:
            self._say(line)


@contextlib.contextmanager
def _ended_by_exception() -> Iterator[None]:
    """A stop (SIGTERM) or our limit (SIGALRM) is an exception meanwhile.

    What we have started has to end with us.
    """

    def told_to_end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once: ending takes a moment
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    numbers = (signal.SIGTERM, signal.SIGALRM)
    before = [signal.signal(number, told_to_end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def is_sandboxed() -> bool:
    """Whether this process may gain no privileges, as a unit with NoNewPrivileges=yes."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        return any(line.split() == ["NoNewPrivs:", "1"] for line in file)
    return False


def chosen(how: str) -> DirectPrograms | SystemdPrograms:
    """By the setting handlers.run: "direct", "systemd-run", or "auto", what is needed."""
    if how == "auto":
        # systemd-run reaches systemd over the system's bus only, if it has to wait for the end.
        needed = is_sandboxed() and systemd.runs_this_machine() and os.path.exists(_BUS)
        return SystemdPrograms() if needed else DirectPrograms()
    return SystemdPrograms() if how == "systemd-run" else DirectPrograms()


def _followed(process: subprocess.Popen[bytes], output: _Output, limit_s: float | None) -> bool:
    """Whether it ended by itself in time; its output is told as it comes.

    The end is that of the process, not of its output: what it has left running
    in the background may hold that open for ever.
    """
    deadline = None if limit_s is None else time.monotonic() + limit_s
    watched = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(watched, selectors.EVENT_READ)
            selector.register(output.descriptor, selectors.EVENT_READ)
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                ready = {key.fd for key, _ in selector.select(left)}
                if output.descriptor in ready and not output.take():
                    selector.unregister(output.descriptor)
                if watched in ready:
                    output.drain()
                    process.wait()
                    return True
    finally:
        output.finish()
        os.close(watched)


class _Output:
    """Lines out of a pipe, without ever waiting for it."""

    def __init__(
        self, pipe: IO[bytes], say: Callable[[str], None], keep: Callable[[bytes], None] | None
    ) -> None:
        self.descriptor = pipe.fileno()
        os.set_blocking(self.descriptor, False)
        self._say = say
        self._keep = keep
        self._pending = b""
        self._lines = 0

    def drain(self) -> None:
        """What a process that has ended has left in the pipe, which holds so much at most.

        What it has left running may go on to write for ever.
        """
        left = fcntl.fcntl(self.descriptor, fcntl.F_GETPIPE_SZ)
        while left > 0 and (taken := self.take()):
            left -= taken

    def take(self) -> int:
        """How many bytes there were; 0 at the end, or where there is nothing now."""
        try:
            chunk = os.read(self.descriptor, 16 * 1024)
        except BlockingIOError:
            return 0
        if self._keep is not None:
            self._keep(chunk)
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            self._tell(line)
        if len(self._pending) > _MAX_PENDING:
            self._tell(self._pending)
            self._pending = b""
        return len(chunk)

    def finish(self) -> None:
        if self._pending:
            self._tell(self._pending)
        if self._lines > MAX_LINES:
            self._say(f"({self._lines - MAX_LINES} more lines)")

    def _tell(self, line: bytes) -> None:
        self._lines += 1
        if self._lines <= MAX_LINES:
            self._say(one_line(line.decode("utf-8", "replace"), _MAX_LINE))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Asked, then made to end, with whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

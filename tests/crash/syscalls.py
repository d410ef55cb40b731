"""System calls of a real process: which there are, and one of them killed or refused.

strace below the process does both, so nothing of the agent is patched. A kill
lands at the entry of a call: it has not happened. What a kill leaves behind is
made by calls that change something, so killing at each of those leaves every
state that a kill at a reading call, or between two calls, can leave.

Calls are counted per name and path (strace -P), not over the whole process:
what the interpreter reads at its start does not matter. The files of SoftHSM have
other names in each run, so there it does: calls are counted per name alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Command = tuple[str, ...]  # of fioagent's command line
TOP: Final = Path(__file__).resolve().parent.parent.parent
KILL: Final = "signal=KILL"
TIMEOUT_S: Final = 60
# Not every machine has every name: strace passes over those with a question mark.
CHANGING: Final = frozenset(
    # Every name on a line of its own would be a page.
    (
        *("open", "openat", "creat", "write", "pwrite64", "writev", "fsync", "fdatasync"),
        *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
        *("symlink", "symlinkat", "link", "linkat", "chmod", "fchmod", "fchmodat", "chown"),
        *("fchown", "fchownat", "utimensat", "truncate", "ftruncate", "fallocate", "flock"),
    )
)
READING: Final = frozenset(
    (
        *("open", "openat", "read", "pread64", "readlink", "readlinkat", "getdents64", "statfs"),
        *("access", "faccessat2", "stat", "lstat", "newfstatat", "statx"),
    )
)
_OPENING: Final = ("open", "openat", "creat")
_FOR_WRITING: Final = re.compile(r"O_(CREAT|TRUNC|WRONLY|RDWR)")
_LINKING: Final = ("symlink", "symlinkat", "link", "linkat")
_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*?)(?:\) += |<unfinished|$)")
_PATH: Final = re.compile(r'"(/[^"]*)"|\d+<(/[^>]*)>')
# SoftHSM writes the token's own record anew with each login, over the old one: a kill
# there loses the token, whoever logs in. docs/reliability.md says so.
_OF_NO_ROTATION: Final = "token.object"
_STRACE: Final = ("strace", "-f", "--quiet=attach,path-resolution")
# A store that makes its names by chance has one of these in each.
_BY_CHANCE: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class InjectionError(Exception):
    """strace did not do what was asked of it; says nothing of the agent."""


class TokenLostError(InjectionError):
    """It was done to the record of the token itself: by name alone calls are not told apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """One call of a run.

    Attributes:
        call: its name.
        path: below the device's directory; empty for a name that is made by chance.
        nth: among the calls of this name with this path, or of this name; 1 is the first.
        changes: whether it may change something on the disk.
    """

    call: str
    path: str
    nth: int
    changes: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a point: KILL, or "error=EIO" for example."""

    point: Point
    what: str

    def __str__(self) -> str:
        """As strace wants it, with the path below the device's directory."""
        path = f"-P {self.point.path} " if self.point.path else ""
        return f"{path}-e inject={self._injection}"

    @property
    def _injection(self) -> str:
        return f"{self.point.call}:{self.what}:when={self.point.nth}"

    def options(self, directory: Path) -> list[str]:
        """For strace. It ignores signals with --seccomp-bpf, and is faster with it."""
        quick = [] if self.what == KILL else ["--seccomp-bpf"]
        path = ["-P", str(directory / self.point.path)] if self.point.path else ["-y", "-s", "0"]
        calls = ["-e", f"trace={self.point.call}", "-e", f"inject={self._injection}"]
        return [*quick, *path, *calls]

    def require_done(self, code: int, log: str) -> None:
        """Raises InjectionError: it did not happen, or at another call."""
        calls = list(_calls(log))
        if not self.point.path and any(
            _OF_NO_ROTATION in arguments for _, arguments in calls[self.point.nth - 1 :][:1]
        ):
            raise TokenLostError(f"{self} befell {_OF_NO_ROTATION}")
        seen = [call for call, _ in calls]
        before = [self.point.call] * self.point.nth
        if self.what == KILL:
            done = code == -9 and seen == before and "+++ killed by SIGKILL +++" in log
        else:
            done = seen[: self.point.nth] == before and log.count("(INJECTED)") == 1
        if not done:
            raise InjectionError(f"it did not happen: exit {code}, {log[-300:]!r}")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a process printed and how it ended; ``code`` is -9 where it was killed."""

    code: int
    out: str
    err: str


def run(command: Command, environ: Mapping[str, str], before: Sequence[str] = ()) -> Ran:
    """``python -m fioagent`` in a process of its own; ``before`` is what starts it.

    Raises:
        subprocess.TimeoutExpired: it hangs.
    """
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ours = {"PYTHONPATH": str(TOP), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*before, sys.executable, "-m", "fioagent", *command],
        env={**inherited, **ours, **environ},
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def recorded(
    command: Command, environ: Mapping[str, str], directory: Path, log: Path
) -> tuple[Ran, list[Point]]:
    """A run that nothing disturbs, and its calls below ``directory`` in order."""
    names = ",".join(f"?{name}" for name in sorted(CHANGING | READING))
    options = ["--seccomp-bpf", "-y", "-s", "0", "-e", "signal=none", "-e", f"trace={names}"]
    ran = run(command, environ, [*_STRACE, "-o", str(log), *options])
    return ran, list(points(log.read_text(), directory))


def points(log: str, directory: Path) -> Iterator[Point]:
    """The calls below ``directory`` in a log of ``strace -f -y -s 0``."""
    counts: Counter[tuple[str, str]] = Counter()
    every: Counter[str] = Counter()
    for call, arguments in _calls(log):
        every[call] += 1
        named = [first or second for first, second in _PATH.findall(arguments)]
        # Of two paths strace -P looks at one: where a rename begins, and where a link is made.
        if not named or not named[own := -1 if call in _LINKING else 0].startswith(f"{directory}/"):
            continue
        path = os.path.relpath(named[own], directory)
        if os.path.basename(path) == _OF_NO_ROTATION:
            continue
        if _BY_CHANCE.search(path):
            yield Point(call, "", every[call], _changes(call, arguments))
            continue
        counts[call, path] += 1
        yield Point(call, path, counts[call, path], _changes(call, arguments))


def _calls(log: str) -> Iterator[tuple[str, str]]:
    """Names and arguments, of the process itself.

    A thread looks names of hosts up. Nothing is killed there, and strace counts the calls of
    each thread by themselves.
    """
    own = None
    for line in log.splitlines():
        if (found := _CALL.match(line)) is not None:
            thread, call, arguments = found.groups()
            own = own or thread
            if thread == own:
                yield call, arguments


def _changes(call: str, arguments: str) -> bool:
    if call in _OPENING:
        return call == "creat" or _FOR_WRITING.search(arguments) is not None
    return call in CHANGING


def disturbed(
    fault: Fault, command: Command, environ: Mapping[str, str], directory: Path, log: Path
) -> Ran:
    """A run with ``fault``.

    Raises:
        InjectionError: the fault did not happen.
    """
    options = fault.options(directory)
    ran = run(command, environ, [*_STRACE, "-o", str(log), *options])
    fault.require_done(ran.code, log.read_text())
    return ran

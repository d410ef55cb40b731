"""One short-lived process that does one duty of the service, in a group of its own.

It answers with lines of JSON on its standard output; its standard error is
ours. What it leaves in memory, and what a token's module does to it, ends with it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal without enum: 0.8 MB less
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

_PIPE: Final = 1024 * 1024  # bytes; pipe(7): 16 pages, of 64 KiB at most
_CHUNK: Final = 4096
_LONGEST_LINE: Final = 64 * 1024  # bytes; our own lines have a few hundred


class Worker:
    """A process from its start to its end.

    Attributes:
        output: descriptor that is readable when it has said something.
        is_mute: it has closed that, and says nothing any more.
    """

    def __init__(self, command: list[str], environ: Mapping[str, str]) -> None:
        """Raises OSError: it cannot be started."""
        self.output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(theirs, True)
            self.pid = os.posix_spawnp(
                command[0],
                command,
                environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs, 1),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=[_signal.SIGPIPE],
            )
        except OSError:
            os.close(self.output)
            raise
        finally:
            os.close(theirs)
        self._unread = b""
        self.is_mute = False

    def lines(self) -> list[bytes]:
        """What it has said since, in whole lines: of a flood, what a pipe holds."""
        for _ in range(_PIPE // _CHUNK):
            try:
                found = os.read(self.output, _CHUNK)
            except BlockingIOError:
                break
            if not found:
                self.is_mute = True
                break
            self._unread += found
        *lines, self._unread = self._unread.split(b"\n")
        if len(self._unread) > _LONGEST_LINE:
            self._unread = b""
        return lines

    def has_ended(self) -> bool:
        """Whether it has; its number is taken until ``close``."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, number: int) -> None:
        """Tell it, and whatever it has started, to end; by the signal of this number."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def close(self) -> int:
        """After its end: exit status, or minus the signal that ended it."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.output)
        return os.waitstatus_to_exitcode(status)

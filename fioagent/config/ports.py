"""What configuration touches beside what a rotation does: its files, and others' programs.

As ``fioagent.ports``; built in ``configurator.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class SecretFiles(Protocol):
    """Files below the secrets directory, by the names that the configuration gives them.

    A name is relative, with "/" between its parts. No call leaves the directory:
    a symbolic link on the way is refused, one at the end is replaced, not followed.
    Every method raises ConfigError for what the file system refuses.
    """

    @property
    def directory(self) -> str:
        """Absolute path."""
        ...

    def read(self, name: str) -> bytes | None:
        """The content of a regular file; None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """All of ``content`` (0640), or what was there before; directories are made."""
        ...

    def remove(self, name: str) -> bool:
        """Whether it was there; directories that are empty then are gone too."""
        ...


class Programs(Protocol):
    """Programs of others."""

    def run(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        limit_s: float | None,
        say: Callable[[str], None],
        keep: Callable[[bytes], None] | None = None,
    ) -> int:
        """Run to its end; the exit status, 128 and more where a signal ended it.

        Args:
            command: absolute path of the program, and its arguments.
            environ: beside what it inherits.
            limit_s: then it is ended, with all that it has started.
            say: told each line of its output, made fit for a log; of very many the first.
            keep: given all of its output, as it comes; what starts it may say a line first.

        Raises:
            NotBegunError: nobody could start it now.
            TemporaryError: it was ended at its time limit, or nobody knows how it goes on.
            ConfigError: it cannot be started.
            SystemExit: SIGTERM or SIGALRM has come meanwhile; it was ended, too.
        """
        ...

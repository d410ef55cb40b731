"""Small handlers with the conventions of fioconfig's, and what they have written down."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.world import World

TOP = Path(__file__).resolve().parent.parent
# As the stock handlers: /bin/sh -e, variables of the caller, a word on what was done.
_HEAD = "#!/bin/sh -e\n"


class Handlers:
    """The directory of a device's handlers, named by its settings."""

    def __init__(self, world: World, timeout_s: int = 60) -> None:
        self.world = world
        self.directory = world.device.directory / "handlers"
        self.directory.mkdir()
        self._told = world.device.directory / "told"
        self._told.mkdir()
        world.set_setting(
            f'[handlers]\ndirectory = "{self.directory}"\ntimeout = "{timeout_s}s"\n'
            f'[actions]\ndirectory = "{world.device.directory}/actions"'
        )

    def add(self, name: str, script: str) -> str:
        """Its path, as the configuration names it."""
        path = self.directory / name
        path.write_text(_HEAD + script)
        path.chmod(0o755)
        return str(path)

    def noting(self, name: str = "note") -> str:
        """One that appends the name of its file, and whether it is there; see ``told``."""
        there = f'if [ -e "$CONFIG_FILE" ]; then t=there; else t=gone; fi; o={self._told}/{name}'
        return self.add(name, f'{there}\necho "$(basename "$CONFIG_FILE") $t" >> $o\n')

    def told(self, name: str = "note") -> list[str]:
        path = self._told / name
        return path.read_text().splitlines() if path.exists() else []

    def place(self, name: str) -> Path:
        """Where a handler of a test may write."""
        return self._told / name

    def program(self) -> str:
        """``fioagent`` as one file that a handler can call: this clone's, by this Python."""
        path = self.world.device.directory / "fioagent"
        path.write_text(f'#!/bin/sh\nPYTHONPATH="{TOP}" exec "{sys.executable}" -m fioagent "$@"\n')
        path.chmod(0o755)
        return os.fspath(path)

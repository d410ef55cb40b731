"""The shell in which the documents' commands are run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Shell:
    """bash in a directory, with the variables that the commands speak of."""

    directory: Path
    env: dict[str, str]

    def run(self, command: str, code: int = 0) -> str:
        """What it prints on stdout; on stderr if it fails."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.directory,
            env={**os.environ, "NO_PROXY": "*", **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert code == done.returncode, done.stderr
        return done.stderr if code else done.stdout

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

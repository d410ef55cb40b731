"""What docs/integrators.md says has been tried."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PAGE = (TOP / "docs" / "integrators.md").read_text()
LIMIT_S = 120


def test_the_rehearsal_rotates_a_device_as_it_is_written(tmp_path: Path) -> None:
    """Pasted into a shell: an operator asks, the device does it, the operator sees it."""
    block = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert block
    for name, module in (("fioagent", "fioagent"), ("fioagent-factory", "fioagent.factory")):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(TOP)}

    done = subprocess.run(
        ["bash", "-euc", block[1] + "wait || :\n"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )

    assert done.returncode == 0, done.stderr
    assert "CertRotationCompleted" in done.stdout
    serials = re.findall(r"serial\S*\s+(\w+)", done.stdout)
    assert len(set(serials)) > 1, done.stdout

"""The demo rotates a certificate with the real agent, and believes nobody."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from fioagent.factory.cli import main


def test_the_demo_proves_a_rotation_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check is a line; all of them pass; the temporary directory goes away."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    assert 0 == main(["demo"])

    said = capfd.readouterr().out
    assert said.endswith("all checks passed\n")
    assert "FAILED" not in said
    assert said.isascii()
    assert [] == list(tmp_path.iterdir())


def test_a_failing_agent_fails_the_demo(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, the checks that failed say so, and everything is left to look at."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(
        "import os, sys\nif 'rotate' in sys.orig_argv:\n    os._exit(7)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(modules))

    assert 1 == main(["demo", str(tmp_path / "lab")])

    said = capfd.readouterr().out
    assert "fioagent rotate ended with 7" in said
    assert "checks FAILED" in said
    assert (tmp_path / "lab" / "factory" / "log" / "gateway.log").is_file()

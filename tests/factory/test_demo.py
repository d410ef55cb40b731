"""The demo rotates a certificate with the real agent, and believes nobody."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from fioagent.factory.cli.main import main


@pytest.mark.parametrize("options", [[], ["--token", "softhsm"]], ids=["files", "softhsm"])
def test_the_demo_proves_a_rotation_and_leaves_nothing(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    """Every check is a line; all of them pass; the temporary directory goes away."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    assert 0 == main(["demo", *options])

    said = capfd.readouterr().out
    assert said.endswith("all checks passed\n")
    assert "FAILED" not in said
    assert said.isascii()
    assert [] == list(tmp_path.iterdir())


def test_the_demo_with_a_token_needs_what_the_agent_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything is made."""
    monkeypatch.setitem(sys.modules, "pkcs11", None)

    assert 1 == main(["demo", str(tmp_path / "lab"), "--token", "softhsm"])

    said = capsys.readouterr()
    assert "" == said.out
    first, hint = said.err.splitlines()
    assert "cannot run the demo with a token: python-pkcs11 is not installed" == first
    assert "fioagent[pkcs11,factory]" in hint
    assert not (tmp_path / "lab").exists()


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

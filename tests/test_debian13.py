"""What Debian 13 has and 12 has not: a tpm2-pkcs11 that derives, python-pkcs11 0.7.0, others.

The agent, the factory and the tests as they stand here, with the libraries and the
Python 3.13 of a Debian 13 root: Yocto scarthgap has the same python-pkcs11.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import debian13, needs
from tests.test_tpm_cuts import BEFORE_EACH_EFFECT


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    needs.root_and("mmdebstrap", "systemd-nspawn")
    place = tmp_path_factory.mktemp("debian13") / "root"
    debian13.make(place)
    yield place
    shutil.rmtree(place)


def outcome_of(root: Path, name: str, *options: str) -> str:
    """What pytest says of a file of tests, run in the root."""
    command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += ["--rootdir=/src", f"/src/tests/{name}", *options]
    done = subprocess.run(
        debian13.inside(root, command, {"CI": "true"}),
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_tpm_rotates(root: Path) -> None:
    """Twice and back, with an encrypted configuration."""
    assert "6 passed, 1 skipped" in outcome_of(root, "test_tpm.py")


def test_a_tpm_stands_power_cuts(root: Path) -> None:
    """Before every effect of a rotation, with the TPM losing its power, too."""
    assert f"{len(BEFORE_EACH_EFFECT)} passed" in outcome_of(root, "test_tpm_cuts.py")


def test_a_tpm_stands_kills(root: Path) -> None:
    """At a share of the system calls with which its module writes."""
    assert "1 passed" in outcome_of(root, "test_crash_tpm.py")


def test_the_token_rules_hold(root: Path) -> None:
    """With the oldest python-pkcs11, which loads one module a process."""
    for pattern in ("tpm", "soft"):
        assert "passed" in outcome_of(root, "test_token_rules.py", "-k", pattern)


def test_other_programs_use_the_key_in_a_token(root: Path) -> None:
    """By a provider for OpenSSL 3, which Debian 12 has not."""
    assert "2 passed" in outcome_of(root, "test_provider.py")


def test_est_clients_of_others_renew(root: Path) -> None:
    """With those of strongSwan 6 and of libest, which Debian 12 has not."""
    assert "8 passed" in outcome_of(root, "factory/test_est_clients.py")

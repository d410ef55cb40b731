"""What Debian 13 has and 12 has not: a tpm2-pkcs11 that derives, python-pkcs11 0.7.0, libest.

The agent, the factory and the tests as they stand here, with the libraries and the
Python 3.13 of a Debian 13 root: Yocto scarthgap has the same python-pkcs11.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import needs
from tests.test_tpm_cuts import BEFORE_EACH_EFFECT

TOP: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = (
    *("python3-cryptography", "python3-requests", "python3-flask", "python3-cheroot"),
    *("python3-pkcs11", "python3-pytest", "python3-hypothesis", "opensc", "softhsm2"),
    *("swtpm", "libtpm2-pkcs11-1", "libtss2-tcti-swtpm0t64", "tpm2-tools"),
    *("libest-utils", "strongswan-pki", "libstrongswan-standard-plugins", "curl", "openssl"),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    needs.root_and("mmdebstrap", "systemd-nspawn")
    place = tmp_path_factory.mktemp("debian13") / "root"
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"]
    subprocess.run([*command, "trixie", str(place)], check=True)
    yield place
    shutil.rmtree(place)


def outcome_of(root: Path, name: str, *options: str) -> str:
    """What pytest says of a file of tests, run in the root."""
    command = ["systemd-nspawn", "--quiet", f"--directory={root}", f"--bind-ro={TOP}:/src"]
    command += ["--private-network", "--register=no", "--keep-unit", "--tmpfs=/tmp"]
    command += ["--setenv=PYTHONPATH=/src", "--setenv=PYTHONDONTWRITEBYTECODE=1"]
    command += ["--setenv=CI=true", "--pipe"]
    command += ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    environ = {**os.environ, "TERM": "dumb"}
    done = subprocess.run(
        [*command, "--rootdir=/src", f"/src/tests/{name}", *options],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_tpm_rotates(root: Path) -> None:
    """Twice and back, with an encrypted configuration."""
    assert "3 passed, 1 skipped" in outcome_of(root, "test_tpm.py")


def test_a_tpm_stands_power_cuts(root: Path) -> None:
    """Before every effect of a rotation, with the TPM losing its power, too."""
    assert f"{len(BEFORE_EACH_EFFECT)} passed" in outcome_of(root, "test_tpm_cuts.py")


def test_the_token_rules_hold(root: Path) -> None:
    """With the oldest python-pkcs11, which loads one module a process."""
    for pattern in ("tpm", "soft"):
        assert "passed" in outcome_of(root, "test_token_rules.py", "-k", pattern)


def test_est_clients_of_others_renew(root: Path) -> None:
    """With those of strongSwan 6 and of libest, which Debian 12 has not."""
    assert "8 passed" in outcome_of(root, "factory/test_est_clients.py")

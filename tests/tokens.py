"""Tokens for tests: SoftHSM, and a TPM that swtpm plays; looked at by OpenSC's pkcs11-tool."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pkcs11

from fioagent.factory.fleet.hsm import LABEL, PIN, SIGN_AND_DERIVE, Hsm, field_of, softhsm, swtpm
from fioagent.keystore.token import Token
from fioagent.keystore.token_errors import Place
from tests.processes import has_ended

SOFTHSM: Final = "/usr/lib/softhsm/libsofthsm2.so"
TPM: Final = next(
    map(str, Path("/usr/lib").glob("*/pkcs11/libtpm2_pkcs11.so")), "tpm2-pkcs11 is not installed"
)


class LabToken(Hsm):
    """A token of the lab factory, in the hands of a test."""

    def run(self, *command: str, stdin: str = "", code: int | None = 0, **environ: str) -> str:
        """What it prints; ``code`` None: whatever its exit status is."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.env, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or code is None, done.stderr
        return done.stdout

    def lose_power(self) -> None:
        """A TPM, without a word before; it is on again."""
        tpm = int((self.directory / "pid").read_text())
        os.kill(tpm, signal.SIGKILL)
        assert has_ended(tpm)  # and with it its port and its lock
        subprocess.run(["sh", str(self.starter)], check=True)

    def let_go(self) -> None:
        """Of what ended processes have loaded into a TPM.

        The kernel's resource manager does so when a process ends; swtpm has none.
        """
        if self.module == TPM:
            self.run("tpm2_flushcontext", "--transient-object")

    @contextlib.contextmanager
    def at_hand(self) -> Iterator[None]:
        """For this process, whose module may have looked at another one before."""
        os.environ.update(self.env)
        self.let_go()
        try:
            pkcs11.lib(self.module).reinitialize()
            yield
        finally:
            for name in self.env:
                del os.environ[name]
            self.let_go()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Token]:
        with self.at_hand():
            token = Token(Place(self.module, LABEL), lambda: PIN)
            try:
                yield token
            finally:
                token.close()

    def public_key(self, identifier: str) -> str:
        """Its point, in hexadecimal."""
        (found,) = (
            block
            for block in self.blocks()
            if block.startswith("Public Key") and field_of(block, "ID") == identifier
        )
        return field_of(found, "EC_POINT")


def tpm_derives() -> bool:
    """By the version of the package; where there is none, nothing does."""
    query = ["dpkg-query", "--showformat", "${Version}", "--show", "libtpm2-pkcs11-1"]
    if shutil.which("dpkg-query") is None:
        return False
    version = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return found is not None and tuple(map(int, found.groups())) >= (1, 9, 1)


def soft_token(directory: Path, *usages: str) -> LabToken:
    """Of SoftHSM 2."""
    return _lab_token(softhsm(directory), usages)


@contextlib.contextmanager
def tpm_token(directory: Path) -> Iterator[LabToken]:
    """Of tpm2-pkcs11 with a TPM 2.0 that is a process of its own."""
    made = running_tpm(directory)
    try:
        yield made
    finally:
        made.stop()


def running_tpm(directory: Path) -> LabToken:
    """The same, for who stops it."""
    return _lab_token(swtpm(directory))


def _lab_token(made: Hsm, usages: tuple[str, ...] = ()) -> LabToken:
    return LabToken(made.module, made.directory, made.env, usages or SIGN_AND_DERIVE)

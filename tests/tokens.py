"""Tokens for tests: SoftHSM, and a TPM that swtpm plays; looked at by OpenSC's pkcs11-tool."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pkcs11

from fioagent.keystore.token import Token
from fioagent.keystore.token_errors import Place

SOFTHSM: Final = "/usr/lib/softhsm/libsofthsm2.so"
TPM: Final = next(
    map(str, Path("/usr/lib").glob("*/pkcs11/libtpm2_pkcs11.so")), "tpm2-pkcs11 is not installed"
)
LABEL: Final = "aktualizr"
PIN: Final = "hunter2-4711"
SO_PIN: Final = "so-hunter2-4711"


@dataclass(frozen=True, slots=True)
class LabToken:
    """A token of its own.

    Attributes:
        module: path of the PKCS#11 module.
        directory: with its store.
        env: by which the module finds it.
    """

    module: str
    directory: Path
    env: Mapping[str, str]

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

    def tool(self, *arguments: str) -> str:
        """OpenSC's pkcs11-tool, which shares nothing with the agent."""
        login = ["--module", self.module, "--token-label", LABEL, "--login", "--pin", PIN]
        return self.run("pkcs11-tool", *login, *arguments)

    def make_key(self, identifier: str, label: str = "tls", *usages: str) -> None:
        wanted = usages or ("--usage-sign", "--usage-derive")
        kind = ["--keypairgen", "--key-type", "EC:prime256v1", "--sensitive"]
        self.tool(*kind, "--id", identifier, "--label", label, *wanted)

    def put_certificate(self, identifier: str, der: Path, label: str = "client") -> None:
        kind = ["--type", "cert", "--id", identifier, "--label", label]
        self.tool("--write-object", str(der), *kind)

    @contextlib.contextmanager
    def at_hand(self) -> Iterator[None]:
        """For this process, whose module may have looked at another one before."""
        os.environ.update(self.env)
        if self.module == TPM:
            # The kernel's resource manager does so when a process ends; swtpm has none.
            self.run("tpm2_flushcontext", "--transient-object")
        try:
            pkcs11.lib(self.module).reinitialize()
            yield
        finally:
            for name in self.env:
                del os.environ[name]

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
            for block in self._blocks()
            if block.startswith("Public Key") and _field(block, "ID") == identifier
        )
        return _field(found, "EC_POINT")

    def objects(self) -> list[tuple[str, str, str]]:
        """Class, label and id of each, sorted."""
        return sorted(
            (block.split(" Object")[0].strip(), _field(block, "label"), _field(block, "ID"))
            for block in self._blocks()
        )

    def _blocks(self) -> list[str]:
        found = re.split(r"\n(?=\S)", self.tool("--list-objects"))
        return [block for block in found if " Object" in block]


def _field(block: str, name: str) -> str:
    found = re.search(rf"^ +{name}: +(.*)$", block, re.MULTILINE)
    return found[1] if found else ""


def soft_token(directory: Path) -> LabToken:
    """Of SoftHSM 2."""
    (directory / "tokens").mkdir(parents=True)
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {directory}/tokens\n")
    made = LabToken(SOFTHSM, directory, {"SOFTHSM2_CONF": str(configuration)})
    pins = ["--so-pin", SO_PIN, "--pin", PIN]
    made.run("softhsm2-util", "--init-token", "--free", "--label", LABEL, *pins)
    return made


@contextlib.contextmanager
def tpm_token(directory: Path) -> Iterator[LabToken]:
    """Of tpm2-pkcs11 with a TPM 2.0 that is a process of its own."""
    (directory / "state").mkdir(parents=True)
    (directory / "store").mkdir()
    port = _two_free_ports()
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}/state"]
    command += ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
    command += ["--flags", "not-need-init,startup-clear"]
    # As a daemon it comes back when it listens.
    subprocess.run([*command, "--daemon", "--pid", f"file={directory}/pid"], check=True)
    try:
        env = {
            "TPM2_PKCS11_STORE": str(directory / "store"),
            "TPM2_PKCS11_TCTI": f"swtpm:host=127.0.0.1,port={port}",
            "TPM2_PKCS11_LOG_LEVEL": "0",
            "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={port}",
        }
        made = LabToken(TPM, directory, env)
        tool = ["pkcs11-tool", "--module", TPM, "--so-pin", SO_PIN]
        made.run(*tool, "--slot-index", "0", "--init-token", "--label", LABEL)
        pins = ["--new-pin", PIN, "--pin", PIN]
        made.run(*tool, "--token-label", LABEL, "--init-pin", *pins)
        yield made
    finally:
        os.kill(int((directory / "pid").read_text()), signal.SIGTERM)


def _two_free_ports() -> int:
    """The first of two in a row: swtpm's protocol has the second for control."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port

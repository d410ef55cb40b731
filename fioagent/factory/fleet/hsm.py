"""A device's PKCS#11 token: of SoftHSM, or of a TPM 2.0 that swtpm plays.

Made and used with OpenSC's pkcs11-tool, which shares nothing with the agent, so that the
factory needs no library for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, Union

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory.errors import FactoryError

LABEL: Final = "aktualizr"  # as lmp-device-register names it
PIN: Final = "lab-pin-4711"  # it stands in the sota.toml of the lab's devices
SO_PIN: Final = "lab-so-pin-4711"
KEY_ID: Final = "01"
CERTIFICATE_ID: Final = "03"
LIMIT_S: Final = 60  # for one command of pkcs11-tool; a TPM takes a second for a key
SIGN_AND_DERIVE: Final = ("--usage-sign", "--usage-derive")
# Below /usr/lib or /usr/lib64, and the Debian package that has it.
SOFTHSM: Final = (("softhsm/libsofthsm2.so", "pkcs11/libsofthsm2.so"), "softhsm2")
TPM: Final = (("pkcs11/libtpm2_pkcs11.so", "*/pkcs11/libtpm2_pkcs11.so"), "libtpm2-pkcs11-1")

Buffer = Union[bytes, bytearray, memoryview]  # noqa: UP007  # evaluated, and by Python 3.10 too


@dataclass(frozen=True, slots=True)
class Hsm:
    """A token with a PIN, in a store of its own.

    Attributes:
        module: path of the PKCS#11 module.
        directory: with its store, if it is ours to keep.
        env: by which the module finds the store.
        usages: that a new key is made for, in pkcs11-tool's words.
        label: of the token.
        pin: of its user.
    """

    module: str
    directory: Path
    env: Mapping[str, str]
    usages: tuple[str, ...] = SIGN_AND_DERIVE
    label: str = LABEL
    pin: str = field(default=PIN, repr=False)

    @property
    def starter(self) -> Path:
        """Starts the TPM again; there is none where no program plays the token."""
        return self.directory / "start"

    def initialise(self) -> None:
        """The first slot becomes the token: label and PINs."""
        self._run(
            "--slot-index", "0", "--init-token", "--label", self.label, "--so-pin", "env:SO_PIN"
        )
        login = ["--login", "--login-type", "so", "--so-pin", "env:SO_PIN"]
        self._run("--token-label", self.label, *login, "--init-pin", "--new-pin", "env:PIN")

    def tool(self, *arguments: str) -> str:
        """What pkcs11-tool prints, logged in to the token. FactoryError: it has failed."""
        return self._run("--token-label", self.label, "--login", "--pin", "env:PIN", *arguments)

    def make_key(self, identifier: str, label: str = "tls") -> HsmKey:
        kind = ["--keypairgen", "--key-type", "EC:prime256v1", "--sensitive"]
        self.tool(*kind, "--id", identifier, "--label", label, *self.usages)
        return HsmKey(self, identifier)

    def put_certificate(self, identifier: str, pem: Path, label: str = "client") -> None:
        kind = ["--type", "cert", "--id", identifier, "--label", label]
        with tempfile.NamedTemporaryFile() as file:
            file.write(ssl.PEM_cert_to_DER_cert(pem.read_text()))
            file.flush()
            self.tool("--write-object", file.name, *kind)

    def read(self, kind: str, identifier: str, by: str = "--id") -> bytes:
        """DER of a ``cert`` or ``pubkey``, found ``by`` its id or ``--label``."""
        return self.made_of(b"", "--read-object", "--type", kind, by, identifier)

    def objects(self) -> list[tuple[str, str, str]]:
        """Class, label and id of each, sorted."""
        return sorted(
            (block.split(" Object")[0].strip(), field_of(block, "label"), field_of(block, "ID"))
            for block in self.blocks()
        )

    def blocks(self) -> list[str]:
        """What pkcs11-tool says of each object."""
        found = re.split(r"\n(?=\S)", self.tool("--list-objects"))
        return [block for block in found if " Object" in block]

    def made_of(self, content: bytes, *arguments: str) -> bytes:
        """What pkcs11-tool makes of a file with ``content``."""
        with tempfile.TemporaryDirectory() as scratch:
            given, made = Path(scratch, "given"), Path(scratch, "made")
            given.write_bytes(content)
            self.tool(*arguments, "--input-file", str(given), "--output-file", str(made))
            return made.read_bytes()

    def stop(self) -> None:
        """A TPM that swtpm plays ends; the token stays."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.directory / "pid").read_text()), signal.SIGTERM)

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ["pkcs11-tool", "--module", self.module, *arguments],
                env={**os.environ, **self.env, "PIN": self.pin, "SO_PIN": SO_PIN},
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired as late:
            raise FactoryError(
                f"cannot use the token {self.label!r}: {self.module} has not answered"
                f" within {LIMIT_S} s"
            ) from late
        if done.returncode != 0:
            said = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
            raise FactoryError(f"cannot use the token {self.label!r}: pkcs11-tool: {said}")
        return done.stdout


def field_of(block: str, name: str) -> str:
    """A field of an object, as pkcs11-tool lists it; empty where it has none."""
    found = re.search(rf"^ +{name}: +(.*)$", block, re.MULTILINE)
    return found[1] if found else ""


class HsmKey(ec.EllipticCurvePrivateKey):
    """A P-256 key in a token, as ``cryptography`` knows keys that it does not hold."""

    def __init__(self, hsm: Hsm, identifier: str, by: str = "--id") -> None:
        self._hsm = hsm
        self._which = by, identifier
        public = serialization.load_der_public_key(hsm.read("pubkey", identifier, by))
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise FactoryError(f"cannot use the key {identifier} of {hsm.label!r}: it is not EC")
        self._public = public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        algorithm = signature_algorithm.algorithm
        if not isinstance(algorithm, hashes.SHA256):
            raise NotImplementedError("the lab signs with SHA-256")
        digest = hashes.Hash(algorithm)
        digest.update(bytes(data))
        form = ["--mechanism", "ECDSA", "--signature-format", "openssl"]
        return self._hsm.made_of(digest.finalize(), "--sign", *self._which, *form)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        del algorithm
        peer = peer_public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        how = ["--derive", "--mechanism", "ECDH1-DERIVE"]
        return self._hsm.made_of(peer, *how, *self._which)

    def private_numbers(self) -> NoReturn:
        raise NotImplementedError("the key does not leave its token")

    def private_bytes(self, *_args: object, **_options: object) -> NoReturn:
        raise NotImplementedError("the key does not leave its token")

    def __copy__(self) -> HsmKey:
        return self

    def __deepcopy__(self, memo: object) -> HsmKey:
        return self


def softhsm(directory: Path) -> Hsm:
    """A fresh token of SoftHSM 2. FactoryError: something for it is not installed."""
    module = _module(SOFTHSM)
    need({"pkcs11-tool": "opensc"})
    directory.mkdir(mode=0o700, parents=True)
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {directory}/tokens\n")
    made = Hsm(module, directory, {"SOFTHSM2_CONF": str(configuration)})
    made.initialise()
    return made


def swtpm(directory: Path) -> Hsm:
    """A fresh token of tpm2-pkcs11, with a TPM that runs until :meth:`Hsm.stop`.

    Raises:
        FactoryError: something for it is not installed, or it does not start.
    """
    module = _module(TPM)
    need({"pkcs11-tool": "opensc", "swtpm": "swtpm"})
    directory.mkdir(mode=0o700, parents=True)
    (directory / "state").mkdir()
    (directory / "store").mkdir()
    port = _two_free_ports()
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}/state"]
    command += ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
    command += ["--flags", "not-need-init,startup-clear"]
    # As a daemon it comes back when it listens.
    command += ["--daemon", "--pid", f"file={directory}/pid"]
    tcti = f"swtpm:host=127.0.0.1,port={port}"
    env = {
        "TPM2_PKCS11_STORE": str(directory / "store"),
        "TPM2_PKCS11_TCTI": tcti,
        "TPM2_PKCS11_LOG_LEVEL": "0",
        "TPM2TOOLS_TCTI": tcti,
        "TSS2_LOG": "all+NONE",  # swtpm is full with three keys; its users try again
    }
    made = Hsm(module, directory, env)
    made.starter.write_text(f"exec {shlex.join(command)}\n")
    try:
        subprocess.run(command, check=True)
        made.initialise()
    except subprocess.CalledProcessError as error:
        raise FactoryError(f"cannot start a TPM: swtpm ended with {error.returncode}") from error
    except FactoryError:
        made.stop()
        raise
    return made


MAKERS: Final[Mapping[str, Callable[[Path], Hsm]]] = {"softhsm": softhsm, "swtpm": swtpm}


def _module(kind: tuple[tuple[str, ...], str]) -> str:
    patterns, package = kind
    for top in (Path("/usr/lib"), Path("/usr/lib64")):
        for pattern in patterns:
            for found in top.glob(pattern):
                return str(found)
    raise _missing(Path(patterns[0]).name, package)


def need(programs: Mapping[str, str]) -> None:
    for program, package in programs.items():
        if shutil.which(program) is None:
            raise _missing(program, package)


def _missing(what: str, package: str) -> FactoryError:
    return FactoryError(
        f"cannot make a token: {what} is not installed", f"hint: apt-get install {package}"
    )


def _two_free_ports() -> int:
    """The first of two in a row: swtpm's protocol has the second for control.

    Below those that Linux gives to connections, so that none has it when the TPM starts again.
    """
    while True:
        port = 16384 + secrets.randbelow(16000)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))
            return port

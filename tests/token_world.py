"""A device whose key is in a token, as lmp-device-register leaves it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from fioagent import agent, cli
from fioagent.factory import Factory, Urls
from fioagent.rotation.rotator import Outcome
from tests.tokens import LabToken
from tests.world import BUNDLE, PLAIN, SECRET, Ran, StoppedClock

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


OPENSSL_CNF: Final = """\
openssl_conf = start
[start]
ssl_conf = ssl
[ssl]
system_default = own
[own]
MinProtocol = {version}
MaxProtocol = {version}
"""
# What Python's ssl and this gateway agree on.
SPOKEN: Final = """\
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with socket.create_connection(("localhost", int(sys.argv[1]))) as line:
    print(context.wrap_socket(line).version())
"""


class TokenWorld:
    """One device of one factory, with its key in a token."""

    def __init__(self, factory: Factory, urls: Urls, directory: Path, token: LabToken) -> None:
        self.factory = factory
        self.urls = urls
        self.token = token
        self.device = factory.add_device(directory, make_hsm=lambda _: token)
        self.uuid = self.device.uuid
        self.storage = self.device.sota

    def give_config(self) -> None:
        """Four files, two of them encrypted, on the gateway and in config.encrypted."""
        self.factory.set_config(self.uuid, {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE})
        self.factory.set_config(self.uuid, PLAIN, plain=True)
        assert self.fioagent("check-in").code == 0

    def fioagent(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Ran:
        """The command line, in this process, with the device's environment."""
        out, err = io.StringIO(), io.StringIO()
        with (
            self.token.at_hand(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = cli.main(arguments, {**self.device.env, **(environ or {})})
        return Ran(int(code), out.getvalue(), err.getvalue())

    def process(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Ran:
        """The command line in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "fioagent", *arguments],
            env={**os.environ, **self.token.env, **self.device.env, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def rotate(self, *arguments: str) -> Ran:
        return self.fioagent("rotate", "--now", *arguments)

    def rotate_at(self, at: datetime, identifier: str) -> Outcome:
        """``fioagent rotate --now``, with a clock that says ``at``."""
        with (
            self.token.at_hand(),
            agent.opened([], self.device.env, clock=StoppedClock(at)) as opened,
        ):
            return opened.rotate(
                now=True, est_url=None, rotation_id=identifier, watch=lambda _: None
            )

    def edit_sota(self, text: str, other: str) -> None:
        path = self.storage / "sota.toml"
        before = path.read_text()
        assert text in before
        path.write_text(before.replace(text, other))

    def set_setting(self, text: str) -> None:
        """Appends to the device's fioagent.toml."""
        path = Path(self.device.env["FIOAGENT_CONFIG"])
        path.write_text(f"{path.read_text()}\n{text}\n")

    def set_est(self, text: str) -> None:
        """Into the section [est] that the settings have already."""
        path = Path(self.device.env["FIOAGENT_CONFIG"])
        path.write_text(path.read_text().replace("[est]\n", f"[est]\n{text}\n"))

    def journal(self) -> bytes | None:
        path = self.storage / "fioagent" / "rotation.journal"
        return path.read_bytes() if path.exists() else None

    def certificate_file(self, identifier: str) -> Path:
        """PEM of a certificate in the token."""
        der = self.token.directory / f"{identifier}.der"
        kind = ["--read-object", "--type", "cert", "--id", identifier]
        self.token.tool(*kind, "--output-file", str(der))
        pem = der.with_suffix(".pem")
        pem.write_text(ssl.DER_cert_to_PEM_cert(der.read_bytes()))
        return pem

    def live_ids(self) -> tuple[str, str]:
        """Key and certificate, as fioconfig reads sota.toml."""
        p11 = tomllib.loads((self.storage / "sota.toml").read_text())["p11"]
        return p11["tls_pkey_id"], p11["tls_clientcert_id"]

    def extracted(self) -> dict[str, bytes]:
        """What ``fioagent extract`` makes of config.encrypted."""
        secrets = Path(self.device.env["SECRETS_DIR"])
        shutil.rmtree(secrets)
        secrets.mkdir()
        ran = self.fioagent("extract")
        assert ran.code == 0, ran.err
        return {
            str(path.relative_to(secrets)): path.read_bytes()
            for path in secrets.rglob("*")
            if path.is_file()
        }

    def check_tls(self, version: str) -> None:
        """Two whole rotations that speak this version alone, ``TLSv1.2`` or ``TLSv1.3``."""
        settings = self.device.directory / "openssl.cnf"
        settings.write_text(OPENSSL_CNF.format(version=version))
        environ = {"OPENSSL_CONF": str(settings)}
        for ids in (("07", "09"), ("01", "03")):
            ran = self.process("rotate", "--now", environ=environ)
            assert ran.code == 0, ran.err
            assert self.live_ids() == ids
        command = [sys.executable, "-c", SPOKEN, self.urls.gateway.rpartition(":")[2]]
        spoken = subprocess.run(
            command, env={**os.environ, **environ}, capture_output=True, text=True, check=True
        )
        assert spoken.stdout == f"{version}\n"

"""A rotation from start to end, with proof: what ``fioagent-factory demo`` shows.

The factory and the agent run as processes of their own, as they would anywhere. The proof
asks the gateway and reads the device's files; it takes nobody's word for it.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import requests
from cryptography import x509

from fioagent.factory import events
from fioagent.factory.certificates import load_key, public_pem
from fioagent.factory.ecies import EciesError, decrypt
from fioagent.factory.errors import FactoryError
from fioagent.factory.lab import Factory
from fioagent.factory.provision import Device
from fioagent.factory.serving import Urls

ENCRYPTED: Final[Mapping[str, bytes]] = {
    "app-secret": b"correct horse battery staple\n",
    "certs/ca-bundle.pem": b"-----BEGIN CERTIFICATE-----\nof the lab\n",
}
PLAIN: Final[Mapping[str, bytes]] = {
    "wireguard-client": b"enabled=0\n\npubkey=lab",
    "z-50-fioctl.toml": b'[pacman]\n  tags = "main"\n',
}
# Step names that fioctl's users know, and the completion that fioconfig itself never reports.
EVENTS: Final = (
    "CertRotationStarted",
    "Generate new certificate",
    "Lock device configuration on server",
    "Update local configuration with new key",
    "Update device specific configuration on server with new key",
    "Finalize aktualizr configuration",
    "CertRotationCompleted",
)
TIMEOUT_S: Final = 30


@dataclass(slots=True)
class Proof:
    """The checks so far. Each is one line when it is made."""

    started: float = field(default_factory=time.monotonic)
    failures: int = 0

    def check(self, passed: bool, what: str) -> None:
        self.failures += not passed
        verdict = "ok" if passed else "FAILED"
        print(f"{verdict:6} {time.monotonic() - self.started:6.2f} s  {what}", flush=True)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number


def demo(directory: Path | None, *, keep: bool) -> int:
    """0 if every check passed. A directory of our own goes away again, if all is well."""
    base = directory or Path(tempfile.mkdtemp(prefix="fioagent-demo-"))
    proof = Proof()
    try:
        _run(base, proof)
    except (OSError, FactoryError, ValueError, KeyError, configparser.Error) as error:
        # requests' errors are OSErrors. Anything unexpected is a check that failed.
        proof.check(False, f"the demo stopped: {error}")
    if directory or keep or proof.failures:
        print(f"left everything in {base}")
    else:
        shutil.rmtree(base)
    print("all checks passed" if not proof.failures else f"{proof.failures} checks FAILED")
    return 1 if proof.failures else 0


def _run(base: Path, proof: Proof) -> None:
    factory = Factory.create(base / "factory")
    with _serving(factory) as urls:
        device = factory.add_device(base / "device")
        print(f"device {device.uuid} in {device.directory}")
        factory.set_config(device.uuid, ENCRYPTED)
        factory.set_config(device.uuid, PLAIN, plain=True)
        old = _current_pair(device)
        _fetch_config(device, urls, old)
        # Only the demo keeps the old pair, to show later that it is refused.
        old = _copy(old, base / "old-pair")

        command = [sys.executable, "-m", "fioagent", "rotate", "--now"]
        print(f"$ fioagent {' '.join(command[3:])}", flush=True)
        done = subprocess.run(command, env={**os.environ, **device.env}, check=False)
        proof.check(done.returncode == 0, f"fioagent rotate ended with {done.returncode}")
        _prove(proof, factory, device, urls, old)


@contextmanager
def _serving(factory: Factory) -> Iterator[Urls]:
    """A factory process of its own, ready."""
    command = [sys.executable, "-m", "fioagent.factory", "serve", str(factory.paths.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout or ())
            for line in lines:
                print(line, end="", flush=True)
                if line == "ready\n":
                    break
            else:
                raise FactoryError("cannot run the demo: the factory did not start")
            yield factory.urls()
        finally:
            process.terminate()


def _current_pair(device: Device) -> Pair:
    """What sota.toml names now."""
    sota = configparser.ConfigParser(interpolation=None)
    sota.read(device.sota / "sota.toml")
    paths = sota["import"]
    return Pair(
        Path(paths["tls_clientcert_path"].strip('"')), Path(paths["tls_pkey_path"].strip('"'))
    )


def _copy(pair: Pair, directory: Path) -> Pair:
    directory.mkdir(mode=0o700)
    certificate, key = directory / "client.pem", directory / "pkey.pem"
    shutil.copy2(pair.certificate, certificate)
    shutil.copy2(pair.key, key)
    return Pair(certificate, key)


def _get(url: str, device: Device, pair: Pair) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # no proxy, and no CA but the factory's
        session.verify = str(device.sota / "root.crt")
        session.cert = (str(pair.certificate), str(pair.key))
        return session.get(url, timeout=TIMEOUT_S)


def _fetch_config(device: Device, urls: Urls, pair: Pair) -> None:
    """As the device's config agent stores it: the body, and the server's Date as its time."""
    answer = _get(f"{urls.gateway}/config", device, pair)
    answer.raise_for_status()
    stored = device.sota / "config.encrypted"
    stored.write_bytes(answer.content)
    stored.chmod(0o640)
    changed = parsedate_to_datetime(answer.headers["Date"].replace("UTC", "GMT")).timestamp()
    os.utime(stored, (changed, changed))


def _prove(proof: Proof, factory: Factory, device: Device, urls: Urls, old: Pair) -> None:
    new = _current_pair(device)
    proof.check(new.serial != old.serial, "the certificate is another one:")
    print(f"{'':11}old {old.serial:040x}\n{'':11}new {new.serial:040x}")
    status = _get(f"{urls.gateway}/config", device, new).status_code
    proof.check(status in (200, 204), f"GET /config with the new pair: {status}")
    status = _get(f"{urls.gateway}/config", device, old).status_code
    proof.check(status == 403, f"GET /config with the old pair: {status}")

    key = load_key(new.key.read_bytes())
    shown = _get(f"{urls.gateway}/device", device, new).json()["pubkey"]
    proof.check(shown == public_pem(key.public_key()), "GET /device shows the new key")

    _prove_events(proof, factory, device)

    local = json.loads((device.sota / "config.encrypted").read_text())
    for place, found in (("device", local), ("factory", factory.device(device.uuid).config)):
        for name, content in ENCRYPTED.items():
            try:
                same = decrypt(found[name]["Value"], key) == content
            except (EciesError, KeyError):
                same = False
            proof.check(same, f"{name} at the {place} opens with the new key")

    credentials = _credentials(device)
    wanted = {new.certificate.resolve(), new.key.resolve()}
    proof.check(credentials == wanted, "var/sota holds one credential:")
    for path in sorted(credentials):
        print(f"{'':11}{path.name}")


def _prove_events(proof: Proof, factory: Factory, device: Device) -> None:
    """As ``fioctl devices updates`` shows them: each step once, in order, and all well."""
    updates = factory.updates(device.uuid)
    rotation = updates[0]["correlation-id"] if updates else "-"
    found = factory.events(device.uuid, rotation)
    print(f"$ fioagent-factory updates factory {device.uuid[:8]}... {rotation}")
    print(events.format_events(found))
    names = tuple(event["eventType"]["id"] for event in found)
    succeeded = [event["event"]["success"] for event in found]
    proof.check(names == EVENTS, f"{len(names)} events, in order")
    completed = names.count("CertRotationCompleted") == 1 and all(succeeded)
    proof.check(completed, "all succeeded, and CertRotationCompleted came once")


def _credentials(device: Device) -> set[Path]:
    """Files that hold a private key or a certificate, without the factory's root.

    A link counts as what it leads to: a second name is not a second credential.
    """
    return {
        path.resolve()
        for path in device.sota.iterdir()
        if path.is_file()
        and path.name != "root.crt"
        and any(mark in path.read_bytes() for mark in (b"PRIVATE KEY", b"BEGIN CERTIFICATE"))
    }

"""A rotation from start to end, with proof: what ``fioagent-factory demo`` shows.

The factory and the agent run as processes of their own, as they would anywhere. The proof
asks the gateway and reads the device's files; it takes nobody's word for it.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory.demo_credentials import Holder, InFiles, InToken, agent
from fioagent.factory.errors import FactoryError
from fioagent.factory.fleet import events
from fioagent.factory.fleet.ecies import EciesError, decrypt
from fioagent.factory.fleet.hsm import MAKERS
from fioagent.factory.fleet.provision import Device
from fioagent.factory.lab import Factory
from fioagent.factory.urls import Urls

ENCRYPTED: Final[Mapping[str, bytes]] = {
    "app-secret": b"correct horse battery staple\n",
    "certs/ca-bundle.pem": b"-----BEGIN CERTIFICATE-----\nof the lab\n",
}
PLAIN: Final[Mapping[str, bytes]] = {
    "wireguard-client": b"enabled=0\n\npubkey=lab",
    "z-50-fioctl.toml": b'[pacman]\n  tags = "main"\n',
}


@dataclass(slots=True)
class Proof:
    """The checks so far. Each is one line when it is made."""

    started: float = field(default_factory=time.monotonic)
    failures: int = 0

    def check(self, passed: bool, what: str) -> None:
        self.failures += not passed
        verdict = "ok" if passed else "FAILED"
        print(f"{verdict:6} {time.monotonic() - self.started:6.2f} s  {what}", flush=True)


def demo(directory: Path | None, *, keep: bool, token: str | None) -> int:
    """0 if every check passed. A directory of our own goes away again, if all is well.

    The device's key is in a ``token`` of ``hsm.MAKERS``, or in a file.
    """
    if token is not None and importlib.util.find_spec("pkcs11") is None:
        raise FactoryError(
            "cannot run the demo with a token: python-pkcs11 is not installed",
            "hint: pip install 'fioagent[pkcs11,factory]'",
        )
    base = directory or Path(tempfile.mkdtemp(prefix="fioagent-demo-"))
    proof = Proof()
    try:
        _run(base, proof, token)
    except (OSError, FactoryError, ValueError, KeyError, configparser.Error) as error:
        # requests' errors are OSErrors. Anything unexpected is a check that failed.
        proof.check(False, f"the demo stopped: {error}")
    if directory or keep or proof.failures:
        print(f"left everything in {base}")
    else:
        shutil.rmtree(base)
    print("all checks passed" if not proof.failures else f"{proof.failures} checks FAILED")
    return 1 if proof.failures else 0


def _run(base: Path, proof: Proof, token: str | None) -> None:
    factory = Factory.create(base / "factory")
    with _serving(factory) as urls:
        make_hsm = None if token is None else MAKERS[token]
        device = factory.add_device(base / "device", make_hsm=make_hsm)
        print(f"device {device.uuid} in {device.directory}")
        factory.set_config(device.uuid, ENCRYPTED)
        factory.set_config(device.uuid, PLAIN, plain=True)
        try:
            _rotate(proof, factory, device, _holder(base, factory, device, urls))
        finally:
            if device.hsm is not None:
                device.hsm.stop()


def _holder(base: Path, factory: Factory, device: Device, urls: Urls) -> Holder:
    if device.hsm is not None:
        return InToken(device, factory, device.hsm)
    # Only the demo keeps the old pair, to show later that it is refused.
    return InFiles(device, urls, base / "old-pair")


def _rotate(proof: Proof, factory: Factory, device: Device, holder: Holder) -> None:
    old = holder.before()
    holder.fetch_config()

    proof.check(*agent(device, "rotate", "--now"))

    new = holder.live()
    proof.check(new.serial != old.serial, "the certificate is another one:")
    print(f"{'':11}old {old.serial:040x}\n{'':11}new {new.serial:040x}")
    for passed, what in holder.at_the_gateway():
        proof.check(passed, what)
    _prove_events(proof, factory, device)
    found, wanted = holder.found()  # a TPM keeps what the next line derives by pkcs11-tool
    _prove_configuration(proof, factory, device, new.key)
    proof.check(found == wanted, f"{holder.place} holds one credential:")
    for name in found:
        print(f"{'':11}{name}")


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


def _prove_configuration(
    proof: Proof, factory: Factory, device: Device, key: ec.EllipticCurvePrivateKey
) -> None:
    local = json.loads((device.sota / "config.encrypted").read_text())
    for place, found in (("device", local), ("factory", factory.device(device.uuid).config)):
        for name, content in ENCRYPTED.items():
            try:
                same = decrypt(found[name]["Value"], key) == content
            except (EciesError, KeyError):
                same = False
            proof.check(same, f"{name} at the {place} opens with the new key")


def _prove_events(proof: Proof, factory: Factory, device: Device) -> None:
    """As ``fioctl devices updates`` shows them: each step once, in order, and all well."""
    updates = factory.updates(device.uuid)
    rotation = updates[0]["correlation-id"] if updates else "-"
    found = factory.events(device.uuid, rotation)
    print(f"$ fioagent-factory updates factory {device.uuid[:8]}... {rotation}")
    print(events.format_events(found))
    names = tuple(event["eventType"]["id"] for event in found)
    succeeded = [event["event"]["success"] for event in found]
    proof.check(names == events.ROTATION, f"{len(names)} events, in order")
    completed = names.count("CertRotationCompleted") == 1 and all(succeeded)
    proof.check(completed, "all succeeded, and CertRotationCompleted came once")

"""A rotation that fioconfig has left half-done on a simulated device.

After internal/rotate.go and state.go of fioconfig: what each of its steps does
to the servers and to the disk. Its state file is written after each step.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fioagent.factory.pki import certificates
from fioagent.ports import Disk
from tests.crash import look
from tests.crash.servers import EST_URL, Servers
from tests.crash.simulated import Simulation, in_memory, sealed_config

_SUFFIX: Final = "183492017"  # os.CreateTemp puts a number in place of the star


class Fioconfig:
    """One rotation of it, by the live certificate ``leaf``."""

    def __init__(self, disk: Disk, servers: Servers, storage: str, leaf: x509.Certificate) -> None:
        self.disk = disk
        self.servers = servers
        self.storage = storage
        self.leaf = leaf
        self.key = certificates.new_key()
        self.public_pem = certificates.public_pem(self.key.public_key())
        self.state: dict[str, Any] = {
            "RotationId": "certs-1",
            "StepIdx": 0,
            "EstServer": EST_URL,
            "PkeySlotIds": ["01", "07"],
            "CertSlotIds": ["03", "09"],
            "NewKey": "",
            "NewCert": "",
            "FullConfigEncrypted": "",
            "DeviceConfigUpdated": False,
            "Finalized": False,
        }

    def enrol(self) -> None:
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(self.leaf.subject)
            .add_extension(certificates.key_usage(digital_signature=True)[0], critical=True)
            .add_extension(certificates.CLIENT_AUTH, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        body = base64.b64encode(request.public_bytes(Encoding.DER))
        answer = self._send("est", "POST", "/simplereenroll", body)
        (issued,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
        self.state["NewKey"] = certificates.private_pem(self.key, traditional=True).decode()
        self.state["NewCert"] = certificates.certificate_pem(issued).decode()

    def lock(self) -> None:
        body = json.dumps({"next_pubkey": self.public_pem}).encode()
        self._send("gateway", "PATCH", "/device", body)

    def reseal_config(self) -> None:
        self.state["FullConfigEncrypted"] = json.dumps(sealed_config(self.public_pem))

    def update_device_config(self) -> None:
        files = [
            {"name": name, "value": entry["Value"], "unencrypted": "Unencrypted" in entry}
            for name, entry in sealed_config(self.public_pem).items()
        ]
        body = json.dumps({"reason": "", "files": files, "public-key": self.public_pem})
        self._send("gateway", "PATCH", "/config", body.encode())
        self.state["DeviceConfigUpdated"] = True

    def switch(self) -> None:
        """The pair, then sota.toml; the power fails before config.encrypted."""
        disk, storage = self.disk, self.storage
        text = disk.read(f"{storage}/sota.toml").decode()
        for stable, name in (("pkey.pem", "NewKey"), ("client.pem", "NewCert")):
            path = f"{storage}/{stable.removesuffix('.pem')}.{_SUFFIX}.pem"
            disk.replace(path, self.state[name].encode())
            text = text.replace(f'"{storage}/{stable}"', f'"{path}"')
        disk.replace(f"{storage}/sota.toml", text.encode())

    def save(self, step: int) -> None:
        self.state["StepIdx"] = step
        path = f"{self.storage}/cert-rotation.state"
        self.disk.replace(path, json.dumps(self.state).encode(), mode=0o640)

    def _send(self, server: str, method: str, path: str, body: bytes) -> bytes:
        answer = self.servers.answer(server, self.leaf, method, path, body)
        assert answer.status in (200, 201), answer
        return answer.body

    def do(self, steps: int) -> None:
        """So many of its steps, and then it is gone; 5 is cut in half."""
        every = (
            self.enrol,
            self.lock,
            self.reseal_config,
            self.update_device_config,
            self.switch,
        )
        for step in every[:steps]:
            step()
        self.save(min(steps, 4))


def left_after(steps: int) -> Simulation:
    """A device on which it has done so many steps, and was then removed."""
    device = in_memory()
    found = look.at(device.disk, device.storage)
    _, leaf = found.pair(*found.live)
    assert leaf is not None
    Fioconfig(device.disk, device.servers, device.storage, leaf).do(steps)
    return device

"""What fioconfig does while it rotates, step by step: the files that it leaves, the requests.

For the tests of taking a half-done rotation over from it.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs7,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from fioagent.factory.fleet import ecies
from tests.world import World

STEPS: Final = ("est", "lock", "full_config", "device_config", "finalize")


class Fioconfig:
    """One rotation of it; ``run(n)`` does the first n steps and leaves the state file behind."""

    def __init__(self, world: World, identifier: str = "certs-1") -> None:
        self.world = world
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = world.storage / "cert-rotation.state"
        # The members and their order: internal/rotate.go and state.go.
        self.state: dict[str, Any] = {
            "RotationId": identifier,
            "StepIdx": 0,
            "EstServer": world.urls.est,
            "PkeySlotIds": ["01", "07"],
            "CertSlotIds": ["03", "09"],
            "NewKey": "",
            "NewCert": "",
            "FullConfigEncrypted": "",
            "DeviceConfigUpdated": False,
            "Finalized": False,
        }

    def run(self, steps: int) -> Fioconfig:
        for index, name in enumerate(STEPS[:steps], start=1):
            getattr(self, name)()
            self.state["StepIdx"] = index
        self.save()
        return self

    def save(self) -> None:
        self.path.write_text(json.dumps(self.state))
        self.path.chmod(0o640)

    @property
    def key_pem(self) -> str:
        form = PrivateFormat.TraditionalOpenSSL  # "EC PRIVATE KEY", as Go writes it
        return self.key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()

    def est(self) -> None:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(self.world.certificate().subject)
            .add_extension(usage, critical=True)
            .add_extension(extended, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        answer = self._send(
            "POST",
            f"{self.world.urls.est}/simplereenroll",
            base64.b64encode(request.public_bytes(Encoding.DER)),
            "application/pkcs10",
        )
        (issued,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
        self.state["NewKey"] = self.key_pem
        self.state["NewCert"] = issued.public_bytes(Encoding.PEM).decode()

    def lock(self) -> None:
        body = json.dumps({"next_pubkey": self._public_pem()}).encode()
        self._send("PATCH", f"{self.world.urls.gateway}/device", body)

    def full_config(self) -> None:
        entries = json.loads((self.world.storage / "config.encrypted").read_bytes())
        self.state["FullConfigEncrypted"] = json.dumps(self._resealed(entries))

    def device_config(self) -> None:
        entries = self._resealed(dict(self.world.factory.device(self.world.uuid).config))
        files = [
            {
                "name": name,
                "value": entry["Value"],
                "unencrypted": bool(entry.get("Unencrypted")),
                "on-changed": entry.get("OnChanged") or [],
            }
            for name, entry in entries.items()
        ]
        body = {
            "reason": "Rotating device client certificate",
            "files": files,
            "public-key": self._public_pem(),
        }
        self._send("PATCH", f"{self.world.urls.gateway}/config", json.dumps(body).encode())
        self.state["DeviceConfigUpdated"] = True

    def finalize(self) -> None:
        self.write_pair()
        self.switch_sota()
        self.put_config()
        self.state["Finalized"] = True

    def write_pair(self) -> None:
        self.new_key = self._written("pkey.", self.state["NewKey"])
        self.new_certificate = self._written("client.", self.state["NewCert"])

    def switch_sota(self) -> None:
        text = self.world.sota_toml.read_text()
        certificate, key = self.world.live_pair()
        text = text.replace(f'"{key}"', f'"{self.new_key}"')
        self.world.sota_toml.write_text(
            text.replace(f'"{certificate}"', f'"{self.new_certificate}"')
        )

    def put_config(self) -> None:
        path = self.world.storage / "config.encrypted"
        path.write_text(self.state["FullConfigEncrypted"])

    def complete(self) -> None:
        """Renamed with all that is in it."""
        self.path.rename(self.path.with_suffix(".state.completed"))

    def _written(self, prefix: str, content: str) -> Path:
        directory = self.world.storage
        with tempfile.NamedTemporaryFile(
            "w", prefix=prefix, suffix=".pem", dir=directory, delete=False
        ) as file:
            file.write(content)
        return Path(file.name)

    def _resealed(self, entries: dict[str, Any]) -> dict[str, Any]:
        old = load_pem_private_key(self.world.old_key, None)
        assert isinstance(old, ec.EllipticCurvePrivateKey)
        made = {}
        for name, entry in entries.items():
            value = entry["Value"]
            if not entry.get("Unencrypted"):
                value = ecies.encrypt(ecies.decrypt(value, old), self.key.public_key())
            made[name] = {**entry, "Value": value}
        return made

    def _public_pem(self) -> str:
        form = PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(Encoding.PEM, form).decode()

    def _send(
        self, method: str, url: str, body: bytes, kind: str = "application/json"
    ) -> requests.Response:
        certificate, key = self.world.old_pair()
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method,
                url,
                data=body,
                cert=(str(certificate), str(key)),
                verify=str(self.world.storage / "root.crt"),
                headers={"Content-Type": kind, "Connection": "close"},
                timeout=10,
            )
        assert answer.status_code in (200, 201), answer.text
        return answer

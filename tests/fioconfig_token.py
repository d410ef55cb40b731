"""What fioconfig does while it rotates a key in a token: see ``fioconfig``."""

from __future__ import annotations

import json
from typing import Any, Final

from fioagent import agent, x509
from fioagent.config import document
from fioagent.model import CredentialRef, Store
from fioagent.site import Device
from fioagent.x509 import Certificate
from tests.token_world import TokenWorld

STEPS: Final = ("est", "lock", "full_config", "device_config", "finalize")
NEW: Final = CredentialRef(Store.PKCS11, "07", "09")


class TokenFioconfig:
    """One rotation of it; ``run(n)`` does the first n steps and leaves the state file behind."""

    def __init__(self, world: TokenWorld, identifier: str = "certs-1") -> None:
        self.world = world
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

    def run(self, steps: int) -> TokenFioconfig:
        with self.world.token.at_hand(), agent.opened([], self.world.device.env) as opened:
            for index, name in enumerate(STEPS[:steps], start=1):
                getattr(self, name)(opened.device)
                self.state["StepIdx"] = index
        self.path.write_text(json.dumps(self.state))
        return self

    def est(self, device: Device) -> None:
        live = device.live_credential()
        device.keys.generate(NEW, live, announced=False)
        renewed = device.keys.certificate(live)
        assert renewed is not None
        request = x509.signing_request(device.keys.private_key(NEW), renewed)
        (issued,) = device.sessions.est(self.world.urls.est, live).reenroll(request).certificates
        device.keys.store_certificate(NEW, Certificate.from_der(issued))
        self.state |= {"NewKey": NEW.key, "NewCert": NEW.certificate}

    def lock(self, device: Device) -> None:
        gateway = device.sessions.gateway(device.live_credential())
        gateway.set_next_key(self._public_pem(device))

    def full_config(self, device: Device) -> None:
        config = (self.world.storage / "config.encrypted").read_bytes()
        self.state["FullConfigEncrypted"] = self._resealed(config, device).decode()

    def device_config(self, device: Device) -> None:
        gateway = device.sessions.gateway(device.live_credential())
        config = gateway.device_config()
        assert config is not None
        files = document.files(self._resealed(config, device), "the gateway")
        gateway.patch_config(files, self._public_pem(device))
        self.state["DeviceConfigUpdated"] = True

    def finalize(self, device: Device) -> None:
        del device
        self.world.edit_sota('tls_pkey_id = "01"', f'tls_pkey_id = "{NEW.key}"')
        self.world.edit_sota('clientcert_id = "03"', f'clientcert_id = "{NEW.certificate}"')
        path = self.world.storage / "config.encrypted"
        path.write_text(self.state["FullConfigEncrypted"])
        self.state["Finalized"] = True

    @staticmethod
    def _resealed(config: bytes, device: Device) -> bytes:
        keys = device.keys
        old = keys.private_key(CredentialRef(Store.PKCS11, "01", "03"))
        return document.resealed(config, [old], keys.private_key(NEW), "it")

    @staticmethod
    def _public_pem(device: Device) -> str:
        return x509.spki_pem(device.keys.private_key(NEW).public_key())

"""A device that is a key, a certificate and the requests of a rotation: hundreds fit a process.

The requests are those of the real agent, in its order and over as many connections. What is
left out is what costs a device and not its factory: nothing is decrypted, journaled or waited
for, and the configuration goes back as it came.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
import uuid as uuids
from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from fioagent.factory import Urls
from tests.factory.peers import Credential, client_context, csr, spki_pem, subject

BEFORE: Final = (  # of the switch-over
    "CertRotationStarted",
    "Generate new certificate",
    "Lock device configuration on server",
    "Update local configuration with new key",
    "Update device specific configuration on server with new key",
)
AFTER: Final = ("Finalize aktualizr configuration", "CertRotationCompleted")
TIMEOUT_S: Final = 120  # a thousand at once wait for each other


class Seen(NamedTuple):
    """An answer, and how long it took; with connection and handshake if it was the first."""

    request: str
    seconds: float


class UnexpectedError(Exception):
    """The factory answered otherwise than a rotation needs it."""


class SimulatedDevice:
    """Asks one thing after the other. ``seen`` are the answers that it got."""

    def __init__(self, urls: Urls, root: Path, credential: Credential) -> None:
        self.urls = urls
        self.uuid = credential.uuid
        self.credential = credential
        self.seen: list[Seen] = []
        self._root = root
        self._connections: dict[str, http.client.HTTPSConnection] = {}

    # --- a device's life ---

    def check_in(self) -> None:
        self.ask("gateway", "GET", "/config", expect=(200, 204))

    def give_config(self, **files: str) -> None:
        """Files of the device layer, as a device sets its first ones."""
        self.patch_config("Set initial fioconfig device data", self.credential.key, files)

    def rotate(self, rotation_id: str) -> None:
        """From a new key to the word that it is done. UnexpectedError: it ends there."""
        key = ec.generate_private_key(ec.SECP256R1())
        renewed = self._renew(key)
        files = self.own_config()
        self.announce(key)
        files = self.own_config()
        self.patch_config("Rotating device client certificate", key, files)
        self.post_events(rotation_id, BEFORE)
        self.first_use(renewed)
        self.hang_up()  # the trial has a connection of its own
        self.own_config()
        self.post_events(rotation_id, AFTER)
        self.hang_up()

    def _renew(self, key: ec.EllipticCurvePrivateKey) -> Credential:
        self.ask("est", "GET", "/csrattrs", expect=(404,))
        self.ask("est", "GET", "/cacerts", expect=(200,))
        body = base64.encodebytes(csr(subject(self.uuid), key))
        answer = self.ask(
            "est", "POST", "/simplereenroll", body, expect=(200,), kind="application/pkcs10"
        )
        self.hang_up("est")
        leaf = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))[0]
        place = self.credential.key_file.parent / "renewed"
        return Credential.save(place, self.uuid, key, leaf)

    def own_config(self) -> dict[str, str]:
        answer = self.ask("gateway", "GET", "/config-device", expect=(200, 204))
        files = json.loads(answer or b"{}")
        return {name: entry["Value"] for name, entry in files.items()}

    def announce(self, key: ec.EllipticCurvePrivateKey) -> None:
        body = json.dumps({"next_pubkey": spki_pem(key)}).encode()
        self.ask("gateway", "PATCH", "/device", body, expect=(200,))

    def patch_config(
        self, reason: str, key: ec.EllipticCurvePrivateKey, files: dict[str, str]
    ) -> None:
        listed = [{"name": n, "value": v, "unencrypted": False} for n, v in files.items()]
        body = {"reason": reason, "files": listed, "public-key": spki_pem(key)}
        self.ask("gateway", "PATCH", "/config", json.dumps(body).encode(), expect=(201,))

    def post_events(self, rotation_id: str, names: Collection[str]) -> None:
        body = json.dumps([self._event(rotation_id, name) for name in names]).encode()
        self.ask("gateway", "POST", "/events", body, expect=(200,))

    def _event(self, rotation_id: str, name: str) -> dict[str, object]:
        return {
            "id": str(uuids.uuid5(uuids.NAMESPACE_OID, f"{self.uuid} {rotation_id} {name}")),
            "deviceTime": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "event": {
                "correlationId": rotation_id,
                "success": True,
                "targetName": "intel-corei7-64-lmp-42",
                "version": "42",
            },
            "eventType": {"id": name, "version": 0},
        }

    def first_use(self, renewed: Credential) -> None:
        """The new pair from now on, over new connections."""
        self.hang_up()
        self.credential = renewed
        self.ask("gateway", "GET", "/config", expect=(200,))

    # --- the line ---

    def hang_up(self, *servers: str) -> None:
        """Of all connections, if none is named."""
        for server in servers or tuple(self._connections):
            if connection := self._connections.pop(server, None):
                connection.close()

    def ask(
        self,
        server: str,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        expect: Collection[int],
        kind: str = "application/json",
    ) -> bytes:
        """The body of the answer. UnexpectedError: its status is another; OSError: there is none.

        http.client.HTTPException is the third way in which a connection breaks.
        """
        begun = time.monotonic()
        url = urlsplit({"gateway": self.urls.gateway, "est": self.urls.est}[server])
        if server not in self._connections:
            context = client_context(self._root, self.credential)
            self._connections[server] = http.client.HTTPSConnection(
                url.hostname or "", url.port, context=context, timeout=TIMEOUT_S
            )
        connection = self._connections[server]
        headers = {"User-Agent": "simulated", **({"Content-Type": kind} if body else {})}
        connection.request(method, url.path + path, body, headers)
        answer = connection.getresponse()
        received = answer.read()
        self.seen.append(Seen(f"{server} {method} {path}", time.monotonic() - begun))
        if answer.status not in expect:
            raise UnexpectedError(f"{server} {method} {path}: {answer.status} {received[:200]!r}")
        return received

"""The device gateway's side of a rotation, spoken as fioconfig speaks it.

Shapes and success codes are fioconfig's (internal/rotate_lock.go, config.go,
rotate_events.go). A definite no is told apart from trouble on the way: only the
former may end a rotation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from fioagent.errors import (
    CredentialRefusedError,
    NotSupportedError,
    PeerError,
    TemporaryError,
)
from fioagent.http import Response, Session
from fioagent.ports import ConfigFile

# update-server and dg-satellite answer 502 with these words to an unannounced key.
_ROTATION_REFUSED = b"Key rotation is not supported"
_REASON = "Rotating device client certificate"
_HEAD = 256  # bytes
_JSON = {"Content-Type": "application/json"}


class HttpGateway:
    """``ports.Gateway`` over mutual TLS."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def handshake(self) -> None:
        self._session.handshake()

    def check(self) -> int:
        # A date in the future makes the answer a 304 without a body, whatever the config.
        headers = {"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"}
        # Servers may ignore it and send the whole; how it begins is enough here.
        answer = self._session.request("GET", "/config", headers=headers, head=_HEAD)
        status = self._expect(answer, "check the credential", (200, 204, 304)).status
        if status == 200 and not answer.body.lstrip().startswith(b"{"):
            # A page of whatever stands before the gateway has confirmed nothing.
            raise TemporaryError(
                f"cannot check the credential: {self._session.host} answered 200 "
                f"with no configuration: {answer.words()}"
            )
        return status

    def device_config(self) -> bytes | None:
        answer = self._session.request("GET", "/config-device")
        self._expect(answer, "read the device's configuration", (200, 204))
        return answer.body if answer.status == 200 else None

    def patch_config(self, files: Sequence[ConfigFile], public_key_pem: str) -> None:
        body = {
            "reason": _REASON,
            "files": [_as_json(file) for file in files],
            "public-key": public_key_pem,
        }
        answer = self._session.request("PATCH", "/config", body=_encoded(body), headers=_JSON)
        self._expect(answer, "store the re-encrypted configuration", (200, 201, 202, 204))

    def set_next_key(self, public_key_pem: str) -> None:
        body = _encoded({"next_pubkey": public_key_pem})
        answer = self._session.request("PATCH", "/device", body=body, headers=_JSON)
        # fioconfig wants exactly 200; a lock taken for refused would throw its key away.
        self._expect(answer, "announce the new key", (200, 201, 202, 204))

    def post_events(self, events: Sequence[Mapping[str, object]]) -> None:
        body = _encoded(list(events))
        answer = self._session.request("POST", "/events", body=body, headers=_JSON)
        self._expect(answer, "report events", (200, 201, 202, 204))

    def _expect(self, answer: Response, purpose: str, wanted: tuple[int, ...]) -> Response:
        status = answer.status
        if status in wanted:
            return answer
        said = f"cannot {purpose}: {self._session.host} answered {status}: {answer.words()}"
        if status in (401, 403) or (status == 502 and _ROTATION_REFUSED in answer.body):
            raise CredentialRefusedError(said, status=status)
        if status in (404, 405):
            raise NotSupportedError(said, status=status)
        if status < 400 or status >= 500 or status in (408, 425, 429):
            raise TemporaryError(said, retry_after_s=answer.retry_after_s())
        raise PeerError(said, status=status)


def _as_json(file: ConfigFile) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": file.name,
        "value": file.value,
        "unencrypted": file.unencrypted,
    }
    if file.on_changed:
        entry["on-changed"] = list(file.on_changed)
    return entry


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

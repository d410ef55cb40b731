"""The device gateway, spoken to as fioconfig speaks to it.

Shapes and success codes are fioconfig's (internal/app.go, rotate_lock.go,
config.go, rotate_events.go, fiotest/api.go). A definite no is told apart from
trouble on the way: only the former may end a rotation.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fioagent import causes
from fioagent.errors import (
    CredentialRefusedError,
    NotSupportedError,
    PeerError,
    TemporaryError,
)
from fioagent.http import Response, Session
from fioagent.ports import ConfigFile, FetchedConfig, Upload

# update-server and dg-satellite answer 502 with these words to an unannounced key.
_ROTATION_REFUSED = b"Key rotation is not supported"
_REASON = "Rotating device client certificate"
_INITIAL_REASON = "Set initial fioconfig device data"
_TEST_TARGET = "fioconfig-action"
_HEAD = 256  # bytes
_OCTETS = "application/octet-stream"
_TOO_LARGE = 413  # public gateways take 100 KiB at once; a whole configuration may have 1 MB
_JSON = {"Content-Type": "application/json"}


class HttpGateway:
    """``ports.Gateway`` over mutual TLS."""

    def __init__(self, session: Session, config: Session | None = None) -> None:
        """``config``: a session whose base is the whole address of the configuration."""
        self._session = session
        self._config, self._config_path = (session, "/config") if config is None else (config, "")

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

    def config(self, since: str | None) -> FetchedConfig:
        headers = {} if since is None else {"If-Modified-Since": since}
        answer = self._config.request("GET", self._config_path, headers=headers)
        status = self._expect(answer, "fetch the configuration", (200, 204, 304)).status
        date = answer.headers.get("date")
        return FetchedConfig(answer.body if status == 200 else None, status != 204, date)

    def initial_config(self, files: Sequence[ConfigFile]) -> None:
        body = {
            "reason": _INITIAL_REASON,
            "files": [_as_json(file) for file in files],
            "public-key": "",
        }
        answer = self._patch_config(body)
        self._expect(answer, "tell the gateway what is on this device", (200, 201, 202, 204))

    def device_config(self) -> bytes | None:
        answer = self._config.request("GET", f"{self._config_path}-device")
        self._expect(answer, "read the device's configuration", (200, 204))
        return answer.body if answer.status == 200 else None

    def patch_config(self, files: Sequence[ConfigFile], public_key_pem: str) -> None:
        body = {
            "reason": _REASON,
            "files": [_as_json(file) for file in files],
            "public-key": public_key_pem,
        }
        answer = self._patch_config(body)
        if answer.status == _TOO_LARGE and len(files) > 1:
            # Files that a change does not name stay, so what is too much at once goes in parts.
            middle = len(files) // 2
            for part in (files[:middle], files[middle:]):
                self.patch_config(part, public_key_pem)
            return
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

    def begin_test(self, name: str, identifier: str) -> str:
        body = _encoded({"name": name, "target": _TEST_TARGET, "test-id": identifier})
        answer = self._session.request("POST", "/tests", body=body, headers=_JSON)
        self._expect(answer, "begin the test", (200, 201))
        return answer.body.decode("utf-8", "replace").strip()

    def end_test(
        self, identifier: str, *, passed: bool, details: str, artifacts: Sequence[str]
    ) -> Mapping[str, Upload]:
        result = {"status": "PASSED" if passed else "FAILED", "details": details}
        body = _encoded({**result, "artifacts": list(artifacts)})
        path = f"/tests/{quote(identifier, safe='')}"
        answer = self._session.request("PUT", path, body=body, headers=_JSON)
        self._expect(answer, "report the test's result", (200, 201, 202))
        try:
            return _uploads(json.loads(answer.body or b"{}"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise PeerError(
                f"cannot upload artifacts: {self._session.host} does not say where: "
                f"{answer.words()}",
                status=answer.status,
            ) from error

    def send_artifact(self, upload: Upload, content: bytes) -> None:
        headers = {"Content-Type": upload.content_type}
        base = self._session.base_url
        if upload.url.startswith(f"{base}/"):
            answer = self._session.request(
                "PUT", upload.url.removeprefix(base), body=content, headers=headers
            )
        elif upload.url.startswith("https://"):
            # Signed for this one use, at a store of the gateway's choice: no business of the
            # device's credential, and not a server of the factory.
            try:
                elsewhere = Session(upload.url, ssl.create_default_context())
            except ValueError as error:
                why = f"what the gateway names is no address: {error}"
                raise PeerError(f"cannot upload an artifact: {why}") from error
            answer = elsewhere.request("PUT", "", body=content, headers=headers)
            elsewhere.close()
        else:
            raise PeerError("cannot upload an artifact: the gateway names a place without https://")
        self._expect(answer, "upload an artifact", (200, 201, 202, 204))

    def _patch_config(self, body: Mapping[str, object]) -> Response:
        return self._config.request("PATCH", self._config_path, body=_encoded(body), headers=_JSON)

    def _expect(self, answer: Response, purpose: str, wanted: tuple[int, ...]) -> Response:
        status = answer.status
        if status in wanted:
            return answer
        said = f"cannot {purpose}: {self._session.host} answered {status}: {answer.words()}"
        if not answer.was_asked:
            # The gateway asks for a certificate always: this is somebody else's word.
            wait = answer.retry_after_s()
            raise TemporaryError.of(causes.STRIPPED, {"error": said}, retry_after_s=wait)
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


def _uploads(value: Any) -> dict[str, Upload]:
    return {
        name: Upload(str(where["url"]), str(where.get("content-type") or _OCTETS))
        for name, where in value.items()
    }


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

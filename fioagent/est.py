"""Re-enrolment over EST (RFC 7030, RFC 8951), in the bytes that every server tried takes.

What is refused here is an answer that is no certs-only message. Whether the
certificate in it is any good is decided in ``certcheck``.
"""

from __future__ import annotations

import base64
import binascii
import textwrap

from fioagent import pkcs7
from fioagent.errors import (
    CredentialRefusedError,
    NotSupportedError,
    PeerError,
    TemporaryError,
)
from fioagent.http import Response, Session

_DEFAULT_WAIT_S = 300.0  # RFC 7030 wants Retry-After with every 202; not every server sends it
_TYPES = ("application/pkcs7-mime", "application/x-pkcs7-mime", "")


class HttpEst:
    """``ports.Est`` over mutual TLS."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def handshake(self) -> None:
        self._session.handshake()

    def reenroll(self, request_der: bytes) -> list[bytes]:
        # 64 columns and a newline at the end: libest refuses a body without one.
        wrapped = textwrap.fill(base64.b64encode(request_der).decode("ascii"), 64) + "\n"
        answer = self._session.request(
            "POST",
            "/simplereenroll",
            body=wrapped.encode("ascii"),
            headers={
                "Content-Type": "application/pkcs10",  # no parameters: estserver compares it whole
                "Content-Transfer-Encoding": "base64",  # older servers decode only then
                "Accept": "*/*",
                "Connection": "close",
            },
        )
        # RFC 7030 section 4.2.3 wants 200; foundriesio/estserver answers 201.
        if answer.status not in (200, 201):
            raise self._refusal(answer)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _TYPES:
            raise PeerError(
                f"cannot enrol: {self._peer} answered {answer.status} with {kind}, "
                f"not with a certificate: {answer.words()}",
                status=answer.status,
            )
        try:
            return pkcs7.certificates(_decoded(answer.body))
        except ValueError as error:
            raise PeerError(
                f"cannot enrol: the answer of {self._peer} is damaged: {error}",
                status=answer.status,
            ) from error

    @property
    def _peer(self) -> str:
        return f"{self._session.host}:{self._session.port}"

    def _refusal(self, answer: Response) -> Exception:
        status, wait = answer.status, answer.retry_after_s()
        said = f"cannot enrol: {self._peer} answered {status}: {answer.words()}"
        if status == 202:
            return TemporaryError(
                f"cannot enrol yet: {self._peer} accepted the request and wants us to wait",
                retry_after_s=_DEFAULT_WAIT_S if wait is None else wait,
                accepted=True,
            )
        if status >= 500 or status in (408, 425, 429):
            return TemporaryError(said, retry_after_s=wait)
        if status in (401, 403):
            return CredentialRefusedError(said, status=status)
        if status in (404, 405):
            return NotSupportedError(
                said, status=status, hint="is this the address of an EST server?"
            )
        if 300 <= status < 400:
            target = answer.headers.get("location", "(no Location)")
            return PeerError(
                f"cannot enrol: {self._peer} redirects to {target!r}",
                status=status,
                hint="give that address with --est-server if it is the right one",
            )
        hint = None
        if b"Signature algorithm" in answer.body:
            hint = "the server's CA is signed with another algorithm than ecdsa-with-SHA256"
        return PeerError(said, status=status, hint=hint)


def _decoded(body: bytes) -> bytes:
    """DER out of an answer's body.

    RFC 8951 section 3.1: white space anywhere is tolerated. libest ends some
    answers with a NUL. Binary DER (OpenXPKI's output.encoding) cannot be
    mistaken: base64 of a SEQUENCE starts with "M", never with the byte 0x30.
    """
    if body[:1] == b"\x30":
        return body
    compact = b"".join(body.removesuffix(b"\x00").split())
    if not compact:
        raise ValueError("it is empty")
    try:
        return base64.b64decode(compact, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error

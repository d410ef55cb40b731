"""EST (RFC 7030, RFC 8951), in the bytes that every server tried takes.

What is refused here is an answer that is no certs-only message. Whether the
certificate in it is any good is decided in ``certcheck``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from fioagent import csrattrs, esturl, pkcs7, transfer
from fioagent.csrattrs import Demands
from fioagent.errors import (
    AgentError,
    CredentialRefusedError,
    NotSupportedError,
    PeerError,
    TemporaryError,
    one_line,
)
from fioagent.http import Response, Session
from fioagent.model import Issuance

_DEFAULT_WAIT_S: Final = 300.0  # RFC 7030 wants Retry-After with every 202; not every server does
_USUAL_TYPE: Final = "application/pkcs7-mime"
_TYPES: Final = (_USUAL_TYPE, "application/x-pkcs7-mime", "")
_LOGIN_HINTS: Final = {True: "it asks for a user and a password, which a device does not have"}
_QUESTION_S: Final = 10.0  # for what a rotation can do without
_MOST_REDIRECTS: Final = 3
_QUESTION_REDIRECTS: Final = (301, 302, 303, 307, 308)
# The others turn a POST into a GET, RFC 9110 section 15.4.
_REQUEST_REDIRECTS: Final = (307, 308)
_MARKUP: Final = re.compile(rb"(?s)<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.IGNORECASE)
_BUSY: Final = (429, 503)  # RFC 6585 section 4, RFC 9110 section 15.6.4
_NOT_KNOWN: Final = (204, 404, 405, 501)  # RFC 7030 section 4.5.2: the server asks for nothing


class HttpEst:
    """``ports.Est`` over mutual TLS."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def handshake(self) -> None:
        self._session.handshake()

    def csrattrs(self, renewed_san: bytes | None) -> Demands:
        try:
            answer = self._exchange("GET", "/csrattrs", None, {"Accept": "*/*"})
        except (TemporaryError, PeerError) as error:
            return Demands(notes=(f"csrattrs not known: {error}",), known=False)
        if answer.status in _BUSY:
            busy = f"csrattrs not known: the server answered {answer.status}"
            return Demands(notes=(busy,), known=False)
        if answer.status in _NOT_KNOWN or (answer.status == 200 and not answer.body.strip()):
            return Demands()
        if answer.status != 200:
            return Demands(notes=(f"the server answered {answer.status} to csrattrs",))
        try:
            return csrattrs.parse(transfer.decoded(answer.body).der, renewed_san)
        except ValueError as error:
            return Demands(notes=(f"the server's csrattrs cannot be read: {error}",))

    def cacerts(self) -> list[bytes]:
        answer = self._exchange("GET", "/cacerts", None, {"Accept": "*/*"})
        # RFC 7030 section 4.1.3: another status MUST end it.
        if answer.status != 200:
            raise self._refusal(answer, "read the CA certificates")
        return self._certificates(answer, "read the CA certificates").certificates

    def reenroll(
        self, request_der: bytes, linked: Callable[[bytes], bytes] | None = None
    ) -> Issuance:
        headers = {
            "Content-Type": "application/pkcs10",  # no parameters: estserver compares it whole
            "Content-Transfer-Encoding": "base64",  # older servers decode only then
            "Accept": "*/*",
            "Connection": "close",
        }
        answer = self._exchange("POST", "/simplereenroll", request_der, headers, linked)
        # RFC 7030 section 4.2.3 wants 200; foundriesio/estserver answers 201.
        if answer.status not in (200, 201):
            raise self._refusal(answer, "enrol")
        return self._certificates(answer, "enrol")

    @property
    def _peer(self) -> str:
        return f"{self._session.host}:{self._session.port}"

    def _exchange(
        self,
        method: str,
        operation: str,
        request_der: bytes | None,
        headers: Mapping[str, str],
        linked: Callable[[bytes], bytes] | None = None,
    ) -> Response:
        """The answer, after at most _MOST_REDIRECTS redirects within the server."""
        path = operation
        for _ in range(_MOST_REDIRECTS + 1):
            if linked is not None:
                answer = self._session.request_bound(
                    method, path, body=_encoding(linked), headers=headers
                )
            else:
                body = None if request_der is None else transfer.encoded(request_der)
                within_s = _QUESTION_S if method == "GET" else None
                answer = self._session.request(
                    method, path, body=body, headers=headers, within_s=within_s
                )
            if answer.status not in _QUESTION_REDIRECTS:
                return answer
            path = self._redirected(answer, method, path)
        raise PeerError(f"cannot go on: {self._peer} redirects without end", status=answer.status)

    def _redirected(self, answer: Response, method: str, path: str) -> str:
        base = self._session.base_url
        location = answer.headers.get("location", "")
        told = f"cannot go on: {self._peer} redirects to {location or 'nowhere'!r}"
        if method != "GET" and answer.status not in _REQUEST_REDIRECTS:
            raise PeerError(
                f"{told} with {answer.status}, which would lose the request", status=answer.status
            )
        try:
            return esturl.redirected(base, path if "://" in path else base + path, location)
        except ValueError as error:
            raise PeerError(
                f"{told}: {error}",
                status=answer.status,
                hint="give that address with --est-server if it is the right one",
            ) from None

    def _certificates(self, answer: Response, purpose: str) -> Issuance:
        kind = _kind(answer)
        if kind not in _TYPES:
            raise PeerError(
                f"cannot {purpose}: {self._peer} answered {answer.status} with "
                f"{one_line(kind, 60)}, not with a certificate: {_words(answer)}",
                status=answer.status,
            )
        try:
            found = transfer.decoded(answer.body)
            certificates = pkcs7.certificates(found.der)
        except ValueError as error:
            text = answer.body.lstrip()[:1].isalpha() and b" " in answer.body.strip()
            said = f": {_words(answer)}" if text else ""  # OpenXPKI: text under this type
            raise PeerError(
                f"cannot {purpose}: the answer of {self._peer} is damaged: {error}{said}",
                status=answer.status,
            ) from error
        notes = () if kind == _USUAL_TYPE else (f"the server named it {kind or 'nothing'}",)
        return Issuance(certificates, (*notes, *found.notes))

    def _refusal(self, answer: Response, purpose: str) -> AgentError:
        status, wait = answer.status, answer.retry_after_s()
        asks = "www-authenticate" in answer.headers
        said = f"cannot {purpose}: {self._peer} answered {status}: {_words(answer)}"
        if status == 202:
            return TemporaryError(
                f"cannot {purpose} yet: {self._peer} accepted the request and wants us to wait",
                retry_after_s=_DEFAULT_WAIT_S if wait is None else wait,
                accepted=True,
            )
        if status >= 500 or status in (408, 425, 429):
            return TemporaryError(said, retry_after_s=wait)
        if status in (401, 403):
            return CredentialRefusedError(said, status=status, hint=_LOGIN_HINTS.get(asks))
        if status in (404, 405):
            return NotSupportedError(
                said, status=status, hint="is this the address of an EST server?"
            )
        hint = None
        if b"Signature algorithm" in answer.body:
            hint = "the server's CA is signed with another algorithm than ecdsa-with-SHA256"
        return PeerError(said, status=status, hint=hint)


def _encoding(linked: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda binding: transfer.encoded(linked(binding))


def _kind(answer: Response) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _words(answer: Response) -> str:
    """What the server says: text as it is, without the tags of HTML and XML."""
    kind = _kind(answer)
    if kind in _TYPES[:2]:
        try:  # RFC 7030 section 4.2.3: a refusal may come as a CMC message
            message = transfer.decoded(answer.body).der
        except ValueError:
            return answer.words()
        if message[:1] == b"\x30":
            return f"(a CMC error response of {len(message)} bytes)"
    if kind.endswith(("html", "xml")):
        plain = _MARKUP.sub(b" ", answer.body[:16384])
        return Response(answer.status, {}, plain, answer.reason).words()
    return answer.words()

"""TLS as a device speaks it: one trust file, the leaf certificate alone, and alerts told plainly.

Under TLS 1.3 a server judges the client's certificate after the client's
handshake has ended. The verdict arrives with the first read, and a write that
comes before it breaks with a meaningless end-of-file. So whoever wants to know
must read (RFC 8446 section 4.4.2, appendix E.1; seen with Go and OpenSSL servers).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fioagent import causes, dial, openssl
from fioagent.errors import AgentError, CredentialRefusedError, TemporaryError
from fioagent.line import HANDSHAKE_TIMEOUT_S
from fioagent.proxy import Proxy

# How long a silent TLS 1.3 server may still send its verdict, as a multiple of
# the time that connecting took. Servers in the field answer with a session
# ticket within one round trip; this is for those that do not.
_VERDICT_FACTOR: Final = 5.0
_VERDICT_MINIMUM_S: Final = 1.0

# Alerts that speak of our certificate, RFC 8446 section 6.2, as OpenSSL names them.
_REFUSALS: Final = (
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",  # a signature that does not fit: the issuer's, or ours
)
_ALERT_HINTS: Final = {
    "unknown ca": "the CA that issued it has to be among the factory's device CAs",
    "certificate expired": "compare its validity, the device's clock and the server's clock",
    "decrypt error": "its signature does not fit: has its CA a new key under the same name?",
    "certificate revoked": "the operator has to look at the factory's list of revoked CAs",
}
_SSL_OP_TLSEXT_PADDING: Final = 1 << 4  # in OP_ALL, and without a name in Python
_TLS_HINTS: Final = {
    "WRONG_VERSION_NUMBER": "is plain HTTP, or another program, on this port?",
    "HTTP_REQUEST": "is plain HTTP on this port?",
    "TLSV1_ALERT_PROTOCOL_VERSION": "TLS 1.2 and 1.3 are spoken here, and no older one",
    "UNSUPPORTED_PROTOCOL": "TLS 1.2 and 1.3 are spoken here, and no older one",
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What servers that are not as they should be may need.

    Attributes:
        strict: VERIFY_X509_STRICT, RFC 5280 to the letter.
        common_name: a server's name may stand in the common name alone.
        send_chain: issuers out of the trust file go out behind our certificate.
    """

    strict: bool = False
    common_name: bool = False
    send_chain: bool = False


def client_context(anchors_pem: bytes, choices: Choices | None = None) -> ssl.SSLContext:
    """A client context that trusts ``anchors_pem`` and nothing else, TLS 1.2 or later.

    Raises:
        ssl.SSLError: no certificate in ``anchors_pem``.
    """
    choices = choices or Choices()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    openssl.forget_errors()
    try:
        context.load_verify_locations(cadata=anchors_pem.decode("ascii", "ignore"))
    except ValueError as error:  # nothing at all in it
        raise ssl.SSLError(str(error)) from error
    # Python 3.13 sets it in its default context; the PKI of Foundries' own
    # documents has a root whose basicConstraints are not critical.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if choices.strict:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    # RFC 9525 drops the common name; a server has to have a SubjectAltName.
    context.hostname_checks_common_name = choices.common_name
    # NO_TICKET: no connection is taken up again, so under TLS 1.2 none is asked for; under
    # 1.3 OpenSSL has no way to say so.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    # 200 bytes of nothing at each handshake, for load balancers of 2013 (RFC 7685); Go,
    # and so fioconfig, never sent them.
    context.options &= ~_SSL_OP_TLSEXT_PADDING
    if not choices.send_chain:
        with contextlib.suppress(openssl.OpenSslError):
            # estserver answers 401 to two certificates, and Python has no switch for it.
            openssl.send_leaf_only(context)
    return context


def noticing(context: ssl.SSLContext) -> Callable[[], bool]:
    """Says whether a server has asked for our certificate; True where that cannot be known."""
    try:
        return openssl.notice_requests(context)
    except openssl.OpenSslError:
        return lambda: True


def handshake(context: ssl.SSLContext, host: str, port: int, proxy: Proxy | None = None) -> None:
    """A whole handshake and the server's verdict on our certificate; no byte of HTTP.

    Raises:
        CredentialRefusedError: the server, and nobody else, said so in an alert.
        TemporaryError: not reached, not trusted, or the line broke.
    """
    attempt = _Handshake(context, host)
    try:
        with dial.connect(host, port, proxy) as line:
            attempt.run(line)
    except OSError as error:
        alert = refusal(error)
        if alert is None or not attempt.server_is_authentic:
            raise explained(error, host, port) from error
        raise refused(f"{host}:{port}", alert) from error


class _Handshake:
    """TLS in memory, so that we see what goes out, and know whose word an alert is.

    Anybody on the line can send an alert in the clear. One about our certificate
    counts only after OpenSSL has checked the server's: under TLS 1.3 the handshake
    is over by then, under 1.2 our certificate has gone out. (Under 1.2 the alert
    itself stays in the clear; who can relay the server can also cut the line.)
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.server_is_authentic = False

    def run(self, line: socket.socket) -> None:
        started = time.monotonic()
        while not self._is_shaken(line):
            self._receive(line, started + HANDSHAKE_TIMEOUT_S - time.monotonic())
        self.server_is_authentic = True
        if self._tls.version() == "TLSv1.3":  # 1.2: the server has judged before its Finished
            took = time.monotonic() - started
            self._await_verdict(line, max(_VERDICT_MINIMUM_S, _VERDICT_FACTOR * took))

    def _is_shaken(self, line: socket.socket) -> bool:
        openssl.forget_errors()
        try:
            self._tls.do_handshake()
            shaken = True
        except ssl.SSLWantReadError:
            shaken = False
        flight = self._outgoing.read()
        line.sendall(flight)
        # A record of type handshake whose first message is a certificate, RFC 5246 section 7.4.
        if flight[:1] == b"\x16" and flight[5:6] == b"\x0b":
            self.server_is_authentic = True
        return shaken

    def _await_verdict(self, line: socket.socket, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while (left := deadline - time.monotonic()) > 0:
            openssl.forget_errors()
            try:
                if not self._tls.read(1):
                    raise ConnectionResetError("the server closed the connection")
                return  # it speaks first: it is content with us
            except ssl.SSLWantReadError:
                session = self._tls.session
                if session is not None and session.has_ticket:
                    return  # tickets come only after our certificate was accepted
            try:
                self._receive(line, left)
            except TimeoutError:
                return  # silent, and that is no refusal

    def _receive(self, line: socket.socket, patience_s: float) -> None:
        if patience_s <= 0:
            raise TimeoutError
        line.settimeout(patience_s)
        received = line.recv(16 * 1024)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._incoming.write(received)


def refused(peer: str, alert: str) -> CredentialRefusedError:
    """What ``alert`` means to a person at the device."""
    hint = _ALERT_HINTS.get(alert, causes.REFUSED.remedy)
    facts = {"peer": peer, "alert": alert}
    return CredentialRefusedError.of(causes.REFUSED, facts, hint=hint, alert=alert)


def refusal(error: OSError) -> str | None:
    """The alert about our certificate that ``error`` is; None where it is another error."""
    reason = ((error.reason if isinstance(error, ssl.SSLError) else None) or "").upper()
    if "ALERT" in reason and reason.endswith(_REFUSALS):
        return reason.partition("ALERT_")[2].replace("_", " ").lower()
    return None


def explained(error: OSError, host: str, port: int) -> AgentError:
    """``error`` of a connection to ``host`` in the words of a person at the device."""
    peer = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _plain(error.verify_message)
        return TemporaryError.of(causes.NOT_TRUSTED, {"peer": peer, "reason": reason})
    unsigned = openssl.sign_error() if isinstance(error, ssl.SSLError) else None
    if isinstance(unsigned, AgentError):
        return unsigned  # a token would not sign
    if unsigned is not None:
        raise unsigned  # a person, or a mistake of ours
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return TemporaryError(
            f"cannot speak TLS with {peer}: {_plain(reason or str(error))}",
            hint=_TLS_HINTS.get(reason),
        )
    if isinstance(error, socket.gaierror):
        return TemporaryError.of(causes.NAME, {"host": host, "reason": error.strerror})
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        reason = "timed out"
    plain = f"{reason[:1].lower()}{reason[1:]}"
    return TemporaryError.of(causes.NOT_REACHED, {"peer": peer, "reason": plain})


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower().rstrip(".")

"""Whose certificate it is that we were shown instead of the server's: a proxy's that intercepts.

For the message alone. A second handshake takes the certificate without trust and
without our own; nothing is sent over it.
"""

from __future__ import annotations

import ssl
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from fioagent import causes, dial
from fioagent.errors import AgentError, TemporaryError, one_line
from fioagent.line import Line
from fioagent.proxy import Proxy

# X509_V_ERR_*: the chain does not lead to an anchor of ours. Not: a wrong name, an expired one.
_FOREIGN: Final = (18, 19, 20, 21)


def told(
    error: AgentError,
    cause: ssl.SSLCertVerificationError,
    host: str,
    port: int,
    proxy: Proxy | None,
) -> AgentError:
    """``error`` with the issuer of the certificate that was shown; itself where that is no help."""
    if cause.verify_code not in _FOREIGN:
        return error
    issuer = _issuer(host, port, proxy)
    if issuer is None:
        return error
    return TemporaryError.of(causes.INTERCEPTED, {"error": error, "issuer": issuer})


def _issuer(host: str, port: int, proxy: Proxy | None) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        line = Line(context, dial.connect(host, port, proxy), host)
        shown = line.tls.getpeercert(binary_form=True)
        line.end()
        if not shown:
            return None
        issuer = x509.load_der_x509_certificate(shown).issuer
        names = [
            str(attribute.value)
            for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
            for attribute in issuer.get_attributes_for_oid(oid)
        ]
    except (OSError, ValueError, AgentError):
        return None
    return f'"{one_line(", ".join(names), 80)}"' if names else None

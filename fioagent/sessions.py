"""Connections by credential: one session per peer, kept alive for as long as the agent runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fioagent import causes
from fioagent.errors import ConfigError
from fioagent.model import CredentialRef
from fioagent.ports import Disk, KeyStore
from fioagent.settings import Settings
from fioagent.sota import Sota
from fioagent.x509 import Certificate, CertificateError, pem_certificates

if TYPE_CHECKING:
    from fioagent.est import HttpEst
    from fioagent.gateway import HttpGateway
    from fioagent.http import Session

EST: Final = "est"
GATEWAY: Final = "gateway"

# TLS and HTTP are imported with the first connection: "fioagent status" makes none, and starts
# faster.


class HttpSessions:
    """``ports.Sessions`` by the trust file and the gateway that sota.toml names."""

    def __init__(
        self,
        disk: Disk,
        keys: KeyStore,
        sota: Callable[[], Sota],
        settings: Settings,
    ) -> None:
        self._settings = settings
        self._config_url = settings.config_url or None
        self._disk = disk
        self._keys = keys
        self._sota = sota
        self._sessions: dict[tuple[str, CredentialRef, str], Session] = {}

    def gateway(self, credential: CredentialRef) -> HttpGateway:
        from fioagent.gateway import HttpGateway  # noqa: PLC0415  # see above

        session = self._session(self._sota().require("tls.server"), credential, GATEWAY)
        if self._config_url is None:
            return HttpGateway(session)
        return HttpGateway(session, self._session(self._config_url, credential, GATEWAY))

    def est(self, url: str, credential: CredentialRef) -> HttpEst:
        from fioagent.est import HttpEst  # noqa: PLC0415  # see above

        return HttpEst(self._session(url, credential, EST))

    def trusted_roots(self) -> list[Certificate]:
        path, content = self._anchors(GATEWAY)
        try:
            roots = pem_certificates(content)
        except CertificateError as error:
            raise ConfigError(f"cannot read the trust file {path}: {error}") from error
        if not roots:
            raise ConfigError.of(causes.TRUST_FILE, {"path": path})
        return roots

    def probe(
        self, credential: CredentialRef, anchors_pem: bytes, est_url: str | None = None
    ) -> None:
        url = est_url or self._sota().require("tls.server")
        self._new(url, credential, EST if est_url else GATEWAY, anchors_pem).handshake()

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def _session(self, url: str, credential: CredentialRef, peer: str) -> Session:
        session = self._sessions.get((url, credential, peer))
        if session is None:
            session = self._sessions[url, credential, peer] = self._new(url, credential, peer)
        return session

    def _new(
        self, url: str, credential: CredentialRef, peer: str, anchors_pem: bytes | None = None
    ) -> Session:
        import ssl  # noqa: PLC0415  # see above

        from fioagent import tls  # noqa: PLC0415  # see above
        from fioagent.http import EST_LIMIT, Limits, Session  # noqa: PLC0415  # see above

        path, content = ("given", anchors_pem) if anchors_pem else self._anchors(peer)
        known, limits, choices = self._settings, Limits(), tls.Choices()
        if peer == EST:
            limits = Limits(EST_LIMIT, known.est_timeout.total_seconds())
            choices = tls.Choices(
                strict=known.est_strict_x509,
                common_name=known.est_accept_common_name,
                send_chain=known.est_send_chain,
            )
        try:
            context = tls.client_context(content, choices)
        except ssl.SSLError as error:
            raise ConfigError.of(causes.TRUST_FILE, {"path": path}) from error
        self._keys.use_for_tls(credential, context)
        parts = urlsplit(url)
        proxy = known.proxy_to(peer, parts.hostname or "", parts.port or 443)
        return Session(url, context, proxy, limits, tls.noticing(context))

    def _anchors(self, peer: str) -> tuple[str, bytes]:
        path = self._settings.est_trust_file if peer == EST else None
        path = path or self._sota().require("import.tls_cacert_path")
        return path, self._disk.read(path)

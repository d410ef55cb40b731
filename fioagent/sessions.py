"""Connections by credential: one session per peer, kept alive for as long as the agent runs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from fioagent.errors import ConfigError
from fioagent.model import CredentialRef
from fioagent.ports import Disk, KeyStore
from fioagent.sota import Sota
from fioagent.x509 import Certificate, CertificateError, pem_certificates

if TYPE_CHECKING:
    from fioagent.est import HttpEst
    from fioagent.gateway import HttpGateway
    from fioagent.http import Session

# HTTP is imported with the first connection: "fioagent status" makes none and starts faster.


class HttpSessions:
    """``ports.Sessions`` by the trust file and the gateway that sota.toml names."""

    def __init__(
        self,
        disk: Disk,
        keys: KeyStore,
        sota: Callable[[], Sota],
        config_url: str | None = None,
    ) -> None:
        """``config_url``: where the configuration is, instead of /config of tls.server."""
        self._config_url = config_url or None
        self._disk = disk
        self._keys = keys
        self._sota = sota
        self._sessions: dict[tuple[str, CredentialRef], Session] = {}

    def gateway(self, credential: CredentialRef) -> HttpGateway:
        from fioagent.gateway import HttpGateway  # noqa: PLC0415  # see above

        session = self._session(self._sota().require("tls.server"), credential)
        if self._config_url is None:
            return HttpGateway(session)
        return HttpGateway(session, self._session(self._config_url, credential))

    def est(self, url: str, credential: CredentialRef) -> HttpEst:
        from fioagent.est import HttpEst  # noqa: PLC0415  # see above

        return HttpEst(self._session(url, credential))

    def trusted_roots(self) -> list[Certificate]:
        path, content = self._anchors()
        try:
            roots = pem_certificates(content)
        except CertificateError as error:
            raise ConfigError(f"cannot read the trust file {path}: {error}") from error
        if not roots:
            raise ConfigError(f"cannot use the trust file {path}: no certificate in it")
        return roots

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def _session(self, url: str, credential: CredentialRef) -> Session:
        from fioagent import tls  # noqa: PLC0415  # see above
        from fioagent.http import Session  # noqa: PLC0415  # see above

        session = self._sessions.get((url, credential))
        if session is None:
            path, content = self._anchors()
            try:
                context = tls.client_context(content)
            except ssl.SSLError as error:
                raise ConfigError(
                    f"cannot use the trust file {path}: no certificate in it"
                ) from error
            self._keys.use_for_tls(credential, context)
            session = self._sessions[url, credential] = Session(url, context)
        return session

    def _anchors(self) -> tuple[str, bytes]:
        path = self._sota().require("import.tls_cacert_path")
        return path, self._disk.read(path)

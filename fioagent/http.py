"""HTTP requests with one credential to one peer over one kept-alive connection.

``requests`` does HTTP; trust and identity are the given context's alone: no
environment, no system store, no redirects, no compression, and an answer that
is too long or too slow is cut.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from fioagent import __version__, tls
from fioagent.errors import TemporaryError, one_line

MAX_WAIT_S: Final = 7 * 24 * 3600
MAX_BODY: Final = 4 * 1024 * 1024  # bytes; a configuration is at most 1 MB, before it is encoded
READ_TIMEOUT_S: Final = 30.0
TOTAL_TIMEOUT_S: Final = 120.0
_CHUNK: Final = 16 * 1024
_AMBIGUOUS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, whole.

    Attributes:
        status: HTTP status.
        headers: names in lower case.
        body: at most MAX_BODY bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def words(self) -> str:
        """The peer's own text, cut and made safe for one line."""
        return one_line(self.body[:2048].decode("utf-8", "replace"), 300) or "(no text)"

    def retry_after_s(self) -> float | None:
        """Seconds, a week at most; None where the peer did not say, or not in seconds."""
        value = self.headers.get("retry-after", "").strip()
        if not (value.isascii() and value.isdecimal()):
            return None
        return float(min(int(value[:12]), MAX_WAIT_S))


class Session:
    """One peer, one credential."""

    def __init__(self, base_url: str, context: ssl.SSLContext) -> None:
        """``base_url`` may carry a path; ``context`` holds trust and identity."""
        parts = urlsplit(base_url)
        self.base_url = base_url.rstrip("/")
        self.host = parts.hostname or ""
        self.port = parts.port or 443
        self._context = context
        self._answered = False
        self._session = requests.Session()
        # Else REQUESTS_CA_BUNDLE would widen the trust and HTTPS_PROXY reroute it.
        self._session.trust_env = False
        self._session.mount("https://", _Adapter(context))
        self._session.headers.clear()
        self._session.headers.update(
            {"User-Agent": f"fioagent/{__version__}", "Accept-Encoding": "identity"}
        )

    def close(self) -> None:
        self._session.close()

    def handshake(self) -> None:
        """TLS alone, on a connection of its own."""
        tls.handshake(self._context, self.host, self.port)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        head: int | None = None,
    ) -> Response:
        """Whatever status the peer answers; of the body of a 200 at most ``head`` bytes.

        Raises:
            CredentialRefusedError: a TLS alert about our certificate.
            TemporaryError: not reached, not trusted, too slow, or too much.
        """
        try:
            answer = self._exchange(method, path, body, headers or {}, head=head)
        except requests.RequestException as error:
            cause = _cause(error)
            late = isinstance(cause, _AMBIGUOUS) and not isinstance(cause, ConnectionRefusedError)
            if late and self._answered and method == "GET":
                # A connection that was kept alive may have died meanwhile. Only a question
                # is repeated: after a change, that its answer was lost has to be known.
                self._answered = False
                self._session.close()
                return self.request(method, path, body=body, headers=headers, head=head)
            if late or tls.refusal(cause) is not None:
                # A broken write may hide a late alert, and an alert may be anybody's word;
                # a handshake that is read to its end tells.
                self.handshake()
            raise tls.explained(cause, self.host, self.port) from error
        self._answered = True
        return answer

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        head: int | None,
    ) -> Response:
        deadline = time.monotonic() + TOTAL_TIMEOUT_S
        with self._session.request(
            method,
            self.base_url + path,
            data=body,
            headers=dict(headers),
            timeout=(tls.CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            allow_redirects=False,
            stream=True,
        ) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            if head is not None and answer.status_code == 200:
                begins = next(answer.iter_content(head), b"")
                return Response(answer.status_code, names, begins)
            content = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                content += chunk
                if len(content) > MAX_BODY:
                    raise TemporaryError(
                        f"cannot use the answer of {self.host}: longer than {MAX_BODY} bytes"
                    )
                if time.monotonic() > deadline:
                    raise TemporaryError(f"cannot wait for {self.host}: its answer drips")
            return Response(answer.status_code, names, bytes(content))


class _Adapter(HTTPAdapter):
    """Connections by the given context, and by nothing that ``requests`` would add to it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the original would load the library's own CA bundle into our context."""


def _cause(error: BaseException) -> OSError:
    """The socket's or TLS's own error beneath the layers of the libraries."""
    seen: set[int] = set()
    pending: list[BaseException] = [error]
    found: OSError | None = None
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, ssl.SSLError):
            return current
        if isinstance(current, OSError) and not isinstance(current, requests.RequestException):
            found = found or current
        linked = (current.__cause__, current.__context__, getattr(current, "reason", None))
        pending += [link for link in (*linked, *current.args) if isinstance(link, BaseException)]
    if found is None and isinstance(error, requests.Timeout):
        return TimeoutError()
    return found or OSError("the connection broke")

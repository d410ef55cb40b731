"""HTTP requests with one credential to one peer over one kept-alive connection.

The standard library does HTTP, over a line of our own (docs/adr/0010): trust and
identity are the given context's alone, no environment, no system store, no redirects,
no compression, and an answer that is too long or too slow is cut.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import quote, urlsplit

from fioagent import __version__, dial, intercepted, tls, waiting
from fioagent.errors import AgentError, TemporaryError, one_line
from fioagent.line import FloodError, Line
from fioagent.proxy import Proxy

MAX_BODY: Final = 4 * 1024 * 1024  # bytes; a configuration is at most 1 MB, before it is encoded
EST_LIMIT: Final = 256 * 1024  # bytes; ten ML-DSA-65 certificates are 75 KiB in base64
MAX_HEAD: Final = 64 * 1024  # bytes; status line and headers
TOTAL_TIMEOUT_S: Final = 120.0
_CHUNK: Final = 16 * 1024
_AMBIGUOUS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)
_WITH_CONTENT: Final = (200, 201)  # of any other status the body is words, and the status counts
_UNQUOTED: Final = "!#$%&'()*+,/:;=?@[]~"  # what has a meaning in a URL, or is quoted already


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, whole.

    Attributes:
        status: HTTP status.
        headers: names in lower case.
        body: at most what the session's limits allow; of a refusal the beginning, if there is more.
        reason: of the status line, the peer's word.
        was_asked: the peer has asked for our certificate; the gateway does so always.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str = ""
    was_asked: bool = True

    def words(self) -> str:
        """The peer's own text, cut and made safe for one line."""
        said = one_line(self.body[:2048].decode("utf-8", "replace"), 512)
        return said or f"({one_line(self.reason, 80) or 'no text'})"

    def retry_after_s(self) -> float | None:
        """Seconds, a week at most; None where the peer did not say, or nothing of use."""
        asked, date = self.headers.get("retry-after", ""), self.headers.get("date", "")
        return waiting.retry_after_s(asked, date, datetime.now(timezone.utc))


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one exchange.

    Attributes:
        body: bytes of an answer's body.
        total_s: from the request's first byte to the answer's last one.
    """

    body: int = MAX_BODY
    total_s: float = TOTAL_TIMEOUT_S


class Session:
    """One peer, one credential."""

    def __init__(
        self,
        base_url: str,
        context: ssl.SSLContext,
        proxy: Proxy | None = None,
        limits: Limits | None = None,
        was_asked: Callable[[], bool] = lambda: True,
    ) -> None:
        """``base_url`` may carry a path; ``context`` holds trust and identity.

        ``was_asked``: whether the peer has asked for our certificate.
        """
        self._was_asked = was_asked
        parts = urlsplit(base_url)
        self.base_url = base_url.rstrip("/")
        self.host = parts.hostname or ""
        self.port = parts.port or 443
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._context = context
        self._proxy = proxy
        self._limits = limits or Limits()
        self._connection: _Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.line.end()
        self._connection = None

    def handshake(self) -> None:
        """TLS alone, on a connection of its own."""
        try:
            tls.handshake(self._context, self.host, self.port, self._proxy)
        except TemporaryError as error:
            raise self._explained(error) from error

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        head: int | None = None,
        within_s: float | None = None,
    ) -> Response:
        """Whatever status the peer answers; of the body of a 200 at most ``head`` bytes.

        ``path`` goes behind the base, or is a whole address of the same origin.
        ``within_s``: instead of the session's limit, if that is longer.

        Raises:
            CredentialRefusedError: a TLS alert about our certificate.
            TemporaryError: not reached, not trusted, too slow, or too much.
        """
        kept = self._connection
        try:
            return self._exchange(method, path, body, headers or {}, head=head, within_s=within_s)
        except http.client.HTTPException as error:
            self.close()
            if not isinstance(error, OSError):  # the one that is both is a line that broke
                raise self._malformed(error) from error
            cause: OSError = error
        except OSError as error:
            self.close()
            cause = error
        late = isinstance(cause, _AMBIGUOUS) and not isinstance(cause, ConnectionRefusedError)
        if late and kept is not None and kept.has_answered and method == "GET":
            # A connection that was kept alive may have died meanwhile. Only a question
            # is repeated: after a change, that its answer was lost has to be known.
            return self.request(
                method, path, body=body, headers=headers, head=head, within_s=within_s
            )
        if late or tls.refusal(cause) is not None:
            # A broken write may hide a late alert, and an alert may be anybody's word;
            # a handshake that is read to its end tells.
            self.handshake()
        raise self._explained(tls.explained(cause, self.host, self.port), cause) from cause

    def request_bound(
        self, method: str, path: str, *, body: Callable[[bytes], bytes], headers: Mapping[str, str]
    ) -> Response:
        """The same over a new connection of TLS 1.2, with a body made for its tls-unique.

        RFC 5929 section 3. TLS 1.3 has none (RFC 8446 appendix C.5), although CPython
        returns a value there too: so the version is capped, and looked at again.
        """
        self.close()
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            connection = self._opened()
        except OSError as error:
            raise self._explained(tls.explained(error, self.host, self.port), error) from error
        shaken = connection.line.tls
        binding = shaken.get_channel_binding("tls-unique")
        if binding is None or shaken.version() != "TLSv1.2":
            raise TemporaryError(f"cannot bind a request to the connection to {self.host}")
        connection.is_bound = True
        return self.request(method, path, body=body(binding), headers=headers)

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        head: int | None,
        within_s: float | None,
    ) -> Response:
        connection = self._opened()
        line, limits = connection.line, self._limits
        line.until = time.monotonic() + min(within_s or limits.total_s, limits.total_s)
        line.allowance = MAX_HEAD
        own = {"User-Agent": f"fioagent/{__version__}", "Accept-Encoding": "identity"}
        url = path if path.startswith(f"{self._origin}/") else self.base_url + path
        target = quote(url.removeprefix(self._origin) or "/", safe=_UNQUOTED)
        connection.request(method, target, body=body, headers={**own, **headers})
        try:
            answer = _final(connection.getresponse())
        except FloodError:
            raise TemporaryError(
                f"cannot use the answer of {self.host}: its head is longer than {MAX_HEAD} bytes"
            ) from None
        finally:
            line.allowance = 0
        if line.has_ended:  # the library takes the end of the line for that of the head
            raise http.client.IncompleteRead(b"")
        self._require_plain(answer)
        names = {name.lower(): value for name, value in answer.getheaders()}
        # What is around chunks takes its share, and the first of the body is in already.
        line.allowance = 2 * limits.body + MAX_HEAD
        if head is not None and answer.status == 200:
            begins = answer.read(head)
            self.close()
            return Response(answer.status, names, begins, answer.reason, self._was_asked())
        content = self._read(answer, line)
        connection.has_answered = True
        # Where we have asked for it, not every server says that it closes, and all do.
        if answer.will_close or headers.get("Connection") == "close":
            self.close()
        return Response(answer.status, names, content, answer.reason, self._was_asked())

    def _read(self, answer: http.client.HTTPResponse, line: Line) -> bytes:
        content = bytearray()
        try:
            while chunk := answer.read(_CHUNK):
                content += chunk
                if len(content) > self._limits.body:
                    raise FloodError
        except FloodError:
            self.close()
            if answer.status not in _WITH_CONTENT:
                return bytes(content[: self._limits.body])
            raise TemporaryError(
                f"cannot use the answer of {self.host}: longer than {self._limits.body} bytes"
            ) from None
        except TimeoutError:
            if time.monotonic() < line.until:
                raise
            self.close()
            raise TemporaryError(f"cannot wait for {self.host}: its answer drips") from None
        if answer.length:
            raise http.client.IncompleteRead(bytes(content), answer.length)
        return bytes(content)

    def _require_plain(self, answer: http.client.HTTPResponse) -> None:
        """One length, and no encoding: whatever reads it in two ways is refused."""
        lengths = {value.strip() for value in answer.headers.get_all("content-length") or ()}
        coding = answer.headers.get("content-encoding", "identity").strip().lower()
        wrong = None
        if len(lengths) > 1:
            wrong = "it has two lengths"
        elif coding not in ("identity", ""):
            wrong = f"it is compressed ({one_line(coding, 40)}), although that was not offered"
        if wrong is not None:
            self.close()
            raise TemporaryError(f"cannot use the answer of {self.host}: {wrong}")

    def _opened(self) -> _Connection:
        known = self._connection
        if known is not None and not known.is_bound and known.line.is_stale():
            self.close()
        if self._connection is None:
            line = Line(self._context, dial.connect(self.host, self.port, self._proxy), self.host)
            self._connection = _Connection(self.host, self.port, line)
        return self._connection

    def _malformed(self, error: http.client.HTTPException) -> TemporaryError:
        if isinstance(error, http.client.IncompleteRead):
            why = f"it was cut off after {len(error.partial)} bytes"
        else:
            why = f"it is no HTTP ({one_line(str(error) or type(error).__name__, 80)})"
        return TemporaryError(f"cannot use the answer of {self.host}: {why}")

    def _explained(self, error: AgentError, cause: OSError | None = None) -> AgentError:
        """``error``, with the name of whoever stands in between."""
        cause = cause or (error.__cause__ if isinstance(error.__cause__, OSError) else None)
        if not isinstance(cause, ssl.SSLCertVerificationError):
            return error
        return intercepted.told(error, cause, self.host, self.port, self._proxy)


def _final(answer: http.client.HTTPResponse) -> http.client.HTTPResponse:
    """``answer``, or the one behind it: RFC 9110 section 15.2; the library steps over 100 alone."""
    while 100 < answer.status < 200 and answer.status != 101:
        interim: Any = answer
        interim.headers = None  # begin does nothing for an answer that has some
        answer.begin()
    return answer


class _Connection(http.client.HTTPConnection):
    """HTTP over a line that is open; never opened again behind our back."""

    default_port = 443  # Host has no port where it is that of https
    auto_open = 0

    def __init__(self, host: str, port: int, line: Line) -> None:
        super().__init__(host, port)
        self.line = line
        self.has_answered = False
        self.is_bound = False  # what goes out next is good for no other one
        self.sock: Any = line  # as much of a socket as is used

"""What can go wrong, told by two questions: may it work later, and whose fault is it.

Every message is a line for the person at the device: "cannot ...", lower case,
no full stop, no secret. ``hint`` says what to do next. Anything that is not an
``AgentError`` is a bug of ours and may crash.
"""

from __future__ import annotations


class AgentError(Exception):
    """Something the world did; ``str()`` of it is the line to show."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class TemporaryError(AgentError):
    """The line, the clock or a busy peer: the same thing may work later.

    Attributes:
        retry_after_s: seconds the peer asked us to wait; None where it did not.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class PeerError(AgentError):
    """A server that we trust answered, and the answer is no.

    Attributes:
        status: HTTP status; None where the refusal was not an HTTP answer.
    """

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class CredentialRefusedError(PeerError):
    """The server will not have this very credential: a TLS alert, 401 or 403.

    Never raised for a line that broke: only a definite word of the peer counts.
    """


class NotSupportedError(PeerError):
    """The server does not know the operation (404 or 405)."""


class ConfigError(AgentError):
    """This device needs a person: a file, a setting, the disk."""

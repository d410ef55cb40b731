"""What can go wrong, told by two questions: may it work later, and whose fault is it.

Every message is a line for the person at the device: "cannot ...", lower case,
no full stop, no secret. ``hint`` says what to do next. Anything that is not an
``AgentError`` is a bug of ours and may crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fioagent.causes import Cause
from fioagent.model import Exit

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_LINE: Final = 600  # characters of a message, servers' words included


class AgentError(Exception):
    """Something the world did; ``str()`` of it is the line to show.

    ``cause`` is the row of ``causes.py`` that it was made of; None where there is none.
    Messages quote servers and files, so they are made safe for a terminal, a
    journal and an event here, once.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(one_line(message, MAX_LINE))
        self.hint = None if hint is None else one_line(hint, MAX_LINE)
        self.cause: Cause | None = None

    @classmethod
    def of(cls, cause: Cause, facts: Mapping[str, object], **more: Any) -> Self:
        """Words and remedy of ``cause``; ``more`` is for the class, ``hint`` says it better."""
        words, remedy = cause.told(facts)
        error = cls(words, **{"hint": remedy, **more})
        error.cause = cause
        return error


def one_line(text: str, limit: int) -> str:
    """``text`` without control characters and line ends, cut at ``limit`` characters."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:limit]


class TemporaryError(AgentError):
    """The line, the clock or a busy peer: the same thing may work later.

    Attributes:
        retry_after_s: seconds the peer asked us to wait; None where it did not.
        accepted: the peer has taken the request and works on it.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after_s: float | None = None,
        accepted: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.accepted = accepted


class NotBegunError(TemporaryError):
    """A program of others has not even begun, through no fault of its own."""


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

    Attributes:
        alert: the TLS alert in words; None where the refusal was an HTTP answer.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        alert: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, status=status)
        self.alert = alert


class NotSupportedError(PeerError):
    """The server does not know the operation (404 or 405)."""


class ConfigError(AgentError):
    """This device needs a person: a file, a setting, the disk."""


class CredentialChangedError(ConfigError):
    """Somebody gave the device another credential than the rotation knows."""


class LockedOutError(ConfigError):
    """The gateway refuses every credential that is on this device."""


class MalformedError(ConfigError):
    """A configuration that is none: nothing in it can be opened, by whatever key."""


class NotDerivingError(ConfigError):
    """A token's key that signs but does not derive: it does TLS, and opens no value."""


def exit_of(error: AgentError) -> Exit:
    """What a command ends with that ``error`` has stopped."""
    if isinstance(error, TemporaryError):
        return Exit.TRY_AGAIN
    return Exit.FAILED if isinstance(error, PeerError) else Exit.CONFIG

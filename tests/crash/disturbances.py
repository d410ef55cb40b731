"""Everything that a port may do to the agent instead of its work.

Each fault is of a kind that the real adapter shows: in its words, and where the
work may have been done all the same, in both ways.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from fioagent import disk
from fioagent.errors import CredentialRefusedError, TemporaryError
from fioagent.http import Response
from fioagent.ports import Moment

Member = Callable[..., Any]
Strike = Callable[[Member, tuple[Any, ...], dict[str, Any]], Any]

_VERBS: Final[Mapping[str, str]] = {
    "make_directory": "make",
    "replace": "write",
    "append": "write",
    "link": "link",
    "rename": "rename",
    "remove": "remove",
}
_READING: Final[Mapping[str, str]] = {
    "read": "read",
    "read_if_there": "read",
    "names": "list",
    "free_bytes": "look at",
}
_SERVERS: Final = ("gateway", "est")
_TEN_YEARS: Final = timedelta(days=3653)


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a call.

    Attributes:
        name: for people.
        port: disk, clock, services, gateway or est.
        method: of the port.
        strike: in place of the call; may make it.
        definite: an answer after which a rotation may end with the old pair.
    """

    name: str
    port: str
    method: str
    strike: Strike
    definite: bool = False


class Disturbed:
    """Ports whose ``at``-th call, and ``lasting`` calls from it on, are struck.

    ``calls`` are those that were made, port and method; ``struck`` says of each that
    was struck what it was about.
    """

    def __init__(self, fault: Fault | None = None, at: int = 0, lasting: int = 1) -> None:
        self._faults = {} if fault is None else {(fault.port, fault.method): fault}
        self._due = range(at, at + lasting)
        self.calls: list[tuple[str, str]] = []
        self.struck: list[str] = []

    def wrap(self, port: Any, name: str) -> Any:
        return _Disturbed(port, name, self)

    def call(self, port: str, method: str, member: Member, *arguments: Any, **named: Any) -> Any:
        fault = self._faults.get((port, method))
        due = len(self.calls) in self._due
        self.calls.append((port, method))
        if fault is None or not due:
            return member(*arguments, **named)
        self.struck.append(" ".join(map(str, arguments[:2])))
        return fault.strike(member, arguments, named)


class AllDisturbed(Disturbed):
    """The same with a fault for each of several methods, from a call on."""

    def __init__(self, faults: Mapping[tuple[str, str], Fault], at: int = 0) -> None:
        super().__init__()
        self._faults = dict(faults)
        self._due = range(at, 1 << 60)


class _Disturbed:
    def __init__(self, port: Any, name: str, disturbed: Disturbed) -> None:
        self._port = port
        self._name = name
        self._disturbed = disturbed

    def __getattr__(self, method: str) -> Any:
        member = getattr(self._port, method)
        if not callable(member):
            return member
        return lambda *arguments, **named: self._disturbed.call(
            self._name, method, member, *arguments, **named
        )


# --- disk ---


def _refusing(verb: str, number: int) -> Strike:
    def strike(member: Member, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        del member, named
        raise disk._refused(verb, arguments[0], OSError(number, ""))

    return strike


def _done_and_refused(verb: str, number: int) -> Strike:
    """The file is changed, and then its directory cannot be synced."""

    def strike(member: Member, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        member(*arguments, **named)
        raise disk._refused(verb, arguments[0], OSError(number, ""))

    return strike


def _half_appended(member: Member, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    path, content = arguments
    member(path, content[: len(content) // 2], **named)
    raise disk._refused("write", path, OSError(errno.ENOSPC, ""))


def _answering(value: object) -> Strike:
    return lambda member, arguments, named: value


def _raising(error: Callable[[], Exception]) -> Strike:
    def strike(member: Member, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        raise error()

    return strike


def _done_and_raising(error: Callable[[], Exception]) -> Strike:
    def strike(member: Member, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        member(*arguments, **named)
        raise error()

    return strike


def _of_disk() -> list[Fault]:
    numbers = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
    changing = [
        Fault(errno.errorcode[number], "disk", method, _refusing(verb, number))
        for method, verb in _VERBS.items()
        for number in numbers
    ]
    late = [
        Fault("EIO after the change", "disk", method, _done_and_refused(verb, errno.EIO))
        for method, verb in _VERBS.items()
    ]
    reading = [
        Fault("EIO", "disk", method, _refusing(verb, errno.EIO))
        for method, verb in _READING.items()
    ]
    return [
        *changing,
        *late,
        *reading,
        Fault("ENOSPC after a half", "disk", "append", _half_appended),
        Fault("EIO", "disk", "settle", _refused_settling),
        # os.path answers no to what it cannot look at.
        Fault("EIO", "disk", "is_there", _answering(False)),
        Fault("EIO", "disk", "is_directory", _answering(False)),
        Fault("EROFS", "disk", "can_replace", _answering(False)),
        Fault("EIO", "disk", "lock", _refusing("lock", errno.EIO)),
        Fault("held", "disk", "lock", _raising(_held)),
    ]


def _refused_settling(member: Member, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    del member, named
    raise disk._refused("write", next(iter(arguments[0])), OSError(errno.EIO, ""))


def _held() -> Exception:
    return TemporaryError("cannot start: fioagent rotate (process 7) is at work")


# --- servers ---


def _status(status: int, headers: Mapping[str, str] | None = None) -> Strike:
    return _answering(Response(status, headers or {}, b"The lab made the server answer this"))


def _broken_line() -> Exception:
    return TemporaryError("cannot reach gateway.lab:8443: connection reset by peer")


def _alert(alert: str) -> Callable[[], Exception]:
    return lambda: CredentialRefusedError(
        f"gateway.lab:8443 refuses the device's certificate: {alert}", alert=alert
    )


def _of_servers() -> list[Fault]:
    later = {"retry-after": "120"}
    garbage = Response(
        200, {"content-type": "application/json"}, b"\x00\xff not what you asked for"
    )
    portal = Response(200, {"content-type": "text/html"}, b"<html>Please log in</html>")
    requests: dict[str, tuple[Strike, bool]] = {
        "not reached": (_raising(_broken_line), False),
        "answer lost": (_done_and_raising(_broken_line), False),
        "500": (_status(500), False),
        "503": (_status(503, later), False),
        "429": (_status(429, later), False),
        "garbage": (_answering(garbage), True),
        "portal": (_answering(portal), True),
        **{str(status): (_status(status), True) for status in (302, 400, 401, 403, 404, 405, 409)},
        "unknown ca": (_raising(_alert("unknown ca")), True),
        "certificate expired": (_raising(_alert("certificate expired")), True),
    }
    handshakes = ("not reached", "unknown ca", "certificate expired")
    return [
        Fault(name, server, method, *how)
        for server in _SERVERS
        for method, names in (("request", [*requests]), ("handshake", handshakes))
        for name in names
        for how in [requests[name]]
    ]


# --- clock and services ---


def _shifted(by: timedelta) -> Strike:
    return lambda member, arguments, named: member() + by


def _of_clock() -> list[Fault]:
    born = datetime(1970, 1, 1, 0, 0, 7, tzinfo=timezone.utc)
    return [
        Fault("1970", "clock", "now", _answering(born)),
        Fault("ten years ahead", "clock", "now", _shifted(_TEN_YEARS), definite=True),
        Fault("two days behind", "clock", "now", _shifted(timedelta(days=-2))),
        Fault("no boot id", "clock", "moment", _no_boot_id),
    ]


def _no_boot_id(member: Member, arguments: tuple[Any, ...], named: dict[str, Any]) -> Moment:
    """Hidden from a sandboxed unit."""
    del arguments, named
    return Moment("", member().monotonic_us)


def _of_services() -> list[Fault]:
    return [
        Fault("fails", "services", "restart", _raising(_no_restart)),
        Fault("fails after it", "services", "restart", _done_and_raising(_no_restart)),
    ]


def _no_restart() -> Exception:
    return TemporaryError("cannot restart services: systemctl restart hangs")


EVERY: Final = (*_of_disk(), *_of_servers(), *_of_clock(), *_of_services())


def fitting(port: str, method: str) -> list[Fault]:
    return [fault for fault in EVERY if (fault.port, fault.method) == (port, method)]

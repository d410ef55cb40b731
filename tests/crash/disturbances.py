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
from fioagent.errors import ConfigError, CredentialRefusedError, TemporaryError
from fioagent.http import Response
from fioagent.ports import Moment

_CHANGING: Final[Mapping[str, str]] = {  # method to the verb of its error
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
_TEN_YEARS: Final = timedelta(days=3653)
_BORN: Final = datetime(1970, 1, 1, 0, 0, 7, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Call:
    """Of a port's method, not made yet."""

    port: Any
    method: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]

    def make(self) -> Any:
        return getattr(self.port, self.method)(*self.arguments, **self.named)

    def __str__(self) -> str:
        """What it is about, briefly."""
        shown = [each for each in self.arguments[:2] if isinstance(each, str)]
        return " ".join([self.method, *shown])


Strike = Callable[[Call], Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a call.

    Attributes:
        name: for people.
        port: disk, clock, services, gateway, est or token.
        method: of the port.
        strike: in place of the call; may make it.
        definite: an answer after which a rotation may end with the old pair.
    """

    name: str
    port: str
    method: str
    strike: Strike
    definite: bool = False


# --- disk ---


def _refused(call: Call, verb: str, number: int) -> Exception:
    """As LocalDisk says it."""
    path = call.arguments[0]
    return disk._refused(verb, path if isinstance(path, str) else path[0], OSError(number, ""))


def _refusing(verb: str, number: int) -> Strike:
    def strike(call: Call) -> Any:
        raise _refused(call, verb, number)

    return strike


def _done_and_refused(verb: str) -> Strike:
    """The file is changed, and then its directory cannot be synced."""

    def strike(call: Call) -> Any:
        call.make()
        raise _refused(call, verb, errno.EIO)

    return strike


def _half_appended(call: Call) -> Any:
    path, content = call.arguments
    call.port.append(path, content[: len(content) // 2])
    raise _refused(call, "write", errno.ENOSPC)


def _answering(value: object) -> Strike:
    return lambda call: value


def _raising(error: Callable[[], Exception]) -> Strike:
    def strike(call: Call) -> Any:
        raise error()

    return strike


def _done_and_raising(error: Callable[[], Exception]) -> Strike:
    def strike(call: Call) -> Any:
        call.make()
        raise error()

    return strike


def _held() -> Exception:
    return TemporaryError("cannot start: fioagent rotate (process 7) is at work")


def of_disk() -> list[Fault]:
    numbers = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
    return [
        *(
            Fault(errno.errorcode[number], "disk", method, _refusing(verb, number))
            for method, verb in _CHANGING.items()
            for number in numbers
        ),
        *(
            Fault("EIO after the change", "disk", method, _done_and_refused(verb))
            for method, verb in _CHANGING.items()
        ),
        *(
            Fault("EIO", "disk", method, _refusing(verb, errno.EIO))
            for method, verb in _READING.items()
        ),
        Fault("ENOSPC after a half", "disk", "append", _half_appended),
        Fault("EIO", "disk", "settle", _refusing("write", errno.EIO)),
        # os.path answers no to what it cannot look at.
        Fault("EIO", "disk", "is_there", _refusing("look at", errno.EIO)),
        Fault("EIO", "disk", "is_directory", _answering(False)),
        Fault("EROFS", "disk", "can_replace", _answering(False)),
        Fault("EIO", "disk", "lock", _refusing("lock", errno.EIO)),
        Fault("EROFS", "disk", "lock", _refusing("lock", errno.EROFS)),
        Fault("held", "disk", "lock", _raising(_held)),
    ]


# --- servers ---


def _status(status: int, headers: Mapping[str, str] | None = None) -> Strike:
    """In place of the server's answer; only who has passed its TLS gets to hear any."""

    def strike(call: Call) -> Response:
        call.port.handshake()
        return Response(status, headers or {}, b"The lab made the server answer this")

    return strike


def _unexpected(answer: Response) -> Strike:
    """A question is answered with something else; a change is made, and its answer mangled.

    A server that says 200 to a change and does not make it is not simulated:
    nothing else that it says would be worth more.
    """

    def strike(call: Call) -> Response:
        if call.arguments[0] == "GET":
            call.port.handshake()
            return answer
        made: Response = call.make()
        return answer if made.status < 300 else made

    return strike


def _broken_line() -> Exception:
    return TemporaryError("cannot reach gateway.lab:8443: connection reset by peer")


def _alert(alert: str) -> Callable[[], Exception]:
    return lambda: CredentialRefusedError(
        f"gateway.lab:8443 refuses the device's certificate: {alert}", alert=alert
    )


def _requests() -> dict[str, tuple[Strike, bool]]:
    """By name, with whether it is definite."""
    later = {"retry-after": "120"}
    garbage = Response(200, {"content-type": "application/json"}, b"\x00\xff not what you want")
    portal = Response(200, {"content-type": "text/html"}, b"<html>Please log in</html>")
    return {
        "not reached": (_raising(_broken_line), False),
        "answer lost": (_done_and_raising(_broken_line), False),
        "202": (_status(202, later), False),
        "429": (_status(429, later), False),
        "500": (_status(500), False),
        "503": (_status(503, later), False),
        "garbage": (_unexpected(garbage), True),
        "portal": (_unexpected(portal), True),
        **{str(status): (_status(status), True) for status in (302, 400, 401, 403, 404, 405, 409)},
        "unknown ca": (_raising(_alert("unknown ca")), True),
        "certificate expired": (_raising(_alert("certificate expired")), True),
    }


def of_servers() -> list[Fault]:
    kinds = _requests()
    # To an accepted request the gateway says 202 of a change that it has made.
    at_requests = [name for name in kinds if name != "202"]
    at_handshakes = ["not reached", "unknown ca", "certificate expired"]
    names = {
        ("gateway", "request"): at_requests,
        ("gateway", "handshake"): at_handshakes,
        ("est", "request"): [*at_requests, "202"],
        ("est", "handshake"): at_handshakes,
    }
    return [
        Fault(name, server, method, *kinds[name])
        for (server, method), found in names.items()
        for name in found
    ]


# --- clock and services ---


def _shifted(by: timedelta) -> Strike:
    return lambda call: call.make() + by


def of_clock() -> list[Fault]:
    return [
        Fault("1970", "clock", "now", _answering(_BORN)),
        Fault("ten years ahead", "clock", "now", _shifted(_TEN_YEARS), definite=True),
        Fault("two days behind", "clock", "now", _shifted(timedelta(days=-2))),
        # Hidden from a sandboxed unit.
        Fault("no boot id", "clock", "moment", lambda call: Moment("", call.make().monotonic_us)),
    ]


def of_services() -> list[Fault]:
    return [
        Fault("fails", "services", "restart", _raising(_no_restart)),
        Fault("fails after it", "services", "restart", _done_and_raising(_no_restart)),
    ]


def _no_restart() -> Exception:
    return TemporaryError("cannot restart services: systemctl restart hangs")


# --- token ---


def _busy() -> Exception:
    return TemporaryError("cannot use the token: DeviceError")


def _locked() -> Exception:
    return ConfigError("cannot open the token: the PIN is locked")


def of_token() -> list[Fault]:
    changing = ("generate", "store_certificate", "destroy")
    looking = ("objects", "certificates", "point", "sign", "derive")
    return [
        *(Fault("busy", "token", method, _raising(_busy)) for method in (*changing, *looking)),
        *(Fault("locked", "token", method, _raising(_locked)) for method in (*changing, *looking)),
        *(Fault("fails after it", "token", each, _done_and_raising(_busy)) for each in changing),
    ]


EVERY: Final = (*of_disk(), *of_servers(), *of_clock(), *of_services(), *of_token())


def fitting(port: str, method: str) -> list[Fault]:
    return [fault for fault in EVERY if (fault.port, fault.method) == (port, method)]


def lasting() -> dict[str, list[Fault]]:
    """What goes wrong for a week, by name; a fault for each method that it befalls."""
    servers = ("gateway", "est")
    return {
        "no network": _named("not reached", *servers),
        **{f"gateway: {name}": _named(name, "gateway") for name in ("503", "403", "404")},
        **{f"EST: {name}": _named(name, "est") for name in ("500", "202", "not reached")},
        **{f"disk: {name}": _named(name, "disk") for name in ("ENOSPC", "EROFS", "EIO")},
        # Not the clock that is ahead: it finds each certificate expired, and the next
        # rotation begins, up to the daily quota. ``faults`` has it for a run.
        "clock: 1970": _named("1970", "clock"),
        "services: fails": _named("fails", "services"),
    }


def _named(name: str, *ports: str) -> list[Fault]:
    found = [fault for fault in EVERY if fault.name == name and fault.port in ports]
    # A disk in trouble is read from still: else there is no device to speak of.
    return [fault for fault in found if fault.method not in _READING and "is_" not in fault.method]

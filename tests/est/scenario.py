"""What a row of the table says: what the server does, and what must come of it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.est import replies
from tests.est.server import Context, Lab, Line, Reply, Request, Script, not_there, ordinary
from tests.world import World


class End(enum.Enum):
    """How the first run ends; a second one, against a good server, always completes."""

    COMPLETED = 0
    OVER = 1  # new key and certificate removed; the next run begins anew
    OPEN = 75  # key and request are kept; the next run sends the same request


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row.

    Attributes:
        name: what the server does.
        line: must be in the one line on stderr; of a run that completes: in what it shows.
        settings: a section for the device's fioagent.toml.
        device: changes the device before the run.
        host: how the URL names the server.
        asked: how many enrolments must have come in the first run; None: any number.
        waits_s: what an open rotation waits at least, and at most.
        of_request: asserts something of the enrolment's request.
        slow: seconds pass, because a deadline of the client is what ends it.
    """

    name: str
    end: End
    line: str
    enrol: Reply
    cacerts: Reply = not_there
    csrattrs: Reply = not_there
    tls: Context = ordinary
    speaks: Line | None = None
    settings: str = ""
    device: Callable[[World, Lab], None] | None = None
    host: str = "localhost"
    asked: int | None = None
    waits_s: tuple[float, float] | None = None
    of_request: Callable[[Request], None] | None = None
    slow: bool = False

    @property
    def script(self) -> Script:
        return Script(self.enrol, self.cacerts, self.csrattrs, self.tls, self.speaks)


GOOD: Final = Script(replies.good)


def taken(name: str, enrol: Reply, line: str = "", **more: Any) -> Scenario:
    """The certificate is taken and becomes the live one."""
    return Scenario(name, End.COMPLETED, line, enrol, **more)


def refused(name: str, line: str, enrol: Reply, **more: Any) -> Scenario:
    """A definite no, or a certificate that will not do."""
    return Scenario(name, End.OVER, line, enrol, **more)


def put_off(name: str, line: str, enrol: Reply = replies.good, **more: Any) -> Scenario:
    """To be tried again."""
    return Scenario(name, End.OPEN, line, enrol, **more)

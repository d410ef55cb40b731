"""Faults: rules that make an endpoint slow, failing, silent or lying; which request meets one.

A rule counts what it matches, lets the first few pass, and then acts, a number of times or
for good. Of all rules the first that acts is carried out, in the order of their making. They
are in the database: the command line sets them on a running factory, a restart keeps them.
What a fault does to a request or a connection is in ``mischief`` and ``tls``.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Final

from fioagent.factory.errors import RefusedError
from fioagent.factory.store import Store

SERVERS: Final = ("gateway", "est", "api", "sign")
PLAIN: Final = ("api", "sign")
STALE_DATE: Final = "Thu, 01 Jan 1970 00:00:00 GMT"
LONGEST_DELAY_S: Final = 3600
MOST: Final = 1_000_000
MOST_ID: Final = 2**63 - 1  # what SQLite counts to
NEVER_HIT: Final = "/control/"  # else a fault of the API could not be taken away by the API

# What each does, and which of its own options it takes.
ACTIONS: Final = {
    "slow": ("the answer comes late", {"delay", "done"}),
    "status": (
        "an answer of this status instead of the true one",
        {"delay", "done", "status", "body", "content_type", "retry_after"},
    ),
    "drop": ("the connection is closed without an answer", {"delay", "done"}),
    "reset": ("the connection is reset (TCP RST) without an answer", {"delay", "done"}),
    "cut": ("the connection is closed in the middle of the body", {"delay"}),
    "truncate": ("half of the body, as if it was the whole", {"delay"}),
    "trickle": ("the body byte by byte, with the delay before each", {"delay"}),
    "garbage": ("the right status, and a body that is garbage", {"delay"}),
    "content-type": ("the right body under a wrong content type", {"delay", "content_type"}),
    "date": ("a Date header of long ago", {"delay", "date"}),
    "tls-alert": ("new connections: the alert handshake_failure instead of a handshake", {"delay"}),
    "tls-close": ("new connections: closed in the middle of the handshake", {"delay"}),
    "tls-stall": ("new connections: nothing is said for the delay, then closed", {"delay"}),
}
NEEDS: Final = {
    "slow": {"delay"},
    "trickle": {"delay"},
    "tls-stall": {"delay"},
    "status": {"status"},
}
OF_A_REQUEST: Final = {"method", "path", "device"}  # a handshake has none of them yet


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule as it is asked for. Empty text and 0 match anything or mean nothing."""

    action: str
    server: str = ""  # one of SERVERS
    method: str = ""
    path: str = ""  # with * and ? as in file names; without the query
    device: str = ""  # CN of the client's certificate
    after: int = 0  # matches that pass before it acts
    times: int = 0  # how often it acts; 0: for good
    delay: float = 0.0  # seconds
    done: bool = False  # the request is carried out before anything goes wrong
    status: int = 0
    body: str = ""
    content_type: str = ""
    retry_after: int = 0  # seconds; 0: no header
    date: str = ""

    @property
    def of_connections(self) -> bool:
        return self.action.startswith("tls-")

    @property
    def carries_out(self) -> bool:
        """Whether the request has its effect."""
        return self.done or self.action not in ("status", "drop", "reset")


@dataclass(frozen=True, slots=True)
class Kept:
    """A rule as it is kept."""

    id: int
    fault: Fault
    seen: int  # requests or connections that it matched

    @property
    def hits(self) -> int:
        """How often it has acted."""
        acted = max(0, self.seen - self.fault.after)
        return min(acted, self.fault.times) if self.fault.times else acted

    @property
    def is_spent(self) -> bool:
        return bool(self.fault.times) and self.hits >= self.fault.times


def describe(kept: Kept) -> dict[str, Any]:
    """As JSON shows it; members that mean nothing are left out."""
    given = {name: value for name, value in asdict(kept.fault).items() if value}
    return {
        "id": kept.id,
        **given,
        "hits": kept.hits,
        "spent": kept.is_spent,
        "description": ACTIONS[kept.fault.action][0],
    }


def parse(options: dict[str, Any]) -> Fault:
    """The fault with these members, as JSON has them.

    Raises:
        RefusedError: a member that there is not, of a wrong kind, or that does not fit the action.
    """
    known = {field.name: type(field.default) for field in fields(Fault)} | {"action": str}
    for name, value in options.items():
        if name not in known:
            raise RefusedError(
                400, f"cannot add the fault: it has no {name!r}; it has {', '.join(known)}"
            )
        fits = isinstance(value, (known[name], int) if known[name] is float else known[name])
        if isinstance(value, bool) != (known[name] is bool) or not (fits and _is_text(value)):
            raise RefusedError(400, f"cannot add the fault: {name} cannot be {value!r}")
    fault = Fault(**{"action": "", **options})
    problem = _problem(fault)
    if problem:
        raise RefusedError(400, f"cannot add the fault {fault.action!r}: {problem}")
    return fault


def _is_text(value: object) -> bool:
    """Text that can be written; JSON has halves of characters, too. What is no text may pass."""
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


def _problem(fault: Fault) -> str:
    if fault.action not in ACTIONS:
        return f"there is no such action; there are {', '.join(ACTIONS)}"
    given = {field.name for field in fields(Fault) if getattr(fault, field.name) != field.default}
    lacking = NEEDS.get(fault.action, set()) - given
    if lacking:
        return f"it takes {' and '.join(sorted(lacking))}"
    matching = {"action", "server", "after", "times"}
    if not fault.of_connections:
        matching |= OF_A_REQUEST
    foreign = given - matching - ACTIONS[fault.action][1]
    if foreign:
        return f"it has no use for {' and '.join(sorted(foreign))}"
    return _problem_of_values(fault)


def _problem_of_values(fault: Fault) -> str:
    headers = fault.content_type + fault.date
    numbers = (fault.after, fault.times, fault.retry_after)
    problems = {
        f"server is one of {', '.join(SERVERS)}": fault.server not in ("", *SERVERS),
        "that server speaks plain HTTP": fault.of_connections and fault.server in PLAIN,
        "a method has capital letters": fault.method != fault.method.upper(),
        "a path begins with / or *": not fault.path.startswith(("/", "*")) and fault.path != "",
        f"delay is 0 to {LONGEST_DELAY_S} seconds": not 0 <= fault.delay <= LONGEST_DELAY_S,
        f"after, times and retry_after are 0 to {MOST}": not all(0 <= n <= MOST for n in numbers),
        "status is 200 to 599": fault.status != 0 and not 200 <= fault.status <= 599,
        "a header is one line of ASCII": not (headers.isascii() and headers.isprintable()),
    }
    return next((problem for problem, is_there in problems.items() if is_there), "")


def matches(fault: Fault, server: str, method: str, path: str, device: str) -> bool:
    """A request; for a connection method, path and device are empty."""
    return (
        fault.server in ("", server)
        and fault.method in ("", method)
        and fault.device in ("", device)
        and (not fault.path or fnmatchcase(path, fault.path.replace("[", "[[]")))
    )


# --- kept ---

_COLUMNS: Final = tuple(field.name for field in fields(Fault))


def add(db: sqlite3.Connection, fault: Fault) -> int:
    """Its id."""
    marks = ", ".join("?" * len(_COLUMNS))
    values = [getattr(fault, name) for name in _COLUMNS]
    added = db.execute(
        f"INSERT INTO faults ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608  # our own
        values,
    )
    return int(added.lastrowid or 0)


def all_faults(db: sqlite3.Connection) -> list[Kept]:
    """In the order of their making."""
    return [_kept(row) for row in db.execute("SELECT * FROM faults ORDER BY id")]


def remove(db: sqlite3.Connection, identifier: int) -> None:
    """RefusedError: there is none."""
    known = 0 < identifier <= MOST_ID
    if not (known and db.execute("DELETE FROM faults WHERE id = ?", (identifier,)).rowcount):
        raise RefusedError(
            404,
            f"cannot remove the fault {identifier}: there is none",
            "hint: fioagent-factory fault list DIR",
        )


def clear(db: sqlite3.Connection) -> int:
    """How many there were."""
    return db.execute("DELETE FROM faults").rowcount


def _kept(row: sqlite3.Row) -> Kept:
    values = {name: row[name] for name in _COLUMNS} | {"done": bool(row["done"])}
    return Kept(row["id"], Fault(**values), row["seen"])


class Faults:
    """The rules of one server, as it meets them."""

    def __init__(self, store: Store, server: str) -> None:
        self._store = store
        self._server = server

    def of_request(self, method: str, path: str, device: str) -> Fault | None:
        if path.startswith(NEVER_HIT):
            return None
        return self._meet(method, path, device, connections=False)

    def of_connection(self) -> Fault | None:
        return self._meet("", "", "", connections=True)

    def _meet(self, method: str, path: str, device: str, *, connections: bool) -> Fault | None:
        """The one that acts now. Each that is asked on the way has counted.

        None where that cannot be written down, as on a full disk: the request says so then.
        """

        def asked(db: sqlite3.Connection) -> list[Kept]:
            return [
                kept
                for kept in all_faults(db)
                if kept.fault.of_connections == connections
                and not kept.is_spent
                and matches(kept.fault, self._server, method, path, device)
            ]

        try:
            with self._store.read() as db:
                if not asked(db):
                    return None
            with self._store.write() as db:
                for kept in asked(db):
                    db.execute("UPDATE faults SET seen = seen + 1 WHERE id = ?", (kept.id,))
                    if kept.seen >= kept.fault.after:
                        return kept.fault
        except sqlite3.OperationalError:
            return None
        return None

"""What is under way when the power fails, on a real file system and simulated servers.

The device's directory is named ``/proc/self/cwd``: so its files, which hold their
own paths, mean the same device wherever they are written, in as many processes as
there are. A mark is what the servers remember, and what the command has said.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.agent import Agent
from fioagent.disk import LocalDisk
from fioagent.factory.certificates import public_pem
from fioagent.http import Response
from fioagent.rotation.rotator import Outcome, Result
from tests.crash import memory, promises, simulated
from tests.crash import tree as trees
from tests.crash.cuts import Verdict
from tests.crash.memory import MemoryDisk
from tests.crash.promises import BROKEN, Broken
from tests.crash.recorder import Note
from tests.crash.servers import Servers
from tests.crash.simulated import CountingServices, SettableClock, Wrap, no_wrap
from tests.crash.tree import Directory, File, Symlink, Tree

ROOT: Final = "/proc/self/cwd"
STORAGE: Final = f"{ROOT}/var/sota"
ID: Final = "certs-1"
DISK: Final = LocalDisk()
_KEPT_MODES: Final = {"var/sota/sota.toml": 0o640, "var/sota/config.encrypted": 0o640}

Act = Callable[[Agent], Outcome]
SetUp = Callable[[Servers], None]


@dataclass(frozen=True, slots=True)
class Mark:
    """What can be seen from outside.

    Attributes:
        servers: their state, as JSON.
        sota: sota.toml as it was before all.
        said: how the command ended; "" as long as it has not.
    """

    servers: str
    sota: str
    said: str = ""

    @classmethod
    def load(cls, text: str) -> Mark:
        return cls(**json.loads(text))

    def dump(self) -> str:
        return json.dumps(asdict(self))

    def after(self, servers: Servers, said: str | None = None) -> Mark:
        # What was only asked decides about nothing.
        state = json.dumps({**json.loads(servers.dump()), "requests": []})
        return replace(self, servers=state, said=self.said if said is None else said)

    def noting(self, note: Note) -> Servers:
        """The servers, each change of which is noted."""
        servers = Servers.load(self.servers)
        servers.mark = lambda _: note(self.after(servers).dump())
        return servers


@dataclass(frozen=True, slots=True)
class Rotation:
    """A scenario of ``cuts``.

    Attributes:
        set_up: what has happened before; the device is registered and has a configuration.
        act: what is cut.
        go_on: what the agent does after a boot, once what runs first has run.
        ends: with what ``go_on`` may come back.
        polled: another program uses the live pair before it, as aktualizr-lite does.
    """

    name: str
    set_up: SetUp
    act_on: Act
    go_on: Act
    ends: tuple[Result, ...]
    polled: bool = False

    def prepare(self) -> str:
        servers = simulated.make_device(DISK, ROOT)
        self.set_up(servers)
        sota = DISK.read(f"{STORAGE}/sota.toml").decode()
        return Mark("", sota).after(servers).dump()

    def act(self, mark: str, note: Note) -> None:
        before = Mark.load(mark)
        servers = before.noting(note)
        with opened(servers) as agent:
            said = self.act_on(agent).result
        note(before.after(servers, said).dump())

    def boot(self, mark: str, note: Note) -> Verdict:
        before = Mark.load(mark)
        servers = before.noting(note)
        with opened(servers, _offline) as agent:
            agent.recover(_unwatched)
        broken = _instantly_broken(servers)
        if self.polled:
            with opened(servers) as agent:
                device = agent.device
                device.sessions.gateway(device.live_credential()).check()
        with opened(servers) as agent:
            outcome = self.go_on(agent)
        note(before.after(servers, outcome.result).dump())
        broken += _finally_broken(servers, before.sota)
        broken += self._told_wrongly(before, servers, outcome)
        rotated = promises.has_rotated(_in_memory(trees.read(".")), STORAGE)
        return Verdict(tuple(broken), "rotated" if rotated else "reverted")

    def _told_wrongly(self, before: Mark, servers: Servers, outcome: Outcome) -> Iterator[Broken]:
        """What was acknowledged stays; nothing else is an end."""
        if outcome.result not in (*self.ends, Result.NOTHING_TO_DO):
            yield BROKEN, f"it ended with {outcome.result.value}: {outcome.message}"
        if not before.said:
            return
        if outcome.result is not Result.NOTHING_TO_DO:
            yield BROKEN, f"it had ended with {before.said}, and now with {outcome.result.value}"
        if Servers.load(before.servers).public_key != servers.public_key:
            yield BROKEN, f"it had ended with {before.said}, and now there is another key"


@contextlib.contextmanager
def opened(servers: Servers, wrap: Wrap = no_wrap) -> Iterator[Agent]:
    """The agent of the device in the working directory, on its real disk."""
    clock = SettableClock()
    with simulated.opened(DISK, servers, ROOT, clock, CountingServices(clock), wrap) as agent:
        yield agent


def _instantly_broken(servers: Servers) -> list[Broken]:
    tree = trees.read(".")
    return [*promises.at_any_instant(_in_memory(tree), servers, STORAGE), *_modes(tree)]


def _finally_broken(servers: Servers, sota: str) -> list[Broken]:
    tree = trees.read(".")
    disk = _in_memory(tree)
    return [
        *promises.at_the_end(disk, servers, STORAGE),
        *promises.only_the_pair_changed(sota.encode(), disk.read(f"{STORAGE}/sota.toml")),
        *_modes(tree),
    ]


def _in_memory(tree: Tree) -> MemoryDisk:
    """The same disk for an oracle that looks at each file again and again."""
    entries: dict[str, memory.File | memory.Link] = {}
    directories = set()
    for place, node in trees.listing(tree):
        path = f"{ROOT}/{place}" if place else ROOT
        match node:
            case File():
                entries[path] = memory.File(node.content, node.mode)
            case Symlink():
                entries[path] = memory.Link(node.target)
            case Directory():
                directories.add(path)
    return MemoryDisk(entries, frozenset(directories))


def _modes(tree: Tree) -> Iterator[Broken]:
    """Nobody else may read a key; what is replaced keeps its mode."""
    for path, node in trees.listing(tree):
        if isinstance(node, File):
            kept = _KEPT_MODES.get(path, node.mode)
            private = b"PRIVATE KEY" in node.content and node.mode & 0o077
            if private or node.mode != kept:
                yield BROKEN, f"{path} has mode {node.mode:04o}"


def _offline(port: Any, name: str) -> Any:
    """What runs first at boot has no network."""
    if name in ("gateway", "est"):
        raise AssertionError(f"{name} was asked for while there is no network")
    return port


def _unwatched(progress: object) -> None:
    del progress


# --- what is done ---


def rotate(agent: Agent, identifier: str = ID) -> Outcome:
    return agent.rotate(now=True, est_url=None, rotation_id=identifier, watch=_unwatched)


def rotate_unless_over(agent: Agent) -> Outcome:
    """What is over is not begun anew; a check-in delivers what has not been told."""
    status = agent.status()
    if status.open is None and status.last is not None and status.last.id == ID:
        return agent.rotate(now=False, est_url=None, rotation_id=None, watch=_unwatched)
    return rotate(agent)


# --- what was before ---


def registered(servers: Servers) -> None:
    del servers


def rotated_once(servers: Servers) -> None:
    with opened(servers) as agent:
        _expect(rotate(agent, "certs-0"), Result.COMPLETED)


def foreign_ca(servers: Servers) -> None:
    """The gateway does not trust what the EST server issues."""
    servers.est_ca = "foreign-ca"


def another_key_awaited(servers: Servers) -> None:
    """Locked, before the commit; then the gateway forgets the new key for good."""
    with opened(servers, _refusing_configuration) as agent:
        _expect(rotate(agent), Result.TRY_AGAIN)
    stranger = public_pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    servers.foreign_public_key = "accept"
    servers.strangers = [stranger]
    servers.next_public_key = stranger


class _Refusing:
    """A line to a gateway that cannot store configurations."""

    def __init__(self, line: Any) -> None:
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def request(self, method: str, path: str, **named: Any) -> Response:
        if (method, path) == ("PATCH", "/config"):
            return Response(500, {}, b"")
        answer: Response = self._line.request(method, path, **named)
        return answer


def _refusing_configuration(port: Any, name: str) -> Any:
    return _Refusing(port) if name == "gateway" else port


def _expect(outcome: Outcome, result: Result) -> None:
    if outcome.result is not result:
        raise AssertionError(f"set-up ended with {outcome.result.value}: {outcome.message}")


ROTATED: Final = (Result.COMPLETED,)
REVERTED: Final = (Result.FAILED,)

SCENARIOS: Final = (
    Rotation("first rotation", registered, rotate, rotate, ROTATED),
    Rotation("second rotation", rotated_once, rotate, rotate, ROTATED),
    Rotation("first rotation, polled at boot", registered, rotate, rotate, ROTATED, polled=True),
    Rotation("given up", foreign_ca, rotate, rotate_unless_over, REVERTED),
    Rotation("reverted", another_key_awaited, rotate, rotate_unless_over, REVERTED),
)

"""A rotation on a real file system and simulated servers: how it is cut, and what is promised.

The device's directory is named ``/proc/self/cwd``: so its files, which hold their
own paths, mean the same device wherever they are written, in as many processes as
there are. A mark is what the servers remember, and what the command has said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from fioagent.agent import Agent
from fioagent.disk import LocalDisk
from fioagent.rotation.rotator import Outcome, Result
from tests.crash import canonical, memory, promises, simulated
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
DISK: Final = LocalDisk()
_FIOCONFIGS: Final = "var/sota/cert-rotation.state"  # with a key that its group may read: its own
_KEPT_MODES: Final = {"var/sota/sota.toml": 0o640, "var/sota/config.encrypted": 0o640}

_ENDS: Final = (Result.COMPLETED, Result.FAILED, Result.CANCELLED)
_RUNS: Final = 4

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

    def noting(self, note: Note | None) -> Servers:
        """The servers, each change of which is noted."""
        servers = Servers.load(self.servers)
        if note is not None:
            servers.mark = lambda _: note(self.after(servers).dump())
        return servers


@dataclass(frozen=True)
class Rotation:
    """A scenario of ``cuts``.

    Attributes:
        set_up: what has happened before; the device is registered and has a configuration.
        run: what is cut.
        next_run: what the agent does afterwards, once what runs first at boot has run.
        end: how it has to come to its end, then or before.
        polled: another program uses the live pair before it, as aktualizr-lite does.
    """

    name: str
    set_up: SetUp
    run: Act
    next_run: Act
    end: Result
    polled: bool = False

    insignificant = ("var/sota/fioagent/lock",)  # who holds it, for a person to read

    def shape(self, tree: Tree, mark: str) -> bytes:
        """What is on the disk and at the servers, and what the command has said."""
        before, disk = Mark.load(mark), _in_memory(tree)
        nodes = [
            (place, node.target if isinstance(node, Symlink) else node.mode)
            for place, node in trees.listing(tree)
        ]
        said = [canonical.of(disk, STORAGE, Servers.load(before.servers)), before.said, nodes]
        return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).digest()

    def prepare(self) -> str:
        servers = simulated.make_device(DISK, ROOT)
        self.set_up(servers)
        sota = DISK.read(f"{STORAGE}/sota.toml").decode()
        return Mark("", sota).after(servers).dump()

    def act(self, mark: str, note: Note) -> None:
        before = Mark.load(mark)
        servers = before.noting(note)
        with opened(servers) as agent:
            result = self.run(agent).result
        note(before.after(servers, _said(result)).dump())

    def go_on(self, mark: str, killed: bool, note: Note | None) -> Verdict:
        before = Mark.load(mark)
        servers = before.noting(note)
        if not killed:
            with opened(servers, _offline) as agent:
                agent.recover(unwatched)
        tree = trees.read(".")
        disk = _in_memory(tree)
        broken = promises.at_any_instant(disk, servers, STORAGE, recovered=not killed)
        broken += _modes(tree)
        if self.polled:
            with opened(servers) as agent:
                device = agent.device
                device.sessions.gateway(device.live_credential()).check()
        outcome = self._to_the_end(servers)
        if note is not None:
            note(before.after(servers, _said(outcome.result) or before.said).dump())
        tree = trees.read(".")
        disk = _in_memory(tree)
        rotated = promises.has_rotated(disk, STORAGE)
        broken += [
            *promises.at_the_end(disk, servers, STORAGE),
            *promises.only_the_pair_changed(
                before.sota.encode(), disk.read(f"{STORAGE}/sota.toml")
            ),
            *_modes(tree),
            *self._told_wrongly(before, servers, outcome),
        ]
        if rotated != (self.end is Result.COMPLETED):
            broken.append((BROKEN, "it has ended the other way"))
        return Verdict(tuple(broken), "rotated" if rotated else "reverted")

    def _to_the_end(self, servers: Servers) -> Outcome:
        """Run after run, as a timer starts them, until it says that it is over."""
        for _ in range(_RUNS):
            with opened(servers) as agent:
                outcome = self.next_run(agent)
            if outcome.result in (*_ENDS, Result.NOTHING_TO_DO):
                break
        return outcome

    def _told_wrongly(self, before: Mark, servers: Servers, outcome: Outcome) -> Iterator[Broken]:
        """What was acknowledged stays; nothing else is an end."""
        if outcome.result not in (self.end, Result.NOTHING_TO_DO):
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
            private = b"PRIVATE KEY" in node.content and node.mode & 0o077 and path != _FIOCONFIGS
            if private or node.mode != kept:
                yield BROKEN, f"{path} has mode {node.mode:04o}"


def _offline(port: Any, name: str) -> Any:
    """What runs first at boot has no network."""
    if name in ("gateway", "est"):
        raise AssertionError(f"{name} was asked for while there is no network")
    return port


def unwatched(progress: object) -> None:
    del progress


def _said(result: Result) -> str:
    """What a command has acknowledged; an end alone is a promise."""
    return result.value if result in _ENDS else ""

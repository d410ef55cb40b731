"""Every state in which a power cut can leave a device, noted while the agent is at work.

What a cut leaves is what the disk and the servers hold at that instant; the
process and its memory are gone. So one run gives all of its cuts: a copy of the
device before and after each effect, and with a half of each line that is appended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.crash.simulated import Simulation, Wrap
from tests.crash.simulated_token import SimulatedToken
from tests.power import EFFECTS

_CHANGES: Final = {
    "disk": {name for name, port in EFFECTS.items() if port == "disk"},
    "gateway": {"request", "handshake"},
    "est": {"request", "handshake"},
    "services": {"restart"},
    "token": {name for name, port in EFFECTS.items() if port == "token"},
}


@dataclass(slots=True)
class Cut:
    """A device without power: where it was, and what is left.

    Attributes:
        points: all in a row that leave the same.
        device: what is left.
    """

    points: list[str]
    device: Simulation


class Recording:
    """The cuts of what ``device`` does behind ``wrap``."""

    def __init__(self, device: Simulation) -> None:
        self.device = device
        self.cuts: list[Cut] = []

    def wrap(self, port: Any, name: str) -> Any:
        return _Watched(port, name, self) if name in _CHANGES else port

    def wrap_in(self, outer: Wrap) -> Wrap:
        """Both: ``outer`` is nearer to the agent, and what it keeps back has no effect."""
        return lambda port, name: outer(self.wrap(port, name), name)

    def at(self, point: str) -> None:
        if self.cuts and self.cuts[-1].device.left_the_same(self.device):
            self.cuts[-1].points.append(point)
        else:
            self.cuts.append(Cut([point], self.device.copy()))

    def half_appended(self, path: str, content: bytes) -> None:
        """What ``Disk.append`` allows a cut to leave: a part of it."""
        torn = self.device.copy()
        torn.disk.append(path, content[: len(content) // 2])
        self.cuts.append(Cut(["in append"], torn))

    def half_generated(self, identifier: bytes, label: str) -> None:
        """A pair in a token is two objects."""
        half = self.device.copy()
        SimulatedToken(half.disk, half.storage).half_generated(identifier, label)
        self.cuts.append(Cut(["in generate"], half))


class _Watched:
    def __init__(self, port: Any, name: str, recording: Recording) -> None:
        self._port = port
        self._changes = _CHANGES[name]
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        return self._effect(name, member) if name in self._changes else member

    def _effect(self, name: str, member: Callable[..., Any]) -> Callable[..., Any]:
        def effect(*arguments: Any, **named: Any) -> Any:
            point = " ".join(arguments[:2]) if name == "request" else name
            self._recording.at(f"before {point}")
            if name == "append":
                self._recording.half_appended(*arguments)
            if name == "generate":
                self._recording.half_generated(*arguments)
            result = member(*arguments, **named)
            self._recording.at(f"after {point}")
            return result

        return effect

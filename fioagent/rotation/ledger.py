"""The journal of one device, with what every writer of it does besides.

Who reaches a phase says so; who goes on with another run's work makes it durable
first; who ends a rotation removes what is left of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from fioagent.errors import ConfigError
from fioagent.model import Facts
from fioagent.rotation import steps
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Kind, Phase, Record, Rotation
from fioagent.rotation.reporter import Reporter
from fioagent.site import Device


@dataclass(frozen=True, slots=True)
class Progress:
    """Told to whoever watches: a phase was reached, or is gone on from.

    Attributes:
        rotation: as it stands with it.
        phase: the one.
        facts: what was recorded with it.
        resumed: an earlier run has reached it.
    """

    rotation: Rotation
    phase: Phase
    facts: Facts
    resumed: bool = False


Watch = Callable[[Progress], None]


class Ledger:
    """Rotations of one device, written down; the caller holds the device's lock."""

    def __init__(self, device: Device, watch: Watch) -> None:
        self.device = device
        self.journal = Journal(device.disk, device.site.state_directory)
        self._watch = watch
        self._reporter = Reporter(device, self.journal)

    def follow(self, rotation: Rotation) -> Rotation:
        """Read sota.toml where the rotation began to; whoever runs us now may search elsewhere."""
        paths = tuple(str(rotation.facts[Phase.BEGUN]["sota_paths"]).split(","))
        self.device = replace(self.device, site=replace(self.device.site, sota_paths=paths))
        self._reporter = Reporter(self.device, self.journal)
        return rotation

    def enter(self, phase: Phase, facts: Facts) -> Rotation:
        """``phase`` is reached: durable, then told."""
        rotation = self.add(Kind.PHASE, phase, facts)
        self._watch(Progress(rotation, phase, facts))
        return rotation

    def add(self, kind: Kind, phase: Phase | None = None, facts: Facts | None = None) -> Rotation:
        """A record of now."""
        return self.journal.add(Record(kind, self.device.clock.now(), phase, facts or {}))

    def resume(self, rotation: Rotation) -> Rotation:
        """Go on with what another run began; all that it did is durable from here on."""
        self.settle(rotation)
        rotation = self.add(Kind.RUN)
        # Whoever stops us has to know at once whether we commit.
        self._watch(Progress(rotation, rotation.phase, {}, resumed=True))
        return rotation

    def stopped(self) -> None:
        """This run ends because somebody wants it to: it did not die of what it was at."""
        with contextlib.suppress(ConfigError):  # a disk in trouble counts it as one that did
            self.journal.forgive()

    def settle(self, rotation: Rotation) -> None:
        """A process that was killed may have left in memory what is built on next."""
        device, place = self.device, self.device.site
        device.keys.settle(rotation.old)
        device.keys.settle(rotation.new)
        files = [file.path for file in device.sota().files]
        ours = [self.journal.path, place.config, place.staged_config, place.completed_marker]
        device.disk.settle([*files, *ours])

    def close(self, rotation: Rotation) -> None:
        """At an end. What is left to do is done again if the power fails before the archive."""
        if rotation.phase is not Phase.COMPLETED:
            # Recorded first: a rotation that goes on must find its key.
            steps.discard(rotation, self.device)
        self.journal.archive(rotation)
        self._reporter.prune()

    def deliver(self) -> None:
        """Events that have not reached the gateway, as many as it takes now."""
        self._reporter.deliver()

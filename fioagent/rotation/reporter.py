"""Delivery of update events: in order, at least once, and never in the way.

The journals are the spool. Each remembers how many of its events the gateway
has acknowledged; ended rotations are kept until that is all of them.
"""

from __future__ import annotations

from typing import Final

from fioagent.errors import AgentError
from fioagent.rotation import machine
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Kind, Record
from fioagent.site import Device

_BATCH: Final = 50  # a gateway takes bodies of 100 KB


class Reporter:
    """Events of the open rotation and of those that ended before it."""

    def __init__(self, device: Device, journal: Journal) -> None:
        self._device = device
        self._journal = journal

    def deliver(self) -> None:
        """As much as the gateway takes now. What goes wrong is left for the next time."""
        try:
            for journal in [*self._journal.ended(), self._journal]:
                self._deliver(journal)
        except AgentError:
            return  # the rotation's own trouble is told by the rotation

    def prune(self) -> None:
        """Of the journals whose events are all delivered, keep the latest."""
        try:
            for journal in self._journal.ended()[:-1]:
                if not journal.unreported():
                    journal.discard()
        except AgentError:
            return

    def _deliver(self, journal: Journal) -> None:
        while batch := journal.unreported()[:_BATCH]:
            rotation = machine.fold(journal.records)
            if rotation is None:
                raise AssertionError("events without a rotation")
            credential = rotation.live if rotation.is_open else self._device.live_credential()
            self._device.sessions.gateway(credential).post_events(batch)
            delivered = {"events": rotation.reported + len(batch)}
            journal.add(Record(Kind.REPORTED, self._device.clock.now(), facts=delivered))

"""Delivery of update events: in order, at least once, and never in the way.

The journals are the spool. Each remembers how many of its events the gateway
has acknowledged; the latest ten that ended are kept.
"""

from __future__ import annotations

import contextlib
import json
from typing import Final

from fioagent.errors import AgentError, CredentialRefusedError, PeerError
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Kind, Record
from fioagent.site import Device

_BATCH_BYTES: Final = 60 * 1024  # a gateway takes bodies of 100 KB
_KEPT: Final = 10  # ended journals: the spool, the story for people, the count of issuances


class Reporter:
    """Events of the open rotation and of those that ended before it."""

    def __init__(self, device: Device, journal: Journal) -> None:
        self._device = device
        self._journal = journal

    def deliver(self) -> None:
        """As much as the gateway takes now. What goes wrong is left for the next time."""
        try:
            if not self._may_speak():
                return
            for journal in [*self._journal.ended(), self._journal]:
                self._deliver(journal)
        except AgentError:
            return  # the rotation's own trouble is told by the rotation

    def _may_speak(self) -> bool:
        """Not in the middle of a commit: events must not be the first use of the new pair."""
        rotation = self._journal.rotation
        if rotation is None or not rotation.is_open:
            return True
        return self._device.live_credential() == rotation.live

    def prune(self) -> None:
        """Keep the latest ended journals; events that are older than that are lost."""
        try:
            for journal in self._journal.ended()[:-_KEPT]:
                journal.discard()
        except AgentError:
            return

    def _deliver(self, journal: Journal) -> None:
        while batch := _first(journal.unreported()):
            if journal.rotation is None:
                raise AssertionError("events without a rotation")
            credential = self._device.live_credential()
            try:
                self._device.sessions.gateway(credential).post_events(batch)
            except CredentialRefusedError:
                raise
            except PeerError:
                pass  # a body that it will never take must not hold up all that follow
            delivered = {"events": journal.rotation.reported + len(batch)}
            journal.add(Record(Kind.REPORTED, self._device.clock.now(), facts=delivered))


def deliver_rest(device: Device) -> None:
    """What rotations that are over have left to tell; one that is open tells its own.

    Not where another process holds the lock: that delivers too, if it is a rotation.
    """
    directory = device.site.state_directory
    journal = Journal(device.disk, directory)
    if not any(each.unreported() for each in journal.ended()):
        return
    with contextlib.suppress(AgentError), device.disk.lock(f"{directory}/lock", "check-in"):
        journal.load()
        Reporter(device, journal).deliver()


def _first(events: list[dict[str, object]]) -> list[dict[str, object]]:
    """As many as fit into one body; one at least."""
    size = 0
    for count, event in enumerate(events):
        size += len(json.dumps(event)) + 1
        if size > _BATCH_BYTES and count:
            return events[:count]
    return events

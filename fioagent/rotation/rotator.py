"""The loop that takes a rotation from phase to phase, and what becomes of a failure.

Before the pivot a definite no ends the rotation and leaves nothing behind.
After it there is only forward, with one exception: a gateway that refuses the
new credential at its first use, while it still takes the old one. Whatever else
goes wrong is a pause, and the next run goes on from the recorded phase.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass, replace

from fioagent import esturl
from fioagent.errors import (
    AgentError,
    ConfigError,
    CredentialChangedError,
    CredentialRefusedError,
    PeerError,
    TemporaryError,
)
from fioagent.model import Facts, RotationId
from fioagent.rotation import beginning, identity, machine, steps, takeover
from fioagent.rotation.journal import Journal
from fioagent.rotation.machine import Kind, Phase, Record, Rotation
from fioagent.rotation.reporter import Reporter
from fioagent.site import Device


class Result(str, enum.Enum):
    """How a run ended."""

    COMPLETED = "completed"
    NOTHING_TO_DO = "nothing-to-do"
    TRY_AGAIN = "try-again"  # the rotation stays open, or was not begun
    NEEDS_PERSON = "needs-person"  # the same, and waiting alone will not help
    FAILED = "failed"  # over; the old credential is live
    CANCELLED = "cancelled"  # the same, because a person wanted it
    RECOVERED = "recovered"  # what a power cut had left half-done is done


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and the words for it.

    Attributes:
        result: see Result.
        message: one line.
        hint: what to do next; None where nothing is to be done.
        rotation: as it stands now; None where none was begun.
    """

    result: Result
    message: str
    hint: str | None = None
    rotation: Rotation | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Told to whoever watches: a phase was reached, or something is worth a line."""

    rotation: Rotation
    phase: Phase
    facts: Facts


Watch = Callable[[Progress], None]


class Rotator:
    """Rotations of one device; the caller holds the device's lock."""

    def __init__(self, device: Device, watch: Watch) -> None:
        self._device = device
        self._watch = watch
        self._journal = Journal(device.disk, device.site.state_directory)
        self._reporter = Reporter(device, self._journal)

    def open_rotation(self) -> Rotation | None:
        """The one in our journal, or else one of fioconfig's, which is ours from here on.

        Raises:
            ConfigError: a journal, or a state of fioconfig, that cannot be read.
            TemporaryError: fioconfig runs and goes on with it.
        """
        with contextlib.suppress(ConfigError):  # said where its id is asked for
            takeover.clean_marker(self._device)
        rotation = self._journal.load()
        state = takeover.found(self._device)
        if state is None or (rotation is None and not state.key):
            return rotation
        if rotation is None:
            rotation = self._journal.start(takeover.records(state, self._device))
        takeover.finish(state, rotation, self._device)
        return rotation

    def begun_by_fioconfig(self) -> takeover.ForeignState | None:
        """A rotation of which it has no key yet: an id and an address."""
        return takeover.found(self._device)

    def is_done(self, rotation: RotationId) -> bool:
        """Whether the rotation that succeeded last has this id: what the stock handler asks."""
        marker = self._device.disk.read_if_there(self._device.site.completed_marker)
        return marker is not None and f'"RotationId":"{rotation}",'.encode() in marker

    def plan(
        self, identifier: RotationId, est_url: str, predecessor: Rotation | None = None
    ) -> Facts:
        """See ``beginning.plan``."""
        return beginning.plan(self._device, self._journal, identifier, est_url, predecessor)

    def begin(self, plan: Facts) -> Rotation:
        """The first record."""
        rotation = self._enter(Phase.BEGUN, plan)
        state = self._device.site.foreign_state
        if self._device.disk.is_there(state):
            self._device.disk.remove(state)  # of a rotation that it had only begun
        return rotation

    def resume(self, rotation: Rotation) -> Rotation:
        """Go on with what another run began; all that it did is durable from here on."""
        self._settle(rotation)
        return self._add(Record(Kind.RUN, self._device.clock.now()))

    def supersede(self, rotation: Rotation, plan: Facts) -> Rotation:
        """End ``rotation`` in favour of the one that ``plan`` begins.

        Raises:
            ConfigError: the disk; either rotation is open then.
        """
        self._settle(rotation)
        reason = {"reason": f"superseded by rotation {plan['id']}"}
        end = Phase.SUPERSEDED if rotation.announced else Phase.ABANDONED
        self._close(self._enter(end, reason))
        return self.begin(plan)

    def set_aside(self) -> Rotation | None:
        """Keep a copy of a damaged journal; the rotation that its sound part tells of.

        The damaged one is in its place until the next record is made.
        """
        sound = self._journal.set_aside()
        # What the damaged part said is not known: the gateway may have heard of its key.
        return None if sound is None else replace(sound, announced=True)

    def cancel(self, rotation: Rotation) -> Outcome:
        """Give up what nobody outside this device knows of.

        Raises:
            ConfigError: the gateway may know the new key.
        """
        if not rotation.before_pivot:
            raise ConfigError(
                f"cannot cancel rotation {rotation.id}: the gateway may know its new key",
                hint="it can only go forward; 'fioagent rotate --now' does, and another --id "
                "goes on with the same key",
            )
        self._settle(rotation)
        rotation = self._enter(Phase.ABANDONED, {"reason": "cancelled at the device"})
        self._reporter.deliver()
        self._close(rotation)
        said = f"rotation {rotation.id} is cancelled; the live credential is as it was"
        return Outcome(Result.CANCELLED, said, None, rotation)

    def recover(self) -> Outcome:
        """Finish a commit or a way back that was cut in half: offline, from the journal alone.

        What needs the network waits for the next run. Safe to repeat, and to be cut itself.
        Whatever fioconfig has left beside a journal of ours waits too.
        """
        rotation = self._journal.load() or self.open_rotation()
        if rotation is None:
            return Outcome(Result.NOTHING_TO_DO, "no rotation is open")
        self._settle(rotation)
        done = "nothing was half-done"
        if rotation.is_open:
            identity.require_known_credential(rotation, self._device)
        if rotation.phase is Phase.DEVICE_CONFIG_UPDATED:
            rotation = self._enter(Phase.COMMITTED, steps.commit(rotation, self._device))
            done = "sota.toml and config.encrypted are those of the new credential"
        elif rotation.phase is Phase.REVERTING:
            steps.revert_locally(rotation, self._device)
            done = "sota.toml and config.encrypted are those of the old credential"
        elif not rotation.is_open:
            self._close(rotation)
            done = "it is over, and nothing of it is left"
        return Outcome(Result.RECOVERED, f"rotation {rotation.id}: {done}", None, rotation)

    def amend(self, rotation: Rotation, est_url: str) -> Rotation:
        """Another EST server for a rotation that has no certificate yet."""
        url = esturl.base_url(est_url)
        if url == rotation.est_url:
            return rotation
        return self._add(Record(Kind.AMEND, self._device.clock.now(), facts={"est_url": url}))

    def drive(self, rotation: Rotation) -> Outcome:
        """From the recorded phase as far as it goes."""
        outcome = None
        while outcome is None and rotation.is_open:
            try:
                rotation = self._advance(rotation)
            except AgentError as error:
                rotation, outcome = self._failed(rotation, error)
        self._reporter.deliver()
        return outcome or self._closed(rotation)

    def deliver_events(self) -> None:
        """What earlier rotations could not report."""
        self._reporter.deliver()

    def _advance(self, rotation: Rotation) -> Rotation:
        phase = machine.next_phase(rotation)
        if phase is None:
            raise AssertionError(f"{rotation.phase.value} is an end")
        identity.require_known_credential(rotation, self._device)
        if phase is Phase.ABANDONED:
            if not steps.old_still_works(rotation, self._device):
                # Somebody has used the new pair since, and the gateway has taken it.
                return self._forward(rotation)
            steps.revert(rotation, self._device)
            return self._enter(Phase.ABANDONED, rotation.facts[Phase.REVERTING])
        if phase in machine.ATTEMPTS and not rotation.has_attempted(phase):
            rotation = self._add(Record(Kind.ATTEMPT, self._device.clock.now(), phase))
        rotation = self._enter(phase, steps.STEPS[phase](rotation, self._device))
        if phase is Phase.DEVICE_CONFIG_UPDATED:
            self._reporter.deliver()  # the last time that the old credential's connection is open
        return rotation

    def _failed(self, rotation: Rotation, error: AgentError) -> tuple[Rotation, Outcome | None]:
        """What a failure makes of the rotation; an outcome where this run is over.

        ``rotation`` is as it was before the attempt. So a lock that is refused at
        the first try ends it, but one whose answer may have been lost earlier does not.
        """
        phase = machine.next_phase(rotation)
        try:
            if rotation.before_pivot and _ends(phase, error):
                return self._enter(Phase.ABANDONED, _reason(error)), None
            if phase is Phase.CONFIRMED and isinstance(error, CredentialRefusedError):
                return self._refused(rotation, error), None
            held = rotation.phase is Phase.REVERTING and rotation.paused is not None
            if held and isinstance(error, PeerError):
                return self._forward_again(rotation, error), None
        except AgentError as trouble:
            error = trouble
        return self._pause(rotation, error)

    def _refused(self, rotation: Rotation, error: AgentError) -> Rotation:
        """Back, once it is sure that the gateway will not have the new pair but takes the old."""
        waits = False
        try:
            # The lock may have lapsed: with the old pair accepted, announce the key again.
            steps.lock(rotation, self._device)
            waits = True
            return self._enter(Phase.CONFIRMED, steps.confirm(rotation, self._device))
        except PeerError as again:
            if waits and not isinstance(again, CredentialRefusedError):
                raise  # an answer to the new pair, and no refusal of it
            if not steps.old_still_works(rotation, self._device):
                raise ConfigError(
                    f"the gateway refuses the old and the new credential ({error})",
                    hint="the operator has to look at this device's keys on the gateway",
                ) from error
        by_alert = isinstance(error, CredentialRefusedError) and error.alert is not None
        facts = {**_reason(error), "gateway_waits": waits, "by_alert": by_alert}
        return self._enter(Phase.REVERTING, facts)

    def _forward_again(self, rotation: Rotation, error: AgentError) -> Rotation:
        """A gateway whose TLS refused the new certificate may take it by now."""
        if not rotation.facts[Phase.REVERTING]["by_alert"]:
            raise error  # a handshake would tell nothing
        try:
            self._device.sessions.gateway(rotation.new).handshake()
        except PeerError:
            raise error from None
        return self._forward(rotation)

    def _forward(self, rotation: Rotation) -> Rotation:
        """Out of the way back: the commit is next again, and recovery knows it."""
        facts = rotation.facts[Phase.DEVICE_CONFIG_UPDATED]
        return self._enter(Phase.DEVICE_CONFIG_UPDATED, facts)

    def _pause(self, rotation: Rotation, error: AgentError) -> tuple[Rotation, Outcome]:
        phase = machine.next_phase(rotation)
        facts: dict[str, str | int | bool] = {"reason": str(error)}
        if isinstance(error, TemporaryError) and error.retry_after_s is not None:
            facts["retry_after_s"] = int(error.retry_after_s)
        with contextlib.suppress(ConfigError):  # a disk in trouble takes no word of it
            rotation = self._add(Record(Kind.PAUSE, self._device.clock.now(), phase, facts))
        hint = error.hint
        if isinstance(error, PeerError) and Phase.CONFIRMED not in rotation.facts:
            hint = "the rotation stays open: the gateway may know the new key; tell the operator"
        waiting = isinstance(error, (TemporaryError, PeerError))
        result = Result.TRY_AGAIN if waiting else Result.NEEDS_PERSON
        return rotation, Outcome(result, str(error), hint, rotation)

    def _closed(self, rotation: Rotation) -> Outcome:
        try:
            self._close(rotation)
        except ConfigError as error:
            return Outcome(Result.NEEDS_PERSON, str(error), error.hint, rotation)
        if rotation.phase is Phase.COMPLETED:
            serial = rotation.fact(Phase.CERT_ISSUED, "serial")
            return Outcome(Result.COMPLETED, f"rotated to serial {serial}", None, rotation)
        facts = rotation.facts[rotation.phase]
        hint = facts.get("hint")
        return Outcome(
            Result.FAILED, str(facts["reason"]), None if hint is None else str(hint), rotation
        )

    def _close(self, rotation: Rotation) -> None:
        """At an end. What is left to do is done again if the power fails before the archive."""
        if rotation.phase is not Phase.COMPLETED:
            # Recorded first: a rotation that goes on must find its key.
            steps.discard(rotation, self._device)
        self._journal.archive(rotation)
        self._reporter.prune()

    def _settle(self, rotation: Rotation) -> None:
        """A process that was killed may have left in memory what we build on next."""
        device, place = self._device, self._device.site
        device.keys.settle(rotation.old)
        device.keys.settle(rotation.new)
        files = [file.path for file in device.sota().files]
        ours = [self._journal.path, place.config, place.staged_config, place.completed_marker]
        device.disk.settle([*files, *ours])

    def _enter(self, phase: Phase, facts: Facts) -> Rotation:
        rotation = self._add(Record(Kind.PHASE, self._device.clock.now(), phase, facts))
        self._watch(Progress(rotation, phase, facts))
        return rotation

    def _add(self, record: Record) -> Rotation:
        return self._journal.add(record)


def _ends(phase: Phase | None, error: AgentError) -> bool:
    """Whether a failure before the pivot leaves nothing to try again."""
    if isinstance(error, CredentialChangedError):
        return True
    if phase is Phase.LOCKED:
        # Only an answer counts: an alert on a later connection says nothing of this request.
        return isinstance(error, PeerError) and error.status is not None
    return isinstance(error, PeerError)


def _reason(error: AgentError) -> Facts:
    return {"reason": str(error)} | ({} if error.hint is None else {"hint": error.hint})

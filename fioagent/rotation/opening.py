"""Which rotation goes on: ours, fioconfig's, a new one, or another in its place."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from fioagent import esturl
from fioagent.errors import ConfigError
from fioagent.model import Facts, RotationId
from fioagent.rotation import beginning, takeover
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import Kind, Phase, Rotation
from fioagent.rotation.rotator import Outcome, Result


def open_rotation(ledger: Ledger) -> Rotation | None:
    """The one in our journal, or else one of fioconfig's, which is ours from here on.

    Raises:
        ConfigError: a journal, or a state of fioconfig, that cannot be read.
        TemporaryError: fioconfig runs and goes on with it.
    """
    with contextlib.suppress(ConfigError):  # said where its id is asked for
        takeover.clean_marker(ledger.device)
    rotation = ledger.journal.load()
    state = takeover.found(ledger.device)
    if state is None or (rotation is None and not state.key):
        return rotation
    if rotation is None:
        rotation = ledger.journal.start(takeover.records(state, ledger.device))
    takeover.finish(state, rotation, ledger.device)
    return rotation


def is_done(ledger: Ledger, rotation: RotationId) -> bool:
    """Whether the rotation that succeeded last has this id: what the stock handler asks."""
    marker = ledger.device.disk.read_if_there(ledger.device.site.completed_marker)
    return marker is not None and f'"RotationId":"{rotation}",'.encode() in marker


def plan(
    ledger: Ledger, identifier: RotationId, est_url: str, predecessor: Rotation | None = None
) -> Facts:
    """See ``beginning.plan``."""
    return beginning.plan(ledger.device, ledger.journal, identifier, est_url, predecessor)


def begin(ledger: Ledger, plan: Facts) -> Rotation:
    """The first record."""
    rotation = ledger.enter(Phase.BEGUN, plan)
    state = ledger.device.site.foreign_state
    if ledger.device.disk.is_there(state):
        ledger.device.disk.remove(state)  # of a rotation that it had only begun
    return rotation


def amend(ledger: Ledger, rotation: Rotation, est_url: str) -> Rotation:
    """Another EST server for a rotation that has no certificate yet."""
    url = esturl.base_url(est_url)
    if url == rotation.est_url:
        return rotation
    return ledger.add(Kind.AMEND, facts={"est_url": url})


def supersede(ledger: Ledger, rotation: Rotation, plan: Facts) -> Rotation:
    """End ``rotation`` in favour of the one that ``plan`` begins.

    Raises:
        ConfigError: the disk; either rotation is open then.
    """
    ledger.settle(rotation)
    reason = {"reason": f"superseded by rotation {plan['id']}"}
    end = Phase.SUPERSEDED if rotation.announced else Phase.ABANDONED
    ledger.close(ledger.enter(end, reason))
    return begin(ledger, plan)


def set_aside(ledger: Ledger) -> Rotation | None:
    """Keep a copy of a damaged journal; the rotation that its sound part tells of.

    The damaged one is in its place until the next record is made.
    """
    sound = ledger.journal.set_aside()
    # What the damaged part said is not known: the gateway may have heard of its key.
    return None if sound is None else replace(sound, announced=True)


def cancel(ledger: Ledger, rotation: Rotation) -> Outcome:
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
    ledger.settle(rotation)
    rotation = ledger.enter(Phase.ABANDONED, {"reason": "cancelled at the device"})
    ledger.deliver()
    ledger.close(rotation)
    said = f"rotation {rotation.id} is cancelled; the live credential is as it was"
    return Outcome(Result.CANCELLED, said, None, rotation)

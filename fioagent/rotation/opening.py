"""Which rotation goes on: ours, fioconfig's, a new one, or another in its place."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from fioagent import esturl
from fioagent.errors import ConfigError
from fioagent.model import CredentialRef, Facts, ObjectIds, RotationId
from fioagent.rotation import beginning, identity, memory, takeover
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import CANCELLED, Kind, Phase, Rotation
from fioagent.rotation.rotator import Outcome, Result


@dataclass(frozen=True, slots=True)
class Wish:
    """A rotation that was asked for and not begun yet.

    Attributes:
        id: of it.
        est_url: empty where none is known.
    """

    id: RotationId
    est_url: str


def open_rotation(ledger: Ledger) -> Rotation | None:
    """The one in our journal, or else one of fioconfig's, which is ours from here on.

    Raises:
        ConfigError: a journal, or a state of fioconfig, that cannot be read.
        TemporaryError: fioconfig runs and goes on with it.
    """
    with contextlib.suppress(ConfigError):  # said where its id is asked for
        takeover.clean_marker(ledger.device)
    return taken_over(ledger, ledger.journal.load())


def taken_over(ledger: Ledger, rotation: Rotation | None) -> Rotation | None:
    """``rotation``, or one of fioconfig's where there is none; its state file is gone then."""
    if rotation is not None:
        ledger.follow(rotation)
    state = takeover.found(ledger.device)
    if state is None or (rotation is None and not state.key):
        return rotation
    if rotation is None:
        rotation = ledger.journal.start(takeover.records(state, ledger.device))
    takeover.finish(state, rotation, ledger.device)
    return rotation


def wished(ledger: Ledger) -> Wish | None:
    """What has to be begun without being asked again: both are a promise to somebody else.

    A successor, where the power failed after the rotation that it supersedes had
    ended: the gateway waits. Or one that fioconfig had begun and has no key of yet.
    """
    ended = ledger.journal.ended()
    latest = ended[-1].rotation if ended else None
    if latest is not None and latest.phase is Phase.SUPERSEDED:
        facts = latest.facts[Phase.SUPERSEDED]
        return Wish(RotationId(str(facts["by"])), str(facts["est_url"]))
    state = takeover.found(ledger.device)
    if state is None or is_done(ledger, state.id):
        return None
    with contextlib.suppress(ConfigError):
        return Wish(state.id, esturl.base_url(state.est_url))
    return Wish(state.id, "")


def is_done(ledger: Ledger, rotation: RotationId) -> bool:
    """Whether it succeeded, or another took its place.

    The stock handler looks into the marker alone, so it asks for an id again after
    others have come; journals that are pruned are remembered for the latest trigger.
    """
    marker = ledger.device.disk.read_if_there(ledger.device.site.completed_marker)
    if marker is not None and f'"RotationId":"{rotation}",'.encode() in marker:
        return True
    seen = memory.seen(ledger.device)
    if seen is not None and (seen.id, seen.end) == (rotation, Phase.COMPLETED):
        return True
    ended = [each.rotation for each in ledger.journal.ended()]
    return any(
        each is not None and each.id == rotation and each.phase is not Phase.ABANDONED
        for each in ended
    )


def plan(
    ledger: Ledger,
    identifier: RotationId,
    est_url: str,
    ids: ObjectIds,
    pair: CredentialRef | None = None,
) -> Facts:
    """See ``beginning.plan``."""
    return beginning.plan(ledger.device, ledger.journal, identifier, est_url, pair, ids)


def begin(ledger: Ledger, plan: Facts) -> Rotation:
    """The first record."""
    rotation = ledger.enter(Phase.BEGUN, plan)
    takeover.forget_wish(ledger.device)
    return rotation


def amend(ledger: Ledger, rotation: Rotation, est_url: str, facts: Facts) -> Rotation:
    """Another EST server for a rotation that has no certificate yet, and what asks for it."""
    label = ledger.device.settings.est_label
    url = esturl.labelled(esturl.base_url(est_url), label)
    if url == rotation.est_url:
        return rotation
    return ledger.add(Kind.AMEND, facts={**facts, "est_url": url})


def may_be_replaced(ledger: Ledger, rotation: Rotation) -> bool:
    """Whether another rotation may begin in its place, rather than after it."""
    device = ledger.device
    unnamed = rotation.may_be_superseded and device.live_credential() == rotation.old
    return unnamed or not identity.is_known(rotation, device)


def supersede(
    ledger: Ledger,
    rotation: Rotation,
    identifier: RotationId,
    est_url: str,
    ids: ObjectIds,
    because: Facts,
) -> Rotation:
    """End ``rotation`` in favour of another, and begin that.

    Raises:
        AgentError: preflight found a reason; ``rotation`` is open still.
        ConfigError: the disk; either rotation is open then, or the other is wished for.
    """
    pair = beginning.pair_of(ledger.device, rotation)
    facts = {**plan(ledger, identifier, est_url, ids, pair), **because}
    ledger.settle(rotation)
    reason = {"reason": f"superseded by rotation {identifier}", "by": identifier}
    end = Phase.SUPERSEDED if rotation.announced else Phase.ABANDONED
    ledger.close(ledger.enter(end, {**reason, "est_url": est_url}))
    return begin(ledger, facts)


def cancel(ledger: Ledger, rotation: Rotation) -> Outcome:
    """Give up what nobody outside this device knows of.

    Raises:
        ConfigError: the gateway may know the new key.
    """
    if not rotation.is_open:
        ledger.settle(rotation)
        ledger.close(rotation)
        return Outcome(Result.NOTHING_TO_DO, f"rotation {rotation.id} was over already")
    if not rotation.before_pivot:
        raise ConfigError(
            f"cannot cancel rotation {rotation.id}: the gateway may know its new key",
            hint="it can only go forward; 'fioagent rotate --now' does, and another --id "
            "goes on with the same key",
        )
    ledger.settle(rotation)
    rotation = ledger.enter(Phase.ABANDONED, {"reason": CANCELLED})
    ledger.deliver()
    ledger.close(rotation)
    said = f"rotation {rotation.id} is cancelled; the live credential is as it was"
    return Outcome(Result.CANCELLED, said, None, rotation)

"""Which rotation is undertaken: by hand, by trigger or by schedule; anew, or in another's place."""

from __future__ import annotations

import dataclasses

from fioagent import causes
from fioagent.errors import AgentError, ConfigError
from fioagent.model import Facts, ObjectIds, RotationId
from fioagent.rotation import memory, opening, rotator, salvage, wanting
from fioagent.rotation.journal import JournalDamagedError
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import Phase, Rotation
from fioagent.rotation.rotator import Outcome, Result
from fioagent.rotation.situation import Why
from fioagent.rotation.wanting import Order, View

_EARLY = (Phase.BEGUN, Phase.KEY_GENERATED)  # another EST server may be asked still


def rotate(ledger: Ledger, secrets: str, order: Order, *, now: bool) -> Outcome:
    """Go on with the open rotation, or begin one if it is asked for; as far as it goes.

    ``secrets`` is where configuration is extracted to. Without ``now`` what is wanted
    waits for its time; an id or an EST server that is news to the open rotation does not.

    Raises:
        AgentError: nothing was begun, and why.
    """
    file = wanting.asked(ledger, secrets)
    word = file.pending.id if order.id is None and file.pending is not None else order.id
    rotation = _open_rotation(ledger, word)
    if now or order.id is not None:
        order = wanting.by_hand(ledger, rotation, file, order)
    if not now and not ledger.journal.lost and not _is_news(rotation, order):
        return _in_time(ledger, secrets, rotation, order)
    return _carried_out(ledger, secrets, rotation, order, by_hand=now)


def _is_news(rotation: Rotation | None, order: Order) -> bool:
    if rotation is None:
        return False
    corrected = order.est_url is not None and rotation.phase in _EARLY
    return order.id not in (None, rotation.id) or corrected


def _in_time(ledger: Ledger, secrets: str, rotation: Rotation | None, order: Order) -> Outcome:
    """What is wanted at this moment, if anything is."""
    view = wanting.look(ledger, secrets, rotation)
    wanting.remember(ledger.device, view)
    if rotation is None and order.id is not None and opening.is_done(ledger, order.id):
        return _done_already(ledger, order.id)
    if not view.decision.wanted:
        return _idle(ledger, rotation, view)
    if order.id is None:
        order = dataclasses.replace(view.order, est_url=order.est_url or view.order.est_url)
    try:
        return _carried_out(ledger, secrets, rotation, order, by_hand=False)
    except AgentError as error:
        wanting.note_failure(ledger.device, view.decision, error)
        raise


def _idle(ledger: Ledger, rotation: Rotation | None, view: View) -> Outcome:
    """Nothing to do at this moment, in words."""
    decision, said = view.decision, view.decision.said
    if rotation is None:
        ledger.deliver()
        if view.asked.problem is not None:
            raise view.asked.problem
    if rotation is not None or decision.held_up:
        if decision.next_at is not None:
            said += f"; next try at {decision.next_at:%Y-%m-%d %H:%M:%S} UTC"
        return Outcome(Result.TRY_AGAIN, said, "'fioagent rotate --now' tries at once", rotation)
    if decision.why is Why.TRIGGER:
        said += f"; the turn of this device is at {decision.next_at:%Y-%m-%d %H:%M:%S} UTC"
    return Outcome(Result.NOTHING_TO_DO, said, "'fioagent rotate --now' rotates all the same")


def _carried_out(
    ledger: Ledger, secrets: str, rotation: Rotation | None, order: Order, *, by_hand: bool
) -> Outcome:
    if rotation is None:
        return _anew(ledger, secrets, order)
    wanted = order.id
    if wanted not in (None, rotation.id) and not opening.is_done(ledger, wanted):
        return _instead(ledger, secrets, rotation, wanted, order)
    if wanted in (None, rotation.id) and order.est_url is not None and rotation.phase in _EARLY:
        rotation = opening.amend(ledger, rotation, order.est_url, order.facts)
    outcome = rotator.drive(ledger, ledger.resume(rotation), by_hand=by_hand)
    if wanted in (None, rotation.id):
        return outcome
    return _noting(outcome, f"rotation {wanted} is done already; {rotation.id} was open")


def _open_rotation(ledger: Ledger, wanted: RotationId | None) -> Rotation | None:
    try:
        rotation = opening.open_rotation(ledger)
    except JournalDamagedError:
        # Only an id that is new is a person's word; a handler repeats old ones.
        if wanted is None or opening.is_done(ledger, wanted):
            raise
        rotation = salvage.set_aside(ledger)
        if rotation is not None and rotation.id == wanted:
            raise
    if rotation is None or rotation.phase is not Phase.SUPERSEDED:
        return rotation
    ledger.settle(rotation)
    ledger.close(rotation)
    return None


def _anew(ledger: Ledger, secrets: str, order: Order) -> Outcome:
    wish = opening.wished(ledger)
    wanted, est_url = order.id, order.est_url
    if wish is not None:
        wanted, est_url = wanted or wish.id, est_url or wish.est_url or None
    if wanted is not None and opening.is_done(ledger, wanted):
        return _done_already(ledger, wanted)
    pair = salvage.unremembered_pair(ledger.device) if ledger.journal.lost else None
    identifier = wanted or fresh_id(ledger)
    est_url = est_url_for(ledger, secrets, est_url)
    facts = opening.plan(ledger, identifier, est_url, ids_for(ledger, secrets, order), pair)
    return _begun(ledger, {**facts, **order.facts})


def _instead(
    ledger: Ledger, secrets: str, open_one: Rotation, wanted: RotationId, order: Order
) -> Outcome:
    """``wanted`` in place of the open rotation, or after it."""
    est_url = est_url_for(ledger, secrets, order.est_url, open_one)
    ids = ids_for(ledger, secrets, order)
    if opening.may_be_replaced(ledger, open_one):
        rotation = opening.supersede(ledger, open_one, wanted, est_url, ids, order.facts)
        memory.forget_setback(ledger.device)
        return rotator.drive(ledger, rotation)
    outcome = rotator.drive(ledger, ledger.resume(open_one))
    if outcome.rotation is None or outcome.rotation.is_open:
        why = f"rotation {wanted} was not begun: {open_one.id} is open and has to end first"
        return _noting(outcome, why)
    facts = opening.plan(ledger, wanted, est_url, ids)
    return _begun(ledger, {**facts, **order.facts})


def _done_already(ledger: Ledger, wanted: RotationId) -> Outcome:
    ledger.deliver()
    return Outcome(Result.NOTHING_TO_DO, f"rotation {wanted} is done already")


def _begun(ledger: Ledger, facts: Facts) -> Outcome:
    rotation = opening.begin(ledger, facts)
    memory.forget_setback(ledger.device)
    return rotator.drive(ledger, rotation)


def fresh_id(ledger: Ledger) -> RotationId:
    return RotationId(f"certs-{int(ledger.device.clock.now().timestamp())}")


def est_url_for(
    ledger: Ledger, secrets: str, given: str | None, predecessor: Rotation | None = None
) -> str:
    """As given, else from the settings, the operator's latest trigger, the one before.

    Raises:
        ConfigError: none is known.
    """
    found = given or ledger.device.settings.est_server
    if not found:
        found = wanting.est_url_of_trigger(ledger.device, secrets)
    if not found and predecessor is not None:
        found = predecessor.est_url
    if not found:
        raise ConfigError.of(causes.NO_EST, {"doing": "rotate"})
    return found


def ids_for(ledger: Ledger, secrets: str, order: Order) -> ObjectIds:
    """As given, else from the operator's latest trigger."""
    named = wanting.ids_of_trigger(ledger.device, secrets)
    return ObjectIds(order.ids.keys or named.keys, order.ids.certificates or named.certificates)


def _noting(outcome: Outcome, note: str) -> Outcome:
    return dataclasses.replace(outcome, hint=outcome.hint or note)

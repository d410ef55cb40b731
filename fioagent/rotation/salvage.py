"""Going on without a journal that is damaged, on an operator's word."""

from __future__ import annotations

from dataclasses import replace

from fioagent.errors import ConfigError
from fioagent.model import CredentialRef, Facts
from fioagent.rotation import hindsight, leftovers, opening
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import BEFORE_COMMIT, Kind, Phase, Record, Rotation
from fioagent.rotation.preflight import require_pair
from fioagent.site import Device


def set_aside(ledger: Ledger) -> Rotation | None:
    """Keep a copy; the rotation that the sound part tells of, or else one of fioconfig's.

    What the damaged part said is not known. Which pair sota.toml names tells on
    which side of the commit it was, and the gateway may have heard of the new key
    in any case. The damaged journal is in its place until the next record is made.
    """
    journal = ledger.journal
    journal.set_aside()
    if journal.rotation is None:
        return opening.taken_over(ledger, None)
    journal.amend(_missing(ledger, ledger.follow(journal.rotation)))
    return replace(journal.rotation, announced=True)


def unremembered_pair(device: Device) -> CredentialRef | None:
    """Of a rotation of which no word is left: its key may be the one that the gateway waits for."""
    certificate = require_pair(device, device.live_credential())
    return leftovers.pair_after(certificate, device)


def _missing(ledger: Ledger, sound: Rotation) -> list[Record]:
    """What must have been in the damaged part, by the pair that is live."""
    live = ledger.device.live_credential()
    now = ledger.device.clock.now()
    if live == sound.new and sound.phase in BEFORE_COMMIT:
        try:
            certificate = require_pair(ledger.device, live)
        except ConfigError:
            return []
        return hindsight.until_commit(sound.phase, certificate, now, {})
    if live == sound.old and sound.phase is Phase.COMMITTED:
        facts: Facts = {
            "reason": "the journal was damaged; sota.toml names the old pair again",
            "gateway_waits": True,
            "by_alert": False,
        }
        return [Record(Kind.PHASE, now, Phase.REVERTING, facts)]
    return []

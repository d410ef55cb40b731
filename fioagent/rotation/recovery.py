"""``fioagent recover``: what a power cut has left half-done, finished before anybody reads it."""

from __future__ import annotations

from fioagent.rotation import identity, opening, steps, takeover
from fioagent.rotation.ledger import Ledger
from fioagent.rotation.machine import Phase
from fioagent.rotation.rotator import Outcome, Result


def recover(ledger: Ledger) -> Outcome:
    """Finish a commit or a way back that was cut in half: offline, from the journal alone.

    What needs the network waits for the next run. Safe to repeat, and to be cut itself.
    Whatever fioconfig has left beside a journal of ours waits too; and as long as it
    is installed, it recovers its own.
    """
    rotation = ledger.journal.load()
    if rotation is None and not takeover.is_fioconfigs_own(ledger.device):
        rotation = opening.open_rotation(ledger)
    if rotation is None:
        return Outcome(Result.NOTHING_TO_DO, "no rotation is open")
    ledger.follow(rotation)
    ledger.settle(rotation)
    done = "nothing was half-done"
    if rotation.is_open:
        identity.require_known_credential(rotation, ledger.device)
    if rotation.phase is Phase.DEVICE_CONFIG_UPDATED:
        rotation = ledger.enter(Phase.COMMITTED, steps.commit(rotation, ledger.device))
        done = "sota.toml and config.encrypted are those of the new credential"
    elif rotation.phase is Phase.REVERTING:
        steps.revert_locally(rotation, ledger.device)
        done = "sota.toml and config.encrypted are those of the old credential"
    elif not rotation.is_open:
        ledger.close(rotation)
        done = "it is over, and nothing of it is left"
    return Outcome(Result.RECOVERED, f"rotation {rotation.id}: {done}", None, rotation)

"""Mutants of what happens in which order, and of what follows from a failure."""

from __future__ import annotations

from typing import Final

from tests.crash.mutant import Mutant

_BAD_INPUT: Final = "tests/test_bad_input.py"
_TEST_ROTATION: Final = "tests/test_rotation.py"

ORDER: Final = (
    Mutant(
        "confirm-before-commit",
        "what sota.toml names is accepted at every instant",
        "rotation/steps.py",
        "    require_pair(device, rotation.new)\n",
        "    confirm(rotation, device)\n",
        ("2",),
    ),
    Mutant(
        "retire-before-confirm",
        "the old key stays until the gateway has taken the new one",
        "rotation/steps.py",
        "    moment = device.clock.moment()\n",
        "    device.keys.retire(rotation.old, rotation.new)\n    moment = device.clock.moment()\n",
        ("2",),
    ),
    Mutant(
        "sota-in-two-writes",
        "sota.toml names a pair that matches, at every instant",
        "rotation/steps.py",
        "    device.disk.replace(file.path, sota.edited(file, wanted))\n",
        "    key = {keys[0]: wanted[keys[0]]}\n"
        "    device.disk.replace(file.path, sota.edited(file, key))\n"
        "    file = sota.file_to_edit(device.sota(), keys, device.disk.can_replace)\n"
        "    device.disk.replace(file.path, sota.edited(file, wanted))\n",
        ("2",),
    ),
    Mutant(
        "key-destroyed-before-the-end-is-recorded",
        "a rotation that goes on finds its key",
        "rotation/rotator.py",
        "            return ledger.enter(Phase.ABANDONED, _reason(error)), None\n",
        "            ledger.device.keys.destroy(rotation.new)\n"
        "            return ledger.enter(Phase.ABANDONED, _reason(error)), None\n",
        ("2",),
    ),
    Mutant(
        "archived-before-discarded",
        "nothing of an abandoned rotation is left",
        "rotation/ledger.py",
        "            steps.discard(rotation, self.device)\n",
        "            self.journal.archive(rotation)\n"
        "            steps.discard(rotation, self.device)\n"
        "            return\n",
        ("2",),
    ),
    Mutant(
        "gateway-not-looked-at-first",
        "the device's layer is rewritten once, and a repeat sees that",
        "rotation/steps.py",
        "if document.opens_with(config, recipient, _ON_GATEWAY):",
        "if False:",
        ("tests/test_recovery.py",),
    ),
    Mutant(
        "gateway-never-rewritten",
        "the device's layer opens with the new key",
        "rotation/steps.py",
        "if document.opens_with(config, recipient, _ON_GATEWAY):",
        "if True:",
        ("2",),
    ),
    Mutant(
        "stale-copy-put-in-place",
        "what another program wrote into config.encrypted is not lost",
        "rotation/steps.py",
        "    if found == (facts",
        "    if staged or found == (facts",
        (_TEST_ROTATION,),
    ),
    Mutant(
        "no-second-look-before-retiring",
        "the same, up to the moment when the old key goes",
        "rotation/steps.py",
        "    _put_config_in_place(rotation, device)\n    keys = ",
        "    keys = ",
        (_TEST_ROTATION,),
    ),
    Mutant(
        "one-key-at-hand",
        "the configuration is opened with whichever key opens it",
        "rotation/steps.py",
        "    pair = (rotation.old, rotation.new)\n",
        "    pair = (rotation.new,)\n",
        ("2",),
    ),
    Mutant(
        "time-not-kept",
        "config.encrypted keeps its time, the Last-Modified of fioconfig",
        "rotation/steps.py",
        "config, keep_time=True)",
        "config)",
        (_TEST_ROTATION,),
    ),
    Mutant(
        "staged-copy-stays",
        "nothing of ours is left at the end",
        "rotation/steps.py",
        "(rotation.new)\n    device.disk.remove(device.site.staged_config)",
        "(rotation.new)",
        ("2",),
    ),
    Mutant(
        "reverted-without-local-config",
        "after a way back config.encrypted opens with the old key",
        "rotation/steps.py",
        "_resealed(current, rotation.old, rotation, device)",
        "None",
        ("2",),
    ),
    Mutant(
        "reverted-without-gateway-config",
        "after a way back the gateway's copy opens with the old key",
        "rotation/steps.py",
        "    _rewrite_device_config(device, rotation.old, keys, rotation.old)\n",
        "",
        ("2",),
    ),
    Mutant(
        "gateway-left-waiting",
        "after a way back the gateway waits for no key that is destroyed",
        "rotation/steps.py",
        'if rotation.facts[Phase.REVERTING]["gateway_waits"]:',
        "if False:",
        (_BAD_INPUT,),
    ),
    Mutant(
        "old-pair-destroyed",
        "a rotation that is given up leaves the old pair",
        "rotation/steps.py",
        "device.keys.destroy(rotation.new)",
        "device.keys.destroy(rotation.old)",
        ("2",),
    ),
    Mutant(
        "given-up-after-the-pivot",
        "once the gateway may know the new key, a refusal ends nothing",
        "rotation/rotator.py",
        "if rotation.before_pivot and _ends(phase, error):",
        "if _ends(phase, error):",
        (_BAD_INPUT, "4"),
    ),
    Mutant(
        "pivot-without-the-attempt",
        "a lock whose answer was lost counts as a lock",
        "rotation/machine.py",
        "return self.phase in BEFORE_PIVOT and not self.announced",
        "return self.phase in BEFORE_PIVOT",
        (_BAD_INPUT, "4"),
    ),
    Mutant(
        "broken-line-ends-it",
        "trouble on the way leaves the rotation open",
        "rotation/rotator.py",
        "and error.status is not None\n    return isinstance(error, PeerError)",
        "and error.status is not None\n    return True",
        (_BAD_INPUT, "4"),
    ),
    Mutant(
        "broken-line-is-a-refusal",
        "a network failure at the first use is no refusal",
        "rotation/rotator.py",
        "if phase is Phase.CONFIRMED and isinstance(error, CredentialRefusedError):",
        "if phase is Phase.CONFIRMED:",
        (_BAD_INPUT, "4"),
    ),
    Mutant(
        "lock-not-announced-again",
        "a lock that lapsed is no refusal",
        "rotation/rotator.py",
        "    waits = _announced_again(ledger, rotation)\n",
        "    waits = False\n",
        (_BAD_INPUT,),
    ),
    Mutant(
        "back-without-asking",
        "there is no way back to a pair that the gateway has denied",
        "rotation/rotator.py",
        "if not steps.old_still_works(rotation, ledger.device):\n            # Somebody",
        "if False:\n            # Somebody",
        (_BAD_INPUT,),
    ),
    Mutant(
        "commit-not-recovered",
        "after a boot config.encrypted opens with the live key",
        "rotation/recovery.py",
        "if rotation.phase is Phase.DEVICE_CONFIG_UPDATED:",
        "if False:",
        ("2",),
    ),
    Mutant(
        "way-back-not-recovered",
        "the same, on the way back",
        "rotation/recovery.py",
        "elif rotation.phase is Phase.REVERTING:",
        "elif False:",
        ("2",),
    ),
    Mutant(
        "recovery-asks-the-gateway",
        "recovery needs no network",
        "rotation/recovery.py",
        "    ledger.settle(rotation)\n",
        "    ledger.settle(rotation)\n    ledger.deliver()\n",
        ("2",),
    ),
)

"""Mutants of events, of what is checked, and of rotations that meet other rotations."""

from __future__ import annotations

from typing import Final

from tests.crash.mutant import Mutant

_BAD_INPUT: Final = "tests/test_bad_input.py"

RULES: Final = (
    Mutant(
        "events-with-new-ids",
        "an event that is sent again is no second one",
        "rotation/events.py",
        '"id": str(identifier)',
        '"id": str(uuid.uuid4())',
        ("2",),
    ),
    Mutant(
        "reported-before-sent",
        "every event arrives",
        "rotation/reporter.py",
        "                self._device.sessions.gateway(credential).post_events(batch)\n",
        '                told = {"events": rotation.reported + len(batch)}\n'
        "                journal.add(Record(Kind.REPORTED, self._device.clock.now(), facts=told))\n"
        "                self._device.sessions.gateway(credential).post_events(batch)\n",
        ("2",),
    ),
    Mutant(
        "failure-told-as-success",
        "the last event tells the truth",
        "rotation/events.py",
        "Phase.ABANDONED: False",
        "Phase.ABANDONED: True",
        ("2",),
    ),
    Mutant(
        "events-hold-it-up",
        "events never hold a rotation up",
        "rotation/reporter.py",
        "        except AgentError:\n            return  # the rotation's",
        "        except AgentError:\n            raise  # the rotation's",
        ("tests/test_delivery.py",),
    ),
    Mutant(
        "certificate-for-another-key",
        "a certificate for another key is refused",
        "certcheck.py",
        "for candidate in certificates if candidate.spki_der == spki]",
        "for candidate in certificates]",
        (_BAD_INPUT,),
    ),
    Mutant(
        "certificate-of-the-same-serial",
        "a certificate with the old serial number is refused: the gateway denies that",
        "certcheck.py",
        "if same_issuer and ",
        "if False and ",
        ("tests/unit/test_certcheck.py",),
    ),
    Mutant(
        "new-ca-not-tried",
        "a CA that the gateway does not trust is found while backing out is free",
        "rotation/enrolment.py",
        "    _require_trusted(rotation, device, issued)\n    return",
        "    return",
        (_BAD_INPUT,),
    ),
    Mutant(
        "request-signed-anew",
        "after a 202 the same request goes out again",
        "rotation/enrolment.py",
        'request = base64.b64decode(rotation.fact(Phase.KEY_GENERATED, "csr"))',
        "request = x509.signing_request(device.keys.private_key(rotation.new), "
        "require_pair(device, rotation.old))",
        (_BAD_INPUT,),
    ),
    Mutant(
        "pair-not-matched",
        "a pair that does not match is refused before anything is changed",
        "rotation/preflight.py",
        "if spki_der(device.keys.private_key(credential).public_key()) != certificate.spki_der:",
        "if False:",
        (_BAD_INPUT,),
    ),
    Mutant(
        "old-identity-not-checked",
        "a device that was registered again keeps its new identity",
        "rotation/identity.py",
        "    if live == rotation.old:\n",
        "    if False:\n",
        (_BAD_INPUT,),
    ),
    Mutant(
        "any-live-credential",
        "a credential that somebody else put in place is not touched",
        "rotation/identity.py",
        "if live not in _credentials_in(rotation):",
        "if False:",
        (_BAD_INPUT,),
    ),
    Mutant(
        "superseded-key-destroyed",
        "the rotation that follows goes on with the key that the gateway waits for",
        "rotation/steps.py",
        "    if rotation.phase is Phase.ABANDONED:\n        device.keys.destroy",
        "    if True:\n        device.keys.destroy",
        ("2",),
    ),
    Mutant(
        "predecessor-forgotten",
        "the same",
        "rotation/beginning.py",
        "    return predecessor.new\n",
        "    return None\n",
        ("2",),
    ),
    Mutant(
        "cancelled-after-the-pivot",
        "what the gateway may know of cannot be cancelled",
        "rotation/opening.py",
        "if not rotation.before_pivot:",
        "if False:",
        ("tests/test_superseding.py",),
    ),
    Mutant(
        "state-of-fioconfig-gone-first",
        "the key that fioconfig made is in one durable place at every instant",
        "rotation/opening.py",
        "        rotation = ledger.journal.start(",
        "        ledger.device.disk.remove(ledger.device.site.foreign_state)\n"
        "        rotation = ledger.journal.start(",
        ("2",),
    ),
    Mutant(
        "state-of-fioconfig-stays",
        "a key is in one place only",
        "rotation/takeover.py",
        "    device.disk.remove(device.site.foreign_state)\n",
        "",
        ("2",),
    ),
    Mutant(
        "marker-keeps-the-key",
        "what fioconfig completed holds no key",
        "rotation/opening.py",
        "        takeover.clean_marker(ledger.device)",
        "        pass",
        ("tests/test_takeover.py",),
    ),
    Mutant(
        "ca-asked-without-end",
        "so many certificates a day and no more",
        "rotation/beginning.py",
        "    require_quota(device, journals)\n",
        "",
        ("tests/test_retry.py",),
    ),
    Mutant(
        "tried-again-at-once",
        "a failure is not tried again at once",
        "rotation/policy.py",
        "    if failed_at is None or not failed_at <= now < failed_at + wait:",
        "    if True:",
        ("tests/test_retry.py",),
    ),
)

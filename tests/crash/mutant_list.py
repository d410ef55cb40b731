"""The agent broken on purpose, one promise at a time.

``text`` has to occur exactly once in ``file``; a unit test holds that, so a change
of the agent that moves one is told at once. ``found_by`` says which check has to
fail: the number of a layer, or what pytest runs where the promise is none that a
crash can show. Not in the list, because no run of the agent reaches it: the sync
of a directory after appending to a file that was not there (LocalDisk.append).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to break the agent.

    Attributes:
        name: short, for the table and the command line.
        promise: what does not hold any more.
        file: below ``fioagent/``.
        text: what is replaced; it occurs once.
        instead: by what.
        found_by: layers ("3") or arguments of pytest, the likeliest first.
    """

    name: str
    promise: str
    file: str
    text: str
    instead: str
    found_by: tuple[str, ...]


_BAD_INPUT: Final = "tests/test_bad_input.py"
_TEST_DISK: Final = "tests/unit/test_disk.py"
_TEST_ROTATION: Final = "tests/test_rotation.py"

_DISK: Final = (
    Mutant(
        "write-unsynced",
        "a file is whole once its name is there",
        "disk.py",
        "before.st_mtime_ns))\n        os.fsync(descriptor)",
        "before.st_mtime_ns))",
        ("3",),
    ),
    Mutant(
        "append-unsynced",
        "a record is durable before the next step",
        "disk.py",
        "_write_all(descriptor, content)\n                os.fsync(descriptor)",
        "_write_all(descriptor, content)",
        ("3",),
    ),
    Mutant(
        "replace-directory-unsynced",
        "a replaced file stays replaced",
        "disk.py",
        "os.replace(temporary, target)\n            _sync_directory(os.path.dirname(target))",
        "os.replace(temporary, target)",
        ("3",),
    ),
    Mutant(
        "make-directory-unsynced",
        "the directory of the journal is there after a power cut",
        "disk.py",
        "os.mkdir(path, 0o700)\n            _sync_directory(os.path.dirname(path))",
        "os.mkdir(path, 0o700)",
        ("3",),
    ),
    Mutant(
        "link-directory-unsynced",
        "the stable names lead to the new pair once that is recorded",
        "disk.py",
        "os.replace(temporary, path)\n            _sync_directory(os.path.dirname(path))",
        "os.replace(temporary, path)",
        ("3",),
    ),
    Mutant(
        "rename-directory-unsynced",
        "a journal that was archived stays archived",
        "disk.py",
        "os.replace(path, new)\n            _sync_directory(os.path.dirname(new))",
        "os.replace(path, new)",
        ("3",),
    ),
    Mutant(
        "remove-directory-unsynced",
        "a key that was removed stays removed",
        "disk.py",
        "            if gone:\n",
        "            if False:\n",
        ("3",),
    ),
    Mutant(
        "settle-nothing",
        "what a killed process left in memory is durable before anything is built on it",
        "disk.py",
        "                _sync(target)\n",
        "                pass\n",
        ("3",),
    ),
    Mutant(
        "written-in-place",
        "a file is the old one or the new one, never a part",
        "disk.py",
        "        temporary = _temporary(target)\n",
        "        temporary = target\n",
        ("2", "3"),
    ),
    Mutant(
        "left-over-in-the-way",
        "a temporary file that a power cut left is no obstacle",
        "disk.py",
        "        os.unlink(path)\n    descriptor = os.open(path, os.O_WRONLY",
        "        pass\n    descriptor = os.open(path, os.O_WRONLY",
        ("2", "3"),
    ),
    Mutant(
        "half-written-copy-stays",
        "a key that is removed leaves no half-written copy",
        "disk.py",
        "for name in (path, _temporary(path)):",
        "for name in (path,):",
        (_TEST_DISK,),
    ),
    Mutant(
        "mode-not-kept",
        "a replaced file keeps its mode",
        "disk.py",
        "mode if before is None else stat.S_IMODE(before.st_mode)",
        "mode",
        (_TEST_DISK,),
    ),
    Mutant(
        "lock-shared",
        "one process at a time",
        "disk.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/unit/test_disk_limits.py",),
    ),
)

_JOURNAL: Final = (
    Mutant(
        "checksum-ignored",
        "damage is told, never guessed around",
        "rotation/journal.py",
        'checksum == b"%08x" % zlib.crc32(text)',
        "len(checksum) == 8",
        ("tests/unit/test_journal.py",),
    ),
    Mutant(
        "torn-line-is-damage",
        "a torn last line was never written",
        "rotation/journal.py",
        "if len(lines) > 2 and _is_torn(lines[-1]):",
        "if False:",
        ("3",),
    ),
    Mutant(
        "written-behind-a-torn-line",
        "the next record after a torn line is not lost with it",
        "rotation/journal.py",
        "self._suspect = content is not None",
        "self._suspect = False",
        ("3",),
    ),
    Mutant(
        "journal-begun-by-appending",
        "a journal is there with its beginning or not at all",
        "rotation/journal.py",
        "self._disk.replace(self.path, _whole(records))\n        self._suspect",
        "self._disk.append(self.path, _whole(records))\n        self._suspect",
        ("2", "3"),
    ),
    Mutant(
        "attempt-recorded-afterwards",
        "that the gateway may know the new key is durable before it is told",
        "rotation/rotator.py",
        "            rotation = self._add(Record(Kind.ATTEMPT, self._device.clock.now(), phase))\n",
        "            facts = steps.STEPS[phase](rotation, self._device)\n"
        "            self._add(Record(Kind.ATTEMPT, self._device.clock.now(), phase))\n"
        "            return self._enter(phase, facts)\n",
        (_BAD_INPUT, "4"),
    ),
    Mutant(
        "attempt-not-written",
        "the same, of the first use of the new certificate",
        "rotation/machine.py",
        "ATTEMPTS: Final = frozenset((Phase.LOCKED, Phase.CONFIRMED))",
        "ATTEMPTS: Final = frozenset((Phase.LOCKED,))",
        ("2",),
    ),
    Mutant(
        "key-in-the-journal",
        "the journal holds no private key",
        "rotation/steps.py",
        '        "csr": base64.b64encode(request).decode("ascii"),\n',
        '        "csr": base64.b64encode(request).decode("ascii"),\n'
        '        "key": device.disk.read(rotation.new.key).decode(),\n',
        ("2",),
    ),
    Mutant(
        "not-settled",
        "a resumed run builds on nothing that is in memory alone",
        "rotation/rotator.py",
        "        self._settle(rotation)\n        return self._add(Record(Kind.RUN",
        "        return self._add(Record(Kind.RUN",
        ("3",),
    ),
)

_ORDER: Final = (
    Mutant(
        "config-before-sota",
        "the credential is in place before the configuration that it opens",
        "rotation/steps.py",
        "    _point_sota_at(rotation.new, device)\n    _put_config_in_place(rotation, device)\n",
        "    _put_config_in_place(rotation, device)\n    _point_sota_at(rotation.new, device)\n",
        ("1", "2", "3"),
    ),
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
        "                return self._enter(Phase.ABANDONED, _reason(error)), None\n",
        "                self._device.keys.destroy(rotation.new)\n"
        "                return self._enter(Phase.ABANDONED, _reason(error)), None\n",
        ("2",),
    ),
    Mutant(
        "archived-before-discarded",
        "nothing of an abandoned rotation is left",
        "rotation/rotator.py",
        "            steps.discard(rotation, self._device)\n"
        "        self._journal.archive(rotation)\n",
        "            self._journal.archive(rotation)\n"
        "            steps.discard(rotation, self._device)\n"
        "        else:\n"
        "            self._journal.archive(rotation)\n",
        ("2",),
    ),
    Mutant(
        "gateway-not-looked-at-first",
        "the device's layer is rewritten once, and a repeat sees that",
        "rotation/steps.py",
        "if document.opens_with(config, recipient, _ON_GATEWAY):",
        "if False:",
        ("2",),
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
)

_BACK: Final = (
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
        "            steps.lock(rotation, self._device)\n            waits = True\n",
        "            waits = True\n",
        (_BAD_INPUT,),
    ),
    Mutant(
        "back-without-asking",
        "there is no way back to a pair that the gateway has denied",
        "rotation/rotator.py",
        "if not steps.old_still_works(rotation, self._device):\n                # Somebody",
        "if False:\n                # Somebody",
        (_BAD_INPUT,),
    ),
)

_RECOVERY: Final = (
    Mutant(
        "commit-not-recovered",
        "after a boot config.encrypted opens with the live key",
        "rotation/rotator.py",
        "        if rotation.phase is Phase.DEVICE_CONFIG_UPDATED:\n            rotation = ",
        "        if False:\n            rotation = ",
        ("2",),
    ),
    Mutant(
        "way-back-not-recovered",
        "the same, on the way back",
        "rotation/rotator.py",
        "elif rotation.phase is Phase.REVERTING:",
        "elif False:",
        ("2",),
    ),
    Mutant(
        "recovery-asks-the-gateway",
        "recovery needs no network",
        "rotation/rotator.py",
        '        done = "nothing was half-done"\n',
        '        done = "nothing was half-done"\n        self._reporter.deliver()\n',
        ("2",),
    ),
)

_EVENTS: Final = (
    Mutant(
        "events-with-new-ids",
        "an event that is sent again is no second one",
        "rotation/events.py",
        '"id": str(uuid.uuid5(',
        '"id": str(uuid.uuid4()) or str(uuid.uuid5(',
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
)

_CHECKS: Final = (
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
        "rotation/steps.py",
        "    _require_trusted(rotation, device, issued)\n    warnings",
        "    warnings",
        (_BAD_INPUT,),
    ),
    Mutant(
        "request-signed-anew",
        "after a 202 the same request goes out again",
        "rotation/steps.py",
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
        "key-generated-anew",
        "an earlier run's key is kept",
        "keystore/file.py",
        "        if self._disk.is_there(credential.key):\n            self.private_key",
        "        if False:\n            self.private_key",
        ("tests/unit/test_keystore_file.py",),
    ),
    Mutant(
        "certificate-stays-behind",
        "exactly one credential is left",
        "keystore/file.py",
        "self._disk.remove(credential.key)\n        self._disk.remove(credential.certificate)",
        "self._disk.remove(credential.key)",
        ("2",),
    ),
    Mutant(
        "stable-name-removed",
        "pkey.pem and client.pem lead to the live pair",
        "keystore/file.py",
        "            if path not in (stable, live):\n",
        "            if path != live:\n",
        ("2",),
    ),
)

MUTANTS: Final = (*_DISK, *_JOURNAL, *_ORDER, *_BACK, *_RECOVERY, *_EVENTS, *_CHECKS)

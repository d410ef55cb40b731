"""Mutants of all that writes files: disk, journal, key store.

Not in the list, because no run of the agent reaches it: the sync of a directory
after appending to a file that was not there (LocalDisk.append).
"""

from __future__ import annotations

from typing import Final

from tests.crash.mutant import Mutant

_TEST_DISK: Final = "tests/unit/test_disk.py"
_TEST_DURABLE: Final = "tests/unit/test_disk_durable.py"
_TEST_KEYS: Final = "tests/unit/test_keystore_file.py"
_BAD_INPUT: Final = "tests/test_bad_input.py"

FILES: Final = (
    Mutant(
        "write-unsynced",
        "a file is whole once its name is there",
        "disk.py",
        "ns=(time_ns, time_ns))\n        os.fsync(descriptor)",
        "ns=(time_ns, time_ns))",
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
        (_TEST_DURABLE,),
    ),
    Mutant(
        "rename-directory-unsynced",
        "a journal that was archived stays archived",
        "disk.py",
        "os.replace(path, new)\n            _sync_directory(os.path.dirname(new))",
        "os.replace(path, new)",
        (_TEST_DURABLE,),
    ),
    Mutant(
        "remove-directory-unsynced",
        "a key that was removed stays removed",
        "disk.py",
        "            if any(gone):\n",
        "            if False:\n",
        ("3",),
    ),
    Mutant(
        "settle-nothing",
        "what a killed process left in memory is durable before anything is built on it",
        "disk.py",
        "                _sync(name)\n",
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
        "for name in (path, _temporary(path))]",
        "for name in (path,)]",
        (_TEST_DISK,),
    ),
    Mutant(
        "half-written-copy-outlives-its-name",
        "a journal that is archived leaves no half-written copy",
        "disk.py",
        "if _unlinked(_temporary(path)):",
        "if False:",
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
        "self._disk.replace(self.path, _whole(records))\n",
        "put = self._disk.replace if self.records else self._disk.append\n"
        "        put(self.path, _whole(records))\n",
        ("2", "3"),
    ),
    Mutant(
        "attempt-recorded-afterwards",
        "that the gateway may know the new key is durable before it is told",
        "rotation/rotator.py",
        "        rotation = ledger.add(Kind.ATTEMPT, phase)\n",
        "        facts = steps.STEPS[phase](rotation, ledger.device)\n"
        "        ledger.add(Kind.ATTEMPT, phase)\n"
        "        return ledger.enter(phase, facts)\n",
        (_BAD_INPUT, "4"),
    ),
    Mutant(
        "attempt-not-written",
        "the same, of the first use of the new certificate",
        "rotation/machine.py",
        "ATTEMPTS: Final = frozenset((Phase.LOCKED, Phase.CONFIRMED))",
        "ATTEMPTS: Final = frozenset((Phase.LOCKED,))",
        ("tests/test_rotation.py",),
    ),
    Mutant(
        "key-in-the-journal",
        "the journal holds no private key",
        "rotation/enrolment.py",
        '        "csr": base64.b64encode(request).decode("ascii"),\n',
        '        "csr": base64.b64encode(request).decode("ascii"),\n'
        '        "key": device.disk.read(rotation.new.key).decode(),\n',
        ("2",),
    ),
    Mutant(
        "not-settled",
        "a resumed run builds on nothing that is in memory alone",
        "rotation/ledger.py",
        "        self.settle(rotation)\n",
        "",
        ("3",),
    ),
    Mutant(
        "archive-not-settled",
        "the events of the rotation before survive the beginning of the next",
        "rotation/journal.py",
        "settle([self._directory, *before])",
        "settle([self._directory])",
        ("tests/unit/test_journal_ended.py",),
    ),
    Mutant(
        "directory-not-settled",
        "a key is not there without the journal that knows of it",
        "rotation/journal.py",
        "settle([self._directory, *before])",
        "settle(before)",
        ("tests/unit/test_journal_ended.py",),
    ),
    Mutant(
        "key-generated-anew",
        "an earlier run's key is kept",
        "keystore/file.py",
        "if announced or curve in (None, made):",
        "if announced:",
        (_TEST_KEYS,),
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

"""Composition root: builds the ports from sota.toml once, takes the lock, does one thing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fioagent import settings, site, sota, systemd
from fioagent.clock import SystemClock
from fioagent.config import document, trigger
from fioagent.disk import LocalDisk
from fioagent.errors import ConfigError
from fioagent.keystore.file import FileKeyStore
from fioagent.model import CredentialRef, RotationId, Store
from fioagent.ports import Clock, Disk, Services
from fioagent.rotation import (
    identity,
    opening,
    policy,
    preflight,
    recovery,
    rotator,
    salvage,
)
from fioagent.rotation.journal import Journal, JournalDamagedError
from fioagent.rotation.ledger import Ledger, Watch
from fioagent.rotation.machine import Phase, Rotation
from fioagent.rotation.rotator import Outcome, Result
from fioagent.sessions import HttpSessions
from fioagent.site import Device
from fioagent.x509 import Certificate

_ROTATION_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class Status:
    """What a person wants to know first.

    Attributes:
        credential: that sota.toml names.
        certificate: its certificate; None where it cannot be used.
        problem: why it cannot, or what is wrong with the journal.
        due_at: when the next rotation is due by the settings.
        open: a rotation under way.
        last: the latest that ended.
        unreported: events that the gateway has not acknowledged.
    """

    credential: CredentialRef
    certificate: Certificate | None
    problem: str | None
    due_at: datetime | None
    open: Rotation | None
    last: Rotation | None
    unreported: int


class Agent:
    """The device, ready to be acted on."""

    def __init__(self, device: Device, secrets_directory: str) -> None:
        self.device = device
        self._secrets = secrets_directory

    def rotate(
        self, *, now: bool, est_url: str | None, rotation_id: str | None, watch: Watch
    ) -> Outcome:
        """Join the open rotation, or begin one if it is asked for or due; go as far as it goes.

        An id that is not the open rotation's supersedes it where that strands
        nobody; else the open one comes first. It is also the operator's word to
        go on without a journal that is damaged.

        Raises:
            AgentError: nothing was begun, and why.
        """
        wanted = None if rotation_id is None else checked_id(rotation_id)
        with self._locked("rotate"):
            ledger = Ledger(self.device, watch)
            rotation = self._open_rotation(ledger, wanted)
            if rotation is None:
                return self._rotate_anew(ledger, wanted, est_url, now=now)
            if wanted not in (None, rotation.id) and not opening.is_done(ledger, wanted):
                return self._rotate_instead(ledger, rotation, wanted, est_url)
            if est_url is not None and rotation.phase in (Phase.BEGUN, Phase.KEY_GENERATED):
                rotation = opening.amend(ledger, rotation, est_url)
            elif not now and (wait := self._wait(rotation)) is not None:
                return wait
            outcome = rotator.drive(ledger, ledger.resume(rotation), by_hand=now)
            if wanted in (None, rotation.id):
                return outcome
            return _noting(outcome, f"rotation {wanted} is done already; {rotation.id} was open")

    def _open_rotation(self, ledger: Ledger, wanted: RotationId | None) -> Rotation | None:
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

    def _rotate_anew(
        self, ledger: Ledger, wanted: RotationId | None, est_url: str | None, *, now: bool
    ) -> Outcome:
        wish = opening.wished(ledger)
        if wish is not None:
            wanted, now = wanted or wish.id, True
            est_url = est_url or wish.est_url or None
        lost = ledger.journal.lost
        idle = self._nothing_to_do(ledger, wanted, now=now or lost)
        if idle is not None:
            ledger.deliver()
            return idle
        pair = salvage.unremembered_pair(self.device) if lost else None
        identifier = wanted or self._fresh_id()
        facts = opening.plan(ledger, identifier, self._est_url(est_url), pair)
        return rotator.drive(ledger, opening.begin(ledger, facts))

    def _rotate_instead(
        self, ledger: Ledger, open_one: Rotation, wanted: RotationId, est_url: str | None
    ) -> Outcome:
        """``wanted`` in place of the open rotation, or after it."""
        est_url = self._est_url(est_url, open_one)
        device = ledger.device
        unnamed = open_one.may_be_superseded and device.live_credential() == open_one.old
        if unnamed or not identity.is_known(open_one, device):
            rotation = opening.supersede(ledger, open_one, wanted, est_url)
            return rotator.drive(ledger, rotation)
        outcome = rotator.drive(ledger, ledger.resume(open_one))
        if outcome.rotation is None or outcome.rotation.is_open:
            why = f"rotation {wanted} was not begun: {open_one.id} is open and has to end first"
            return _noting(outcome, why)
        return rotator.drive(ledger, opening.begin(ledger, opening.plan(ledger, wanted, est_url)))

    def recover(self, watch: Watch) -> Outcome:
        """Offline: finish what a power cut has left half-done, before anybody reads the files.

        Raises:
            AgentError: it cannot be done, and why; the live pair is as it was.
        """
        with self._locked("recover"):
            return recovery.recover(Ledger(self.device, watch))

    def cancel(self, watch: Watch) -> Outcome:
        """Give up the open rotation, as long as nobody outside the device knows of it.

        Raises:
            AgentError: it can only go forward.
        """
        with self._locked("cancel"):
            ledger = Ledger(self.device, watch)
            rotation = opening.open_rotation(ledger)
            if rotation is None:
                return Outcome(Result.NOTHING_TO_DO, "no rotation is open")
            return opening.cancel(ledger, rotation)

    def status(self) -> Status:
        """Reads only.

        Raises:
            ConfigError: sota.toml names no pair.
        """
        device = self.device
        credential = device.live_credential()
        certificate, problem = None, None
        try:
            certificate = preflight.require_pair(device, credential)
        except ConfigError as error:
            problem = str(error)
        journal, rotation = Journal(device.disk, device.site.state_directory), None
        try:
            rotation = journal.load()
        except ConfigError as error:
            problem = problem or str(error)
        ended = journal.ended()
        return Status(
            credential,
            certificate,
            problem,
            None if certificate is None else self._due_at(certificate),
            rotation,
            ended[-1].rotation if ended else None,
            sum(len(each.unreported()) for each in (*ended, journal)),
        )

    @contextlib.contextmanager
    def _locked(self, purpose: str) -> Iterator[None]:
        directory = self.device.site.state_directory
        self.device.disk.make_directory(directory)
        with self.device.disk.lock(os.path.join(directory, "lock"), purpose):
            yield

    def _nothing_to_do(
        self, ledger: Ledger, wanted: RotationId | None, *, now: bool
    ) -> Outcome | None:
        if wanted is not None and opening.is_done(ledger, wanted):
            return Outcome(Result.NOTHING_TO_DO, f"rotation {wanted} is done already")
        if now:
            return None
        certificate = preflight.require_pair(self.device, self.device.live_credential())
        due = self._due_at(certificate)
        if self.device.clock.now() >= due:
            return None
        return Outcome(
            Result.NOTHING_TO_DO,
            f"the certificate is valid until {certificate.not_after:%Y-%m-%d}, "
            f"rotation is due on {due:%Y-%m-%d}",
            "'fioagent rotate --now' rotates all the same",
        )

    def _wait(self, rotation: Rotation) -> Outcome | None:
        until = policy.wait_until(rotation, self.device.clock.now())
        if until is None:
            return None
        return Outcome(
            Result.TRY_AGAIN,
            f"{policy.reason_to_wait(rotation)}; next try at {until:%Y-%m-%d %H:%M:%S} UTC",
            "'fioagent rotate --now' tries at once",
            rotation,
        )

    def _due_at(self, certificate: Certificate) -> datetime:
        return policy.due_at(
            certificate.not_before, certificate.not_after, self.device.settings.rotation_due_at
        )

    def _fresh_id(self) -> RotationId:
        return RotationId(f"certs-{int(self.device.clock.now().timestamp())}")

    def _est_url(self, given: str | None, predecessor: Rotation | None = None) -> str:
        """As given, else from the settings, the operator's latest trigger, the one before."""
        found = given or self.device.settings.est_server or self._trigger().get("ESTSERVER")
        if not found and predecessor is not None:
            found = predecessor.est_url
        if not found:
            raise ConfigError(
                "cannot rotate: no EST server is known",
                hint="give it with --est-server, or set est.server in /etc/fioagent/fioagent.toml",
            )
        return found

    def _trigger(self) -> Mapping[str, str]:
        disk, place = self.device.disk, self.device.site
        extracted = disk.read_if_there(os.path.join(self._secrets, trigger.FILE_NAME))
        if extracted is not None:
            return trigger.parse(extracted.decode("utf-8", "replace"))
        config = disk.read_if_there(place.config)
        if config is None:
            return {}
        entries = {file.name: file for file in document.files(config, place.config)}
        entry = entries.get(trigger.FILE_NAME)
        return trigger.parse(entry.value) if entry is not None and entry.unencrypted else {}


def checked_id(value: str) -> RotationId:
    """Raises ConfigError: gateways drop events of other ids without a word."""
    if not _ROTATION_ID.fullmatch(value):
        raise ConfigError(
            f"cannot use the rotation id {value!r}",
            hint="1 to 63 letters, digits, '-' and '_', such as certs-1763683200",
        )
    return RotationId(value)


def _noting(outcome: Outcome, note: str) -> Outcome:
    return dataclasses.replace(outcome, hint=outcome.hint or note)


@contextlib.contextmanager
def opened(
    config: Sequence[str],
    environ: Mapping[str, str],
    *,
    clock: Clock | None = None,
    disk: Disk | None = None,
) -> Iterator[Agent]:
    """The agent of this device, by ``-c`` options and environment; clock and disk are its own.

    Raises:
        ConfigError: sota.toml or the settings cannot be used.
    """
    disk, clock = disk or LocalDisk(), clock or SystemClock()
    paths = sota.search_list(config, environ)
    configured = settings.load(disk, environ)
    merged = site.read_sota(disk, paths)
    place = site.site_of(merged, paths, sota.search_list((), environ))
    if place.store is not Store.FILE:
        raise merged.refuse("tls.pkey_source", "this version knows keys in files only")
    keys = FileKeyStore(disk, place.storage)
    sessions = HttpSessions(
        disk, keys, lambda: site.read_sota(disk, paths), site.config_url(environ)
    )
    services = _services(configured.services_manager, clock)
    try:
        yield Agent(
            Device(place, configured, disk, keys, sessions, services, clock),
            environ.get("SECRETS_DIR", "/var/run/secrets"),
        )
    finally:
        sessions.close()


def _services(manager: str, clock: Clock) -> Services:
    if manager == "none":
        return systemd.NoServices('services.manager is "none"')
    if manager == "auto" and not systemd.runs_this_machine():
        return systemd.NoServices("systemd does not run this machine")
    return systemd.SystemdServices(clock)

"""Composition root: builds the ports from sota.toml once, takes the lock, does one thing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from fioagent import settings, site, systemd
from fioagent.clock import SystemClock
from fioagent.config.trigger import checked_id
from fioagent.disk import LocalDisk, lock_holder
from fioagent.errors import AgentError, ConfigError, TemporaryError
from fioagent.keystore.file import FileKeyStore
from fioagent.model import ObjectIds, Store
from fioagent.outlook import Status
from fioagent.ports import Clock, Disk, KeyStore, Services
from fioagent.rotation import (
    memory,
    opening,
    preflight,
    recovery,
    rehearsal,
    timing,
    undertaking,
    wanting,
)
from fioagent.rotation.journal import Journal, JournalDamagedError
from fioagent.rotation.ledger import Ledger, Watch
from fioagent.rotation.rehearsal import Check
from fioagent.rotation.rotator import Outcome, Result
from fioagent.rotation.wanting import Order, View
from fioagent.sessions import HttpSessions
from fioagent.site import Device, Site
from fioagent.sota import Sota
from fioagent.x509 import Certificate

Acted = TypeVar("Acted")


class Agent:
    """The device, ready to be acted on."""

    def __init__(self, device: Device, secrets_directory: str) -> None:
        self.device = device
        self._secrets = secrets_directory

    def rotate(
        self,
        *,
        now: bool,
        est_url: str | None,
        rotation_id: str | None,
        watch: Watch,
        ids: ObjectIds | None = None,
    ) -> Outcome:
        """Join the open rotation, or begin one if it is asked for or due; go as far as it goes.

        Without an id that is the operator's latest trigger's, or by schedule, each when its
        time has come; ``now`` asks for no time. An id that is not the open rotation's
        supersedes it where that strands nobody; else the open one comes first. It is also
        the operator's word to go on without a journal that is damaged. ``ids`` are for a
        new credential in a token.

        Raises:
            AgentError: nothing was begun, and why.
        """
        wanted = None if rotation_id is None else checked_id(rotation_id)
        with self._locked("rotate"):
            ledger = Ledger(self.device, watch)
            return undertaking.rotate(
                ledger, self._secrets, Order(wanted, est_url, ids or ObjectIds()), now=now
            )

    def wanted(self) -> dict[str, object]:
        """Whether a rotation is wanted now, and when to look again: for the supervisor.

        ``{"wanted": bool, "next_at": ISO 8601 or None, ...}``; ``problem`` says why
        nothing is. Waits for nobody: while another process holds the lock, only what
        has to be remembered of a trigger is left to it.
        """
        try:
            view = self._view()
        except AgentError as error:
            return {"wanted": False, "next_at": None, "problem": str(error)}
        found = view.decision.as_json()
        if view.asked.problem is not None:
            found["problem"] = str(view.asked.problem)
        if view.asked.seen != view.asked.known:
            try:
                with self._locked("check-in"):
                    wanting.remember(self.device, view)
            except TemporaryError:
                pass
            except ConfigError as error:
                found["problem"] = str(error)
        return found

    def _view(self) -> View:
        """What is wanted; changes nothing. Raises AgentError, as ``wanting.look``."""
        ledger = Ledger(self.device, lambda _: None)
        try:
            rotation = ledger.journal.load()
        except JournalDamagedError:
            # A trigger with a new id is the operator's word to go on without it.
            if wanting.asked(ledger, self._secrets).pending is None:
                raise
            rotation = None
        return wanting.look(ledger, self._secrets, rotation)

    def recover(self, watch: Watch) -> Outcome:
        """Offline: finish what a power cut has left half-done, before anybody reads the files.

        Raises:
            AgentError: it cannot be done, and why; the live pair is as it was.
        """
        with self._locked("recover"):
            return recovery.recover(Ledger(self.device, watch))

    def alone(self, purpose: str, act: Callable[[Device], Acted]) -> Acted:
        """Look at the device or change it, while no other process of ours does."""
        with self._locked(purpose):
            return act(self.device)

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
        certificate, rotation, view, held = None, None, None, None
        problems: list[AgentError] = []
        try:
            certificate = preflight.require_pair(device, credential)
        except ConfigError as error:
            problems.append(error)
        journal = Journal(device.disk, device.site.state_directory)
        try:
            rotation = journal.load()
        except ConfigError as error:
            problems.append(error)
        try:
            view = self._view()
            problems += [] if view.asked.problem is None else [view.asked.problem]
        except ConfigError as error:
            problems.append(error)
        except TemporaryError as error:
            held = str(error)  # fioconfig goes on with a rotation of its own
        ended = journal.ended()
        return Status(
            now=device.clock.now(),
            plausible=None if view is None else view.plausible,
            credential=credential,
            certificate=certificate,
            problem=str(problems[0]) if problems else None,
            remedy=problems[0].hint if problems else None,
            due_at=None if certificate is None else self._due_at(certificate),
            decision=None if view is None else view.decision,
            held=held,
            setback=memory.setback(device),
            open=rotation,
            last=ended[-1].rotation if ended else None,
            unreported=sum(len(each.unreported()) for each in (*ended, journal)),
            at_work=lock_holder(self._lock_path),
        )

    def rehearse(self, *, est_url: str | None, rotation_id: str | None) -> Iterator[Check]:
        """What ``rotate`` would meet, one thing after the other; changes nothing, takes no lock.

        Raises:
            ConfigError: ``rotation_id`` is none.
        """
        wanted = None if rotation_id is None else checked_id(rotation_id)
        order = Order(wanted, est_url)
        ledger = Ledger(self.device, lambda _: None)
        return rehearsal.rehearse(ledger, self._secrets, order, lock_holder(self._lock_path))

    @contextlib.contextmanager
    def _locked(self, purpose: str) -> Iterator[None]:
        self.device.disk.make_directory(self.device.site.state_directory)
        with self.device.disk.lock(self._lock_path, purpose):
            yield

    @property
    def _lock_path(self) -> str:
        return os.path.join(self.device.site.state_directory, "lock")

    def _due_at(self, certificate: Certificate) -> datetime:
        rules = wanting.rules(self.device.settings)
        not_before, not_after = certificate.not_before, certificate.not_after
        return timing.scheduled_at(not_before, not_after, rules, wanting.name_of(certificate))


def settings_shown(environ: Mapping[str, str]) -> list[dict[str, object]]:
    """See ``settings.shown``. Raises ConfigError, as ``settings.load``."""
    return settings.shown(settings.load(LocalDisk(), environ))


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
    configured, place = _found(config, environ, disk)
    paths = place.sota_paths
    usual = ObjectIds(configured.token_key_ids, configured.token_certificate_ids)
    keys = _key_store(place, disk, environ, lambda: site.read_sota(disk, paths), usual)
    sessions = HttpSessions(disk, keys, lambda: site.read_sota(disk, paths), configured)
    services = _services(configured.services_manager, clock)
    try:
        yield Agent(
            Device(place, configured, disk, keys, sessions, services, clock),
            configured.config_secrets_directory,
        )
    finally:
        sessions.close()
        keys.close()


def journal(config: Sequence[str], environ: Mapping[str, str]) -> Journal:
    """The journal of this device, for reading alone: no key, token or peer is needed. Not loaded.

    Raises:
        ConfigError: sota.toml or the settings cannot be used.
    """
    disk = LocalDisk()
    _, place = _found(config, environ, disk)
    return Journal(disk, place.state_directory)


def _found(
    config: Sequence[str], environ: Mapping[str, str], disk: Disk
) -> tuple[settings.Settings, Site]:
    configured = settings.load(disk, environ)
    paths = tuple(config) or configured.sota_paths
    merged = site.read_sota(disk, paths)
    return configured, site.site_of(merged, paths, configured.sota_paths)


def _key_store(
    place: Site,
    disk: Disk,
    environ: Mapping[str, str],
    sota: Callable[[], Sota],
    usual: ObjectIds,
) -> KeyStore:
    if place.store is Store.FILE:
        return FileKeyStore(disk, place.storage)
    # Imported late: most devices have no token, and it is not installed there.
    from fioagent.keystore import tokens  # noqa: PLC0415  # see above

    return tokens.opened(sota(), environ, lambda: site.named_by(sota(), place.store), usual)


def _services(manager: str, clock: Clock) -> Services:
    if manager == "none":
        return systemd.NoServices('services.manager is "none"')
    if manager == "auto" and not systemd.runs_this_machine():
        return systemd.NoServices("systemd does not run this machine")
    return systemd.SystemdServices(clock)

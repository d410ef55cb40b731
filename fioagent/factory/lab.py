"""A factory in a directory: create it, serve it, add devices, look at what happened.

The command line and the tests go through this class; it only puts the parts together.

    factory = Factory.create(Path("lab"))
    with factory.serving() as urls:
        device = factory.add_device(Path("device"))
        factory.set_config(device.uuid, {"app-secret": b"s3cret"})
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fioagent.factory.errors import FactoryError
from fioagent.factory.fleet import configs, devices, events, fioctl, groups, provision, registry
from fioagent.factory.fleet import remote_actions as actions
from fioagent.factory.fleet.configs import Change
from fioagent.factory.fleet.device_view import DeviceView, view
from fioagent.factory.lab_faults import WithFaults
from fioagent.factory.lab_queues import WithQueues
from fioagent.factory.pki import certs
from fioagent.factory.pki.certificates import Authority, certificate_pem
from fioagent.factory.pki.desk import FactoryDesk, open_cloud, take_ownership
from fioagent.factory.pki.forms import NAME, Paths
from fioagent.factory.servers.gateway import Clock
from fioagent.factory.servers.server import Address
from fioagent.factory.servers.serving import serve
from fioagent.factory.servers.traffic import Request, Traffic
from fioagent.factory.store import Store, factory_name, read_knobs, reset_knobs, set_knob
from fioagent.factory.urls import Urls, last_urls


class Factory(WithFaults, WithQueues):
    def __init__(self, path: Path, clock: Clock = time.time) -> None:
        """Use :meth:`create` or :meth:`open`. ``clock`` gives unix seconds, for tests."""
        self.paths = Paths(path)
        self.store = Store(self.paths.database)
        self._clock = clock
        self._traffic: dict[str, Traffic] = {}
        self._urls: Urls | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        name: str = "lab-factory",
        clock: Clock = time.time,
        *,
        own_pki: bool = True,
    ) -> Factory:
        """A new factory in ``path``, which is made if need be.

        Without ``own_pki`` it has the shared PKI, until somebody takes ownership.

        Raises:
            FactoryError: there is something in ``path``, or the name will not do.
        """
        if not NAME.fullmatch(name):
            raise FactoryError(
                f"cannot create the factory {name!r}: a name has lower case letters, digits and"
                " hyphens, at most 38"
            )
        path = path.absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise FactoryError(f"cannot create a factory in {path}: it is not empty")
            path.chmod(0o700)
            factory = cls(path, clock)
            Store.create(factory.paths.database, name)
            open_cloud(factory.store, factory.paths)
            if own_pki:
                take_ownership(factory.desk, factory.paths)
        except OSError as error:
            raise FactoryError(f"cannot create a factory in {path}: {error.strerror}") from error
        return factory

    @classmethod
    def open(cls, path: Path, clock: Clock = time.time) -> Factory:
        """The factory in ``path``. FactoryError: there is none."""
        factory = cls(path.absolute(), clock)
        if not factory.paths.database.is_file():
            raise FactoryError(
                f"cannot open the factory in {path}: there is none",
                f"hint: fioagent-factory init {path}",
            )
        return factory

    @property
    def name(self) -> str:
        with self.store.read() as db:
            return factory_name(db)

    @property
    def desk(self) -> FactoryDesk:
        """The cloud's API of certificates, without a server between."""
        return FactoryDesk(self.store, self.paths)

    def authority(self, name: str) -> Authority:
        """The device CA called online-ca, local-ca or foreign-ca. FactoryError: there is none."""
        with self.store.read() as db:
            return certs.authority(db, self.paths, name)

    # --- servers ---

    @contextmanager
    def serving(self, listen: Mapping[str, Address] | None = None) -> Iterator[Urls]:
        """Gateway, EST server and operator API listen inside the ``with``.

        ``listen`` is by server name; one that is not there gets its port of the last time if
        that is free, else any, on loopback. factory.json tells others where they are.

        Raises:
            FactoryError: an address cannot be bound, or the factory is being served already.
        """
        with serve(self.paths, self.store, self._clock, listen or {}) as (urls, traffic):
            self._urls, self._traffic = urls, traffic
            try:
                yield urls
            finally:
                self._urls = None

    def urls(self) -> Urls:
        """Where the servers are, or were when they last ran. FactoryError: they never did."""
        if self._urls is not None:
            return self._urls
        urls = last_urls(self.paths)
        if urls is None:
            raise FactoryError(
                f"cannot tell the addresses of the factory in {self.paths.directory}:"
                " it has not been served yet",
                f"hint: fioagent-factory serve {self.paths.directory}",
            )
        return urls

    # --- devices ---

    def add_device(
        self,
        directory: Path,
        uuid: str | None = None,
        *,
        hardware_id: str = provision.DEFAULT_HARDWARE_ID,
        ca: str | None = None,
        make_hsm: provision.MakeHsm | None = None,
    ) -> provision.Device:
        """A device directory with a credential of its own, known to the gateway.

        ``ca``: local-ca or online-ca; by default the local one if ``pki/`` has it.
        The key is in the token that ``make_hsm``, one of ``hsm.MAKERS``, makes; else in a file.

        Raises:
            FactoryError: never served, directory not empty, the uuid is taken or unfit, or the
                token cannot be made.
        """
        urls = self.urls()
        if uuid is not None and not devices.UUID.fullmatch(uuid):
            raise FactoryError(
                f"cannot add the device {uuid!r}: a uuid has letters, digits and hyphens"
            )
        with self.store.read() as db:
            if uuid is not None:
                registry.check_free(db, uuid)
            registration = provision.Registration(
                factory=factory_name(db),
                gateway=urls.gateway,
                est=urls.est,
                root=certificate_pem(certs.root(db)),
                hardware_id=hardware_id,
            )
            authority = certs.authority(db, self.paths, ca or certs.usual_ca(self.paths))
            certs.check_may_issue(db, authority.certificate)
        # A token takes its time, in which the servers have to be able to write.
        with (
            provision.new_device(
                directory, uuid, registration, authority, self._clock(), make_hsm
            ) as device,
            self.store.write() as db,
        ):
            registry.check_free(db, device.uuid)
            certs.check_may_issue(db, authority.certificate)
            issued = (device.sota / "client.pem").read_text()
            devices.register(db, device.uuid, device.public_key, self._clock(), issued)
        return device

    def device(self, uuid: str) -> DeviceView:
        """By its uuid, or its name. FactoryError: no such device."""
        with self.store.write() as db:
            return view(db, self.find(db, uuid))

    def all_devices(self) -> list[DeviceView]:
        with self.store.read() as db:
            return [view(db, device) for device in devices.everybody(db, self._clock())]

    def find(self, db: sqlite3.Connection, wanted: str) -> devices.Device:
        """By its name, else by its uuid. FactoryError: no such device."""
        device = registry.named(db, wanted, self._clock())
        if device is None:
            raise FactoryError(
                f"cannot find the device {wanted}: the factory does not know it",
                f"hint: fioagent-factory device list {self.paths.directory}",
            )
        return device

    # --- configuration ---

    def set_config(
        self,
        uuid: str,
        files: Mapping[str, bytes],
        *,
        plain: bool = False,
        on_changed: str | None = None,
        reason: str = "",
    ) -> None:
        """Merged into the device layer, encrypted to the device's present key unless plain.

        Raises:
            FactoryError: no such device. LockedError: it is locked.
        """
        with self.store.write() as db:
            device = self.find(db, uuid)
            key = None if plain else device.public_key
            entries = fioctl.entries(files, on_changed, key)
            change = Change(entries, reason, public_key=key or "")
            fioctl.write_config(db, device, change, self._clock())

    def set_factory_config(
        self, files: Mapping[str, bytes], *, on_changed: str | None = None, reason: str = ""
    ) -> None:
        """For all devices, and plain: there is no key that all of them have."""
        with self.store.write() as db:
            change = Change(fioctl.entries(files, on_changed, None), reason)
            configs.put(db, "factory", "", change, self._clock())

    def set_group(self, uuid: str, group: str) -> None:
        """The device gets that group's configuration; empty for none. A new one is created."""
        with self.store.write() as db:
            device = self.find(db, uuid)
            if group:
                groups.ensure(db, group, self._clock())
            registry.put_into_group(db, device.uuid, group, self._clock())

    def set_group_config(
        self, group: str, files: Mapping[str, bytes], *, on_changed: str | None = None
    ) -> None:
        """For the devices of a group, which is created if need be; and plain."""
        with self.store.write() as db:
            groups.ensure(db, group, self._clock())
            change = Change(fioctl.entries(files, on_changed, None))
            configs.put(db, "group", group, change, self._clock())

    def remove_config(self, uuid: str, name: str) -> bool:
        """Whether the device layer had the file. LockedError: the device is locked."""
        with self.store.write() as db:
            return fioctl.remove_config(db, self.find(db, uuid), name, self._clock())

    def rotate_certs(
        self,
        uuid: str,
        *,
        group: str = "",
        est_url: str | None = None,
        rotation_id: str | None = None,
        hsm_pkey_ids: str = fioctl.PKEY_IDS,
        hsm_cert_ids: str = fioctl.CERT_IDS,
        reason: str = "",
    ) -> str:
        """Ask the device to rotate, or all of a ``group``, as fioctl does. The rotation's id.

        Raises:
            FactoryError: no such device or group. LockedError: the device is locked.
        """
        rotation_id = rotation_id or f"certs-{int(self._clock())}"
        entries = fioctl.rotate_entries(
            est_url or self.urls().est, rotation_id, hsm_pkey_ids, hsm_cert_ids
        )
        change = Change(entries, reason)
        with self.store.write() as db:
            if group:
                groups.find(db, group)
                configs.put(db, "group", group, change, self._clock())
            else:
                fioctl.write_config(db, self.find(db, uuid), change, self._clock())
        return rotation_id

    # --- knobs ---

    def set_knob(self, name: str, value: str) -> None:
        """From the next request on. KnobError: no such knob or value."""
        with self.store.write() as db:
            set_knob(db, name, value)

    def reset_knobs(self) -> None:
        """All back to their defaults."""
        with self.store.write() as db:
            reset_knobs(db)

    def knob(self, name: str) -> str:
        return self.knobs()[name]

    def knobs(self) -> Mapping[str, str]:
        with self.store.read() as db:
            return read_knobs(db)

    # --- what happened ---

    def events(self, uuid: str, update_id: str | None = None) -> list[dict[str, Any]]:
        """In order of arrival."""
        with self.store.read() as db:
            return events.of_device(db, uuid, update_id)

    def updates(self, uuid: str) -> list[dict[str, str]]:
        """Newest first."""
        with self.store.read() as db:
            return events.updates(db, uuid)

    def remote_actions(self, uuid: str) -> list[actions.Run]:
        """Runs that the device has reported, in the order in which they began."""
        with self.store.read() as db:
            return actions.of_device(db, uuid)

    def requests(self, server: str) -> list[Request]:
        """What "gateway", "est" or "api" saw since it started or was cleared."""
        return self._traffic[server].requests()

    def handshakes(self, server: str) -> tuple[int, int]:
        """TLS handshakes of the same time: completed, failed."""
        return self._traffic[server].handshakes()

    def clear_requests(self) -> None:
        for traffic in self._traffic.values():
            traffic.clear()

"""A device and its factory, simulated behind the agent's real ports.

Files are a dictionary or a real directory, servers a small value, connections
function calls. What lies above is the agent's own code, adapters for HTTP
included. A rotation takes milliseconds, so that every one of its effects can be
cut, and every one of its calls can fail, some ten thousand times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final, cast

from cryptography import x509

from fioagent import agent
from fioagent.agent import Agent
from fioagent.errors import ConfigError, CredentialRefusedError
from fioagent.est import HttpEst
from fioagent.factory.fleet import ecies, provision
from fioagent.factory.pki import certificates
from fioagent.gateway import HttpGateway
from fioagent.http import Response, Session
from fioagent.keystore.token_store import TokenKeyStore
from fioagent.model import CredentialRef, Store
from fioagent.ports import Disk, Est, Gateway, KeyStore, Moment, Services
from fioagent.x509 import Certificate, spki_der
from tests.crash import servers as factory
from tests.crash.memory import File, MemoryDisk
from tests.crash.servers import Servers
from tests.crash.simulated_token import SimulatedToken
from tests.world import BUNDLE, PLAIN, SECRET

UUID: Final = "4f0c3a5e-0d7e-4c58-9f0b-5b0d8d2f7a11"
UNIT: Final = "aktualizr-lite.service"
SECRETS: Final = {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE}
CONFIG_TIME: Final = 1_700_000_000


Wrap = Callable[[Any, str], Any]


def no_wrap(port: Any, name: str) -> Any:
    """Ports as they are; a wrapper is told the name: disk, clock, services, gateway or est."""
    del name
    return port


class Line:
    """``http.Session`` without a network: one peer, the credential as it was when it was opened."""

    def __init__(self, servers: Servers, server: str, peer: x509.Certificate) -> None:
        self._servers = servers
        self._server = server
        self._peer = peer
        self.host, self.port = factory.HOSTS[server]
        self.base_url = factory.GATEWAY_URL if server == "gateway" else factory.EST_URL

    def handshake(self) -> None:
        alert = self._servers.alert(self._peer, self._server)
        if alert is not None:
            self._servers.requests.append(f"{self._server} handshake 0")
            raise CredentialRefusedError(
                f"{self.host}:{self.port} refuses the device's certificate: {alert}", alert=alert
            )

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        head: int | None = None,
        within_s: float | None = None,
    ) -> Response:
        del headers, head, within_s
        self.handshake()
        return self._servers.answer(self._server, self._peer, method, path, body or b"")


class SimulatedSessions:
    """``ports.Sessions`` to the simulated servers, with the credentials of the key store."""

    def __init__(
        self,
        servers: Servers,
        keys: KeyStore,
        roots: Callable[[], list[Certificate]],
        wrap: Wrap | None = None,
    ) -> None:
        """``roots`` reads the trust file; ``wrap`` stands around each connection."""
        self._servers = servers
        self._keys = keys
        self._wrap = wrap or no_wrap
        self._lines: dict[tuple[str, CredentialRef], Any] = {}
        self.trusted_roots = roots

    def gateway(self, credential: CredentialRef) -> Gateway:
        return HttpGateway(self._line("gateway", credential))

    def est(self, url: str, credential: CredentialRef) -> Est:
        del url
        return HttpEst(self._line("est", credential))

    def probe(
        self, credential: CredentialRef, anchors_pem: bytes, est_url: str | None = None
    ) -> None:
        """As reached; whom the device trusts is not simulated."""
        del anchors_pem, est_url
        self.gateway(credential).handshake()

    def _line(self, server: str, credential: CredentialRef) -> Session:
        if (server, credential) not in self._lines:
            self.trusted_roots()
            line = Line(self._servers, server, self._identity(credential))
            self._lines[server, credential] = self._wrap(line, server)
        return cast("Session", self._lines[server, credential])

    def _identity(self, credential: CredentialRef) -> x509.Certificate:
        """As OpenSSL takes a pair: both are there, and they match."""
        certificate = self._keys.certificate(credential)
        if certificate is None:
            raise ConfigError(f"cannot find the certificate {credential.certificate}")
        key = self._keys.private_key(credential)
        if spki_der(key.public_key()) != certificate.spki_der:
            raise ConfigError(
                f"cannot use {credential.certificate} with {credential.key}: key values mismatch"
            )
        return certificate.parsed


@dataclass(slots=True)
class SettableClock:
    """``ports.Clock`` that stands still; ``boots`` tells one boot from the next."""

    at: datetime = factory.START
    boots: int = 1
    monotonic_us: int = 1

    def now(self) -> datetime:
        return self.at

    def image_time(self) -> datetime | None:
        return None

    def moment(self) -> Moment:
        self.monotonic_us += 1
        return Moment(f"boot-{self.boots}", self.monotonic_us)


@dataclass(slots=True)
class CountingServices:
    """``ports.Services`` by the rules of the real ones, for one unit that always runs.

    Attributes:
        clock: the device's.
        credential: what the unit has in memory, read when it was started.
        started: when that was.
        restarts: by the agent.
    """

    clock: SettableClock
    credential: str = ""
    started: Moment = field(default_factory=lambda: Moment("", 0))
    restarts: int = 0
    live: Callable[[], str] = field(default=lambda: "")

    def start(self) -> None:
        self.credential, self.started = self.live(), self.clock.moment()

    def restart(self, unit: str, changed: Moment, since: Moment | None = None) -> str:
        del unit
        now = self.clock.moment()
        if changed.boot_id and now.boot_id and changed.boot_id != now.boot_id:
            return "not needed, started at boot after the change"
        if self.started.monotonic_us > changed.monotonic_us:
            return "not needed, started after the change"
        if since is not None and self._was_started_before(since):
            return "not needed, started before"
        self.restarts += 1
        self.start()
        return "restarted"

    def _was_started_before(self, moment: Moment) -> bool:
        same_boot = self.started.boot_id == moment.boot_id
        return same_boot and self.started.monotonic_us <= moment.monotonic_us

    def is_installed(self, program: str) -> bool:
        del program
        return False

    def is_running(self, program: str) -> bool:
        del program
        return False


@dataclass(slots=True)
class Simulation:
    """One device with its servers, and all that a power cut leaves of them.

    Attributes:
        disk: the device's files.
        servers: gateway and EST server.
        root: directory that the device's whole tree is in.
        clock: the device's; not of the servers.
        services: programs of the device.
    """

    disk: MemoryDisk
    servers: Servers
    root: str = ""
    clock: SettableClock = field(default_factory=SettableClock)
    services: CountingServices = field(init=False)

    def __post_init__(self) -> None:
        self.services = CountingServices(self.clock)
        self.services.live = self.live_key

    @property
    def storage(self) -> str:
        return f"{self.root}/var/sota"

    def copy(self) -> Simulation:
        """The same device at the same instant; programs are as they are."""
        made = Simulation(
            self.disk.copy(), self.servers.copy(), self.root, dataclasses.replace(self.clock)
        )
        ours = self.services
        made.services.credential, made.services.started = ours.credential, ours.started
        made.services.restarts = ours.restarts
        return made

    def left_the_same(self, other: Simulation) -> bool:
        """Whether a power cut would leave the same of both."""
        return self.disk.same_as(other.disk) and self.servers.same_as(other.servers)

    def boot(self) -> None:
        """Programs start, with what sota.toml names now."""
        self.clock.boots += 1
        self.clock.monotonic_us = 1
        self.services.start()

    def live_key(self) -> str:
        """The path or id that sota.toml names, by a plain search of its text."""
        text = self.disk.read(f"{self.storage}/sota.toml").decode()
        name = 'tls_pkey_id = "' if "[p11]" in text else 'tls_pkey_path = "'
        return text.partition(name)[2].partition('"')[0]

    def pass_time(self, seconds: int) -> None:
        """For servers and device alike."""
        self.servers.now += seconds
        at = self.clock.at.timestamp() + seconds
        self.clock.at = datetime.fromtimestamp(at, timezone.utc)

    @contextlib.contextmanager
    def opened(self, wrap: Wrap = no_wrap) -> Iterator[Agent]:
        """The agent of this device, as one process of it."""
        with opened(self.disk, self.servers, self.root, self.clock, self.services, wrap) as process:
            yield process


@contextlib.contextmanager
def opened(  # noqa: PLR0917  # the ports, one by one
    disk: Disk,
    servers: Servers,
    root: str,
    clock: SettableClock,
    services: Services,
    wrap: Wrap = no_wrap,
) -> Iterator[Agent]:
    """The agent of the device below ``root``, on any disk, with ``wrap`` around each port."""
    real, disk, device_clock = disk, wrap(disk, "disk"), wrap(clock, "clock")
    environ = environment(root)
    with agent.opened([], environ, clock=device_clock, disk=disk) as found:
        device = found.device
        if device.site.store is Store.PKCS11:
            token = wrap(SimulatedToken(_in_memory(real), device.site.storage), "token")
            device = dataclasses.replace(device, keys=TokenKeyStore(token, device.live_credential))
        sessions = SimulatedSessions(servers, device.keys, device.sessions.trusted_roots, wrap)
        device = dataclasses.replace(device, sessions=sessions, services=wrap(services, "services"))
        yield Agent(device, environ["SECRETS_DIR"])


def _in_memory(disk: Disk) -> MemoryDisk:
    """Tokens are simulated on no other."""
    if not isinstance(disk, MemoryDisk):
        raise TypeError(disk)
    return disk


def environment(root: str) -> dict[str, str]:
    """As ``provision.Device.env`` of the factory."""
    return {
        "SOTA_DIR": f"{root}/var/sota/sota.toml",
        "SECRETS_DIR": f"{root}/run/secrets",
        "FIOAGENT_CONFIG": f"{root}/etc/fioagent.toml",
    }


def make_device(disk: Disk, root: str = "") -> Servers:
    """A registered device below ``root``, which is there, and the servers that know it.

    config.encrypted and the gateway's copy hold four files, two of them encrypted.
    """
    storage = f"{root}/var/sota"
    for directory in (f"{root}/var", storage, f"{root}/etc"):
        disk.make_directory(directory)
    key = certificates.new_key()
    certificate = factory.registered(key.public_key(), UUID)
    config = sealed_config(certificates.public_pem(key.public_key()))
    servers = Servers(certificates.public_pem(key.public_key()), config=config)
    files = {
        "pkey.pem": (certificates.private_pem(key), 0o600),
        "client.pem": (certificates.certificate_pem(certificate), 0o644),
        "root.crt": (certificates.certificate_pem(factory.ROOT.certificate), 0o644),
        "sota.toml": (sota_toml(storage), 0o640),
        "current-target": (provision.CURRENT_TARGET.encode(), 0o644),
        "config.encrypted": (json.dumps(config, separators=(",", ":")).encode(), 0o640),
    }
    for name, (content, mode) in files.items():
        disk.replace(f"{storage}/{name}", content, mode=mode)
    settings = f'[est]\nserver = "{factory.EST_URL}"\n'
    disk.replace(f"{root}/etc/fioagent.toml", settings.encode(), mode=0o644)
    return servers


def sealed_config(public_key: str) -> dict[str, Any]:
    """SECRETS sealed to ``public_key`` by the factory's code, and PLAIN."""
    recipient = certificates.load_public_key(public_key)
    sealed = {name: {"Value": ecies.encrypt(text, recipient)} for name, text in SECRETS.items()}
    plain = {name: {"Value": text.decode(), "Unencrypted": True} for name, text in PLAIN.items()}
    return {**sealed, **plain}


def sota_toml(storage: str) -> bytes:
    """What the agent reads of it, in the order of the registration server."""
    return f"""\
[tls]
server = "{factory.GATEWAY_URL}"
ca_source = "file"
pkey_source = "file"
cert_source = "file"

[storage]
type = "sqlite"
path = "{storage}/"

[import]
tls_cacert_path = "{storage}/root.crt"
tls_pkey_path = "{storage}/pkey.pem"
tls_clientcert_path = "{storage}/client.pem"
""".encode()


def in_memory() -> Simulation:
    """A registered device, up and running."""
    disk = MemoryDisk()
    simulation = Simulation(disk, make_device(disk))
    config = f"{simulation.storage}/config.encrypted"
    file = disk.entries[config]
    assert isinstance(file, File)
    disk.entries[config] = dataclasses.replace(file, time=CONFIG_TIME)
    simulation.services.start()
    return simulation


def with_a_token() -> Simulation:
    """The same with its key in a token, as lmp-device-register leaves it."""
    simulation = in_memory()
    entries, storage = simulation.disk.entries, simulation.storage
    key = entries.pop(f"{storage}/pkey.pem")
    assert isinstance(key, File)
    entries[f"{storage}/pkey.01.tls.pem"] = key
    entries[f"{storage}/public.01.tls.pem"] = File(simulation.servers.public_key.encode(), 0o600)
    entries[f"{storage}/client.03.client.pem"] = entries.pop(f"{storage}/client.pem")
    text = sota_toml(storage).decode().replace('source = "file"', 'source = "pkcs11"')
    text = text.replace('ca_source = "pkcs11"', 'ca_source = "file"').partition("tls_pkey_path")[0]
    text += '\n[p11]\nmodule = "simulated"\npass = "1234"\n'
    text += 'tls_pkey_id = "01"\ntls_clientcert_id = "03"\n'
    entries[f"{storage}/sota.toml"] = File(text.encode(), 0o640)
    simulation.services.start()
    return simulation

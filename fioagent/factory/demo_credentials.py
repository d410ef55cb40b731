"""The device's credential in the demo, in files or in a token: what it is, and where it is good.

A key in a token cannot be tried by the demo's own hand; there the gateway's log and the
factory's deny list are the witnesses.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Protocol

import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory.fleet.hsm import Hsm, HsmKey
from fioagent.factory.fleet.provision import Device
from fioagent.factory.lab import Factory
from fioagent.factory.pki.certificates import key_digest, load_key, public_pem
from fioagent.factory.servers.traffic import SHORT_DIGEST
from fioagent.factory.urls import Urls

TIMEOUT_S: Final = 30
Check = tuple[bool, str]


class Credential(Protocol):
    """A certificate and its key."""

    @property
    def serial(self) -> int: ...

    @property
    def key(self) -> ec.EllipticCurvePrivateKey: ...


class Holder(Protocol):
    """Where a device keeps its credential."""

    place: str

    def fetch_config(self) -> None:
        """Stored as the device's config agent does it."""

    def before(self) -> Credential:
        """The one of registration, as far as it can be kept to be shown refused later."""

    def live(self) -> Credential:
        """The one that sota.toml names now."""

    def at_the_gateway(self) -> Iterator[Check]:
        """The live one is taken, the one of before is not."""

    def found(self) -> tuple[list[str], list[str]]:
        """What there is of keys and certificates; what there should be."""


def agent(device: Device, *arguments: str) -> Check:
    """``fioagent``, run for the device."""
    print(f"$ fioagent {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "fioagent", *arguments]
    done = subprocess.run(command, env={**os.environ, **device.env}, check=False)
    return done.returncode == 0, f"fioagent {arguments[0]} ended with {done.returncode}"


def _sota(device: Device, section: str) -> dict[str, str]:
    sota = configparser.ConfigParser(interpolation=None)
    sota.read(device.sota / "sota.toml")
    return {name: value.strip('"') for name, value in sota[section].items()}


@dataclass(frozen=True, slots=True)
class Pair:
    """In two files."""

    certificate: Path
    key_file: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return load_key(self.key_file.read_bytes())


class InFiles:
    place = "var/sota"

    def __init__(self, device: Device, urls: Urls, aside: Path) -> None:
        """``aside`` is where the demo, and nobody else, keeps the old pair."""
        self._device = device
        self._urls = urls
        aside.mkdir(mode=0o700)
        live = self.live()
        self._old = Pair(aside / "client.pem", aside / "pkey.pem")
        shutil.copy2(live.certificate, self._old.certificate)
        shutil.copy2(live.key_file, self._old.key_file)

    def fetch_config(self) -> None:
        """The body, and the server's Date as its time."""
        answer = self._get("/config", self.live())
        answer.raise_for_status()
        stored = self._device.sota / "config.encrypted"
        stored.write_bytes(answer.content)
        stored.chmod(0o640)
        changed = parsedate_to_datetime(answer.headers["Date"].replace("UTC", "GMT")).timestamp()
        os.utime(stored, (changed, changed))

    def before(self) -> Pair:
        return self._old

    def live(self) -> Pair:
        paths = _sota(self._device, "import")
        return Pair(Path(paths["tls_clientcert_path"]), Path(paths["tls_pkey_path"]))

    def at_the_gateway(self) -> Iterator[Check]:
        new = self.live()
        status = self._get("/config", new).status_code
        yield status in (200, 204), f"GET /config with the new pair: {status}"
        status = self._get("/config", self._old).status_code
        yield status == 403, f"GET /config with the old pair: {status}"
        shown = self._get("/device", new).json()["pubkey"]
        yield shown == public_pem(new.key.public_key()), "GET /device shows the new key"

    def found(self) -> tuple[list[str], list[str]]:
        """Files but for the factory's root. A link counts as what it leads to."""
        marks = (b"PRIVATE KEY", b"BEGIN CERTIFICATE")
        there = {
            path.resolve()
            for path in self._device.sota.iterdir()
            if path.is_file()
            and path.name != "root.crt"
            and any(mark in path.read_bytes() for mark in marks)
        }
        live = self.live()
        wanted = {live.certificate.resolve(), live.key_file.resolve()}
        return sorted(path.name for path in there), sorted(path.name for path in wanted)

    def _get(self, path: str, pair: Pair) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False  # no proxy, and no CA but the factory's
            session.verify = str(self._device.sota / "root.crt")
            session.cert = (str(pair.certificate), str(pair.key_file))
            return session.get(self._urls.gateway + path, timeout=TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Objects:
    """In a token."""

    serial: int
    key: HsmKey

    @property
    def digest(self) -> str:
        return key_digest(public_pem(self.key.public_key()))


class InToken:
    place = "token"

    def __init__(self, device: Device, factory: Factory, hsm: Hsm) -> None:
        self._device = device
        self._factory = factory
        self._hsm = hsm
        self._old = self.live()

    def fetch_config(self) -> None:
        agent(self._device, "check-in")

    def before(self) -> Objects:
        return self._old

    def live(self) -> Objects:
        ids = _sota(self._device, "p11")
        der = self._hsm.read("cert", ids["tls_clientcert_id"])
        key = HsmKey(self._hsm, ids["tls_pkey_id"])
        return Objects(x509.load_der_x509_certificate(der).serial_number, key)

    def at_the_gateway(self) -> Iterator[Check]:
        yield agent(self._device, "check-in")
        new, view = self.live(), self._factory.device(self._device.uuid)
        status = self._last_status(new)
        yield (
            status in ("200", "204", "304"),
            f"the gateway saw GET /config by the new key: {status}",
        )
        yield self._old.digest in view.denied, "the gateway denies the old key"
        shown = view.public_key_pem
        yield shown == public_pem(new.key.public_key()), "the gateway has the new key"

    def found(self) -> tuple[list[str], list[str]]:
        ids = _sota(self._device, "p11")
        key, certificate = ids["tls_pkey_id"], ids["tls_clientcert_id"]
        wanted = [("Certificate", "client", certificate)]
        wanted += [("Private Key", "tls", key), ("Public Key", "tls", key)]
        return [" ".join(each) for each in self._hsm.objects()], [" ".join(each) for each in wanted]

    def _last_status(self, credential: Objects) -> str:
        """Of what the gateway's log has of GET /config by this key."""
        log = (self._factory.paths.directory / "log" / "gateway.log").read_text()
        rows = [line.split() for line in log.splitlines()]
        digest = credential.digest[:SHORT_DIGEST]
        found = [row[-1] for row in rows if row[1:3] == ["GET", "/config"] and digest in row]
        return found[-1] if found else "never"

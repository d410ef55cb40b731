"""A device directory and the factory that it belongs to, driven by the real command line.

Nothing is simulated here: TLS, HTTP and files are real, over loopback. What a
test asks of the world is asked from outside, by the factory's own means.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fioagent import agent, cli
from fioagent.factory import Device, Factory, Urls
from fioagent.factory.fleet import ecies
from fioagent.ports import Moment
from fioagent.rotation.ledger import Watch
from fioagent.rotation.rotator import Outcome

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECRET = "user=robot\npassword=hunter2 - \u00fcn\u00efc\u00f6d\u00e9\n".encode()
BUNDLE = b"-----BEGIN CERTIFICATE-----\nbm90IHJlYWw=\n-----END CERTIFICATE-----\n"
PLAIN = {"wireguard-client": b"enabled=0\n\npubkey=lab", "z-50-fioctl.toml": b"[pacman]\n"}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def unfolded(self) -> str:
        """What was printed, with the folds for narrow consoles taken out."""
        return re.sub("\n {10,}", " ", self.out)

    def fits(self, *paths: Path) -> bool:
        """Whether it does into 80 columns of ASCII; a path is not broken, it shall be copied."""
        text = self.out
        for path in paths:
            text = text.replace(str(path), "")
        return text.isascii() and all(len(line) < 80 for line in text.splitlines())

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Of a command that was asked for JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class StoppedClock:
    """``ports.Clock`` at a moment of the test's choice."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def image_time(self) -> datetime | None:
        return None

    def moment(self) -> Moment:
        return Moment("", 0)


class World:
    """One device of one factory."""

    def __init__(self, factory: Factory, urls: Urls, directory: Path) -> None:
        self.factory = factory
        self.urls = urls
        self.device: Device = factory.add_device(directory)
        self.uuid = self.device.uuid
        self.storage = self.device.sota
        self.sota_toml = self.storage / "sota.toml"
        self.old_key = (self.storage / "pkey.pem").read_bytes()
        self.old_certificate = (self.storage / "client.pem").read_bytes()
        self._kept = directory.with_name(f"{directory.name}-old-pair")
        self._kept.mkdir()
        (self._kept / "key.pem").write_bytes(self.old_key)
        (self._kept / "certificate.pem").write_bytes(self.old_certificate)

    # --- set-up ---

    def give_config(self) -> None:
        """Four files, two of them encrypted, on the gateway and in config.encrypted."""
        self.factory.set_config(self.uuid, {"app-secret": SECRET, "certs/ca-bundle.pem": BUNDLE})
        self.factory.set_config(self.uuid, PLAIN, plain=True)
        self.fetch_config()

    def fetch_config(self) -> None:
        """As the device's config agent does at a check-in."""
        answer = self.ask("/config")
        assert answer.status_code == 200
        path = self.storage / "config.encrypted"
        path.write_bytes(answer.content)
        path.chmod(0o640)
        os.utime(path, (1_700_000_000, 1_700_000_000))

    def pause_before_the_commit(self, identifier: str) -> None:
        """Locked, with the device's configuration not yet on the gateway."""
        self.factory.set_knob("gateway_patch_config", "500")
        assert self.rotate("--id", identifier).code == 75
        self.factory.set_knob("gateway_patch_config", "on")

    def make_the_gateway_forget_the_new_key(self) -> None:
        """Another key is announced in its place, for good: the new one will be refused."""
        self.factory.set_knob("foreign_public_key", "accept")
        self.factory.set_knob("second_lock", "replace")
        self.announce(ec.generate_private_key(ec.SECP256R1()).public_key(), self.live_pair())
        self.factory.set_knob("second_lock", "409")

    def announce(self, key_to_come: ec.EllipticCurvePublicKey, pair: tuple[Path, Path]) -> None:
        """PATCH /device by ``pair``."""
        pem = key_to_come.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        certificate, key = pair
        with requests.Session() as session:
            session.trust_env = False
            answer = session.patch(
                f"{self.urls.gateway}/device",
                json={"next_pubkey": pem},
                cert=(str(certificate), str(key)),
                verify=str(self.storage / "root.crt"),
                headers={"Connection": "close"},
                timeout=10,
            )
        assert answer.status_code == 200

    def set_setting(self, text: str) -> None:
        """A section with its lines, into the device's fioagent.toml."""
        path = Path(self.device.env["FIOAGENT_CONFIG"])
        header = text.partition("\n")[0]
        before, found, after = path.read_text().partition(f"{header}\n")
        path.write_text(f"{before}{text}\n{after}" if found else f"{before}\n{text}\n")

    def give_certificate(self, pem: bytes) -> None:
        """Another certificate for the device's own key, as if it had been registered with it."""
        self.old_certificate = pem
        (self.storage / "client.pem").write_bytes(pem)
        (self._kept / "certificate.pem").write_bytes(pem)

    # --- acting ---

    def fioagent(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Ran:
        """The command line, in this process, with the device's environment."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(arguments, {**self.device.env, **(environ or {})})
        return Ran(int(code), out.getvalue(), err.getvalue())

    def rotate(self, *arguments: str) -> Ran:
        return self.fioagent("rotate", "--now", *arguments)

    def rotate_at(
        self,
        at: datetime,
        identifier: str | None = None,
        *,
        now: bool = True,
        watch: Watch = lambda _: None,
    ) -> Outcome:
        """``fioagent rotate``, with a clock that says ``at``."""
        with agent.opened([], self.device.env, clock=StoppedClock(at)) as opened:
            return opened.rotate(now=now, est_url=None, rotation_id=identifier, watch=watch)

    def process(self, *arguments: str, before: Sequence[str] = (), limit_s: float = 60) -> Ran:
        """The command line in a process of its own; ``before`` is what starts it."""
        done = subprocess.run(
            [*before, sys.executable, "-m", "fioagent", *arguments],
            env={**os.environ, **self.device.env},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, not waited for; SIGINT reaches it also where tests run in the background."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "fioagent", *arguments],
                env={**os.environ, **self.device.env},
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    # --- looking ---

    def live_pair(self) -> tuple[Path, Path]:
        """Certificate and key that sota.toml names, read as fioconfig reads it."""
        section = tomllib.loads(self.sota_toml.read_text())["import"]
        return Path(section["tls_clientcert_path"]), Path(section["tls_pkey_path"])

    def old_pair(self) -> tuple[Path, Path]:
        """The pair of registration, kept aside by the test."""
        return self._kept / "certificate.pem", self._kept / "key.pem"

    def ask(self, path: str, pair: tuple[Path, Path] | None = None) -> requests.Response:
        certificate, key = pair or self.live_pair()
        with requests.Session() as session:
            session.trust_env = False
            return session.get(
                self.urls.gateway + path,
                cert=(str(certificate), str(key)),
                verify=str(self.storage / "root.crt"),
                headers={"Connection": "close"},
                timeout=10,
            )

    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.live_pair()[0].read_bytes())

    def key(self) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(self.live_pair()[1].read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def opened_config(self) -> dict[str, bytes]:
        """config.encrypted, opened by the factory's own code with the live key."""
        entries = json.loads((self.storage / "config.encrypted").read_bytes())
        return self.opened(entries)

    def opened_device_config(self) -> dict[str, bytes]:
        """The factory's device layer, opened with the live key."""
        return self.opened(dict(self.factory.device(self.uuid).config))

    def check_every_value_opens_with_a_key_at_hand(self) -> None:
        """Of both copies of the configuration, by any key file on the device."""
        pems = [c for c in self.files().values() if b"PRIVATE KEY-----" in c]
        keys = [load_pem_private_key(pem, None) for pem in pems]
        local = json.loads((self.storage / "config.encrypted").read_bytes())
        for entries in (local, dict(self.factory.device(self.uuid).config)):
            for name, entry in entries.items():
                assert entry.get("Unencrypted") or any(_opens(entry["Value"], k) for k in keys), (
                    name
                )

    def opened(self, entries: Mapping[str, Any]) -> dict[str, bytes]:
        """Values by name, opened with the live key."""
        return {
            name: entry["Value"].encode()
            if entry.get("Unencrypted")
            else ecies.decrypt(entry["Value"], self.key())
            for name, entry in entries.items()
        }

    def event_names(self) -> list[tuple[str, bool]]:
        return [
            (event["eventType"]["id"], event["event"]["success"])
            for event in self.factory.events(self.uuid)
        ]

    def files(self) -> dict[str, bytes]:
        """Every file below storage.path with its content; links with their target."""
        return {
            str(path.relative_to(self.storage)): os.readlink(path).encode()
            if path.is_symlink()
            else path.read_bytes()
            for path in sorted(self.storage.rglob("*"))
            if path.is_symlink() or path.is_file()
        }

    def journal_names(self) -> list[str]:
        return sorted(path.name for path in (self.storage / "fioagent").glob("*.journal"))

    # --- promises that hold after whatever happened ---

    def check_reachable(self) -> None:
        """The device works: the pair that sota.toml names is there, matches, and is accepted."""
        assert self.certificate().public_key() == self.key().public_key()
        assert self.ask("/config").status_code in (200, 204, 304)

    def check_old_pair_is_live(self) -> None:
        """Nothing has become of it: same files, same bytes, accepted, and nothing beside it."""
        assert self.live_pair() == (self.storage / "client.pem", self.storage / "pkey.pem")
        assert self.old_certificate == (self.storage / "client.pem").read_bytes()
        assert self.old_key == (self.storage / "pkey.pem").read_bytes()
        self.check_reachable()

    def check_nothing_left_behind(self) -> None:
        """No credential but the live one, no copy, no temporary file."""
        names = set(self.files()) - {"config.encrypted", "cert-rotation.state.completed"}
        names = {name for name in names if not name.startswith("fioagent/")}
        live = {path.name for path in self.live_pair()}
        expected = {"sota.toml", "root.crt", "current-target", "client.pem", "pkey.pem"}
        assert expected | live == names

    def check_no_secret_outside(self) -> None:
        """Journal and marker hold no key and no value of the configuration."""
        for name, content in self.files().items():
            if name.startswith(("fioagent/", "cert-rotation")):
                assert b"PRIVATE" not in content, name
                for secret in (SECRET, base64.b64encode(SECRET), b"hunter2"):
                    assert secret not in content, name


def _opens(value: str, key: object) -> bool:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    try:
        ecies.decrypt(value, key)
    except ecies.EciesError:
        return False
    return True

"""A new device: what lmp-device-register and the registration server leave on its disk.

Everything goes below one directory, so that a lab needs no root and no /var/sota.
"""

from __future__ import annotations

import shlex
import shutil
import uuid as uuids
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory.errors import FactoryError
from fioagent.factory.fleet import sota_toml
from fioagent.factory.fleet.hsm import CERTIFICATE_ID, KEY_ID, PIN, Hsm
from fioagent.factory.fleet.registration import issue
from fioagent.factory.pki.certificates import (
    CLIENT_AUTH,
    Authority,
    certificate_pem,
    key_usage,
    new_key,
    private_pem,
    public_pem,
    subject_name,
)
from fioagent.factory.pki.forms import write_new

DEFAULT_HARDWARE_ID: Final = "intel-corei7-64"
CURRENT_TARGET: Final = 'TARGET_NAME="intel-corei7-64-lmp-42"\nCUSTOM_VERSION="42"\n'


@dataclass(frozen=True, slots=True)
class Device:
    """What a person or a test needs of a device that was made here."""

    uuid: str
    directory: Path
    public_key: str  # SPKI PEM
    hsm: Hsm | None = None  # where its key is, as lmp-device-register is told by --hsm-module

    @property
    def sota(self) -> Path:
        return self.directory / "var" / "sota"

    @property
    def env(self) -> dict[str, str]:
        """Environment that makes fioagent work in the device's directory."""
        return {
            "SOTA_DIR": str(self.sota / "sota.toml"),
            "SECRETS_DIR": str(self.directory / "run" / "secrets"),
            "FIOAGENT_CONFIG": str(self.directory / "etc" / "fioagent" / "fioagent.toml"),
            **({} if self.hsm is None else self.hsm.env),
        }


@dataclass(frozen=True, slots=True)
class Registration:
    """What the factory tells a device, besides its certificate."""

    factory: str
    gateway: str
    est: str
    root: bytes
    hardware_id: str = DEFAULT_HARDWARE_ID


MakeHsm = Callable[[Path], Hsm]  # in a directory that is not there yet


@contextmanager
def new_device(
    directory: Path,
    uuid: str | None,
    registration: Registration,
    authority: Authority,
    now: float,
    make_hsm: MakeHsm | None = None,
) -> Iterator[Device]:
    """The device's directory, complete. The key exists there, or in its token, and nowhere else.

    Nothing is left of it where the ``with`` ends with an error.

    Raises:
        FactoryError: the directory holds something already, or it or the token cannot be made.
    """
    directory = directory.absolute()
    if unfit := sota_toml.UNFIT_FOR_PATH.intersection(str(directory)):
        raise FactoryError(
            f"cannot add a device in {directory}: sota.toml cannot name a path with {min(unfit)!r}"
        )
    uuid = uuid or str(uuids.uuid4())
    with ExitStack() as undo:
        try:
            if directory.exists() and any(directory.iterdir()):
                raise FactoryError(f"cannot add a device in {directory}: it is not empty")
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            device = _make(directory, uuid, registration, authority, now, make_hsm, undo)
        except OSError as error:
            raise FactoryError(
                f"cannot add a device in {directory}: {error.filename}: {error.strerror}"
            ) from error
        yield device
        undo.pop_all()


def _make(  # noqa: PLR0913  # as above
    directory: Path,
    uuid: str,
    registration: Registration,
    authority: Authority,
    now: float,
    make_hsm: MakeHsm | None,
    undo: ExitStack,
) -> Device:
    """``undo`` gets what else there is to undo."""
    hsm = None if make_hsm is None else make_hsm(directory / "token")
    if hsm is not None:
        undo.callback(hsm.stop)
    key = new_key() if hsm is None else hsm.make_key(KEY_ID)
    device = Device(uuid, directory, public_pem(key.public_key()), hsm)
    device.sota.mkdir(parents=True)
    device.sota.chmod(0o700)
    (directory / "run" / "secrets").mkdir(parents=True)
    (directory / "run" / "secrets").chmod(0o750)
    (directory / "etc" / "fioagent").mkdir(parents=True)
    certificate = issue(_request(key, uuid, registration.factory), authority, now)
    write_new(device.sota / "client.pem", certificate_pem(certificate), 0o644)
    if hsm is None:
        write_new(device.sota / "pkey.pem", private_pem(key), 0o600)
    else:
        # lmp-device-register imports what it was sent, and leaves the file.
        hsm.put_certificate(CERTIFICATE_ID, device.sota / "client.pem")
    write_new(device.sota / "root.crt", registration.root, 0o644)
    write_new(device.sota / "sota.toml", _sota_toml(device.sota, registration, hsm).encode(), 0o640)
    write_new(device.sota / "current-target", CURRENT_TARGET.encode(), 0o644)
    settings = directory / "etc" / "fioagent" / "fioagent.toml"
    write_new(settings, _fioagent_toml(registration.est).encode(), 0o644)
    write_new(directory / "env", _env_file(device.env).encode(), 0o644)
    return device


def _request(
    key: ec.EllipticCurvePrivateKey, uuid: str, factory: str
) -> x509.CertificateSigningRequest:
    """As lmp-device-register: both usages critical."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject_name(uuid, factory))
        .add_extension(key_usage(digital_signature=True)[0], critical=True)
        .add_extension(CLIENT_AUTH, critical=True)
        .sign(key, hashes.SHA256())
    )


def _sota_toml(sota: Path, registration: Registration, hsm: Hsm | None) -> str:
    """For a token with what lmp-device-register asks for, and what it appends."""
    overrides = {} if hsm is None else sota_toml.IN_TOKEN
    text = sota_toml.render(registration.gateway, registration.hardware_id, str(sota), overrides)
    if hsm is None:
        return text
    ids = {"tls_pkey_id": KEY_ID, "tls_clientcert_id": CERTIFICATE_ID}
    section = {"module": hsm.module, "pass": PIN, **ids}
    return f"{text}\n[p11]\n" + "".join(f'{key} = "{value}"\n' for key, value in section.items())


def _fioagent_toml(est: str) -> str:
    return f"""\
# Settings of a lab device. See the fioagent README.
[est]
server = "{est}"

[services]
# No systemd runs this directory: restarts are reported as skipped.
manager = "none"
"""


def _env_file(env: dict[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())

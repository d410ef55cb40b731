"""The operator's side of the factory's PKI: a directory with a root, and what it signs.

Files, names, modes and the order of things are those of ``fioctl keys``, so that a directory
of either can be used with the other. Every request to the cloud goes through a :class:`Desk`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography import x509

from fioagent.factory.errors import FactoryError
from fioagent.factory.pki.certificates import (
    Authority,
    certificate_pem,
    new_key,
    private_pem,
    subject_name,
)
from fioagent.factory.pki.csr import UNREADABLE, is_signed
from fioagent.factory.pki.forms import LOOPBACK, new_root, sign_device_ca, sign_server, write_new
from fioagent.factory.pki.root_key import RootKey

ROOT: Final = "factory_ca.pem"
TLS: Final = "tls-crt"
ONLINE_CA: Final = "online-crt"
LOCAL_CA: Final = "local-ca.pem"

Say = Callable[[str], None]


class Desk(Protocol):
    """The cloud's API of certificates, as an operator meets it. Refusals are FactoryErrors."""

    @property
    def factory(self) -> str: ...
    def user_id(self) -> str: ...
    def certificates(self) -> dict[str, Any]: ...
    def request(self, *wanted: str, first: bool = False) -> dict[str, str]: ...
    def change(self, **pems: str) -> None: ...


class PkiDirectory:
    def __init__(self, path: Path, key: RootKey, say: Say = print) -> None:
        """``say`` is told what is being done, line by line."""
        self.path = path.absolute()
        self._key = key
        self._say = say
        self._made = ExitStack()

    def create(self, desk: Desk, *, online_ca: bool = True, local_ca: bool = True) -> None:
        """Take ownership: a root, and below it what the cloud asks for.

        Raises:
            FactoryError: the factory is owned already, or the directory has a root.
        """
        with self._files(), self._whole() as made:
            if (self.path / ROOT).exists():
                raise FactoryError(
                    f"cannot create a PKI in {self.path}: there is a root already",
                    "hint: take another directory; a root is never overwritten",
                )
            wanted = ("tls-csr", "ca-csr") if online_ca else ("tls-csr",)
            requests = desk.request(*wanted, first=True)
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._say("Creating the root CA of the factory")
            key = self._key.create(self.path)
            made.callback(self._key.discard, self.path)
            root = new_root(key, desk.factory)
            pem = self._write(ROOT, root.certificate)
            self._say("Signing the gateway's TLS request")
            tls = self._write(TLS, sign_request(root, requests["tls-csr"]))
            cas = []
            if online_ca:
                self._say("Signing the request of the online device CA")
                cas.append(self._write(ONLINE_CA, sign_request(root, requests["ca-csr"])))
            if local_ca:
                cas.append(self._local_ca(root, desk, LOCAL_CA))
            self._say("Uploading signed certificates")
            desk.change(root_crt=pem, tls_crt=tls, ca_crt="\n".join(cas))

    def rotate_tls(self, desk: Desk) -> None:
        """A new key and certificate of the gateway; ``tls-crt.bak`` is the one before."""
        with self._files():
            root = self.root()
            signed = sign_request(root, desk.request("tls-csr")["tls-csr"])
            desk.change(tls_crt=certificate_pem(signed).decode("ascii"))
            self._replace(TLS, signed)

    def add_device_ca(
        self, desk: Desk, *, online_ca: bool, local_ca: bool, local_ca_filename: str = LOCAL_CA
    ) -> None:
        """One more device CA, or two; those before stay trusted."""
        if not (online_ca or local_ca):
            raise FactoryError("cannot add a device CA: give --online-ca, --local-ca or both")
        with self._files(), self._whole():
            root = self.root()
            cas, online = [desk.certificates()["ca-crt"]], None
            if local_ca:
                cas.append(self._local_ca(root, desk, _file_name(local_ca_filename)))
            if online_ca:
                self._say("Requesting a new online device CA")
                online = sign_request(root, desk.request("ca-csr")["ca-csr"])
                cas.append(certificate_pem(online).decode("ascii"))
            self._say("Uploading signed certificates")
            desk.change(ca_crt="\n".join(cas))
            if online is not None:
                self._replace(ONLINE_CA, online)

    def authorize_est(self, desk: Desk) -> str:
        """The EST server's TLS certificate (PEM). Nothing is left in the directory."""
        with self._files():
            signed = sign_request(self.root(), desk.request("est-tls-csr")["est-tls-csr"])
            pem = certificate_pem(signed).decode("ascii")
            desk.change(est_tls_crt=pem)
            return pem

    def root(self) -> Authority:
        """To sign with."""
        with self._files():
            certificate = load_certificate(self.path / ROOT)
            return Authority(certificate, self._key.load(self.path, certificate))

    def _local_ca(self, root: Authority, desk: Desk, file: str) -> str:
        stem = file.removesuffix(".pem")
        for name in (file, f"{stem}.key"):
            if (self.path / name).exists():
                raise FactoryError(
                    f"cannot create a local device CA: {self.path / name} is there already",
                    "hint: give another name with --local-ca-filename",
                )
        self._say("Creating local device CA")
        key = new_key()
        subject = subject_name(f"fio-{desk.user_id()}", desk.factory)
        signed = sign_device_ca(root, subject, key.public_key())
        self._new(f"{stem}.key", private_pem(key, traditional=True))
        return self._write(file, signed)

    def _write(self, name: str, certificate: x509.Certificate) -> str:
        pem = certificate_pem(certificate)
        self._new(name, pem)
        return pem.decode("ascii")

    def _new(self, name: str, content: bytes) -> None:
        write_new(self.path / name, content, 0o400)
        self._made.callback((self.path / name).unlink)

    def _replace(self, name: str, certificate: x509.Certificate) -> None:
        if (self.path / name).exists():
            self._say(f"Moving {name} to {name}.bak")
            (self.path / name).replace(self.path / f"{name}.bak")
        self._write(name, certificate)

    @contextmanager
    def _whole(self) -> Iterator[ExitStack]:
        """Of a change that the cloud refuses, nothing is left that would be in the next one's way.

        Yields what undoes it; without a refusal it is not undone.
        """
        with ExitStack() as self._made:
            yield self._made
            self._made.pop_all()

    @contextmanager
    def _files(self) -> Iterator[None]:
        """What the disk has against it, in the user's words."""
        try:
            yield
        except OSError as error:
            raise FactoryError(
                f"cannot use the PKI directory {self.path}: {error.filename}: {error.strerror}"
            ) from error


def _file_name(name: str) -> str:
    if Path(name).name != name or not name.endswith(".pem"):
        raise FactoryError(
            f"cannot create the local device CA {name}: it takes a file name that ends in .pem"
        )
    return name


def load_certificate(path: Path) -> x509.Certificate:
    """FactoryError: it is not one."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise FactoryError(f"cannot use {path}: it is not a certificate in PEM") from error


def sign_request(root: Authority, pem: str) -> x509.Certificate:
    """A device CA if the request (PEM) says that it is a CA, else a TLS server of its names.

    Raises:
        FactoryError: it is no request, its signature is not its own, or a server has no names.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        extensions, subject = request.extensions, request.subject
        public_key = request.public_key()
    except UNREADABLE as error:
        raise FactoryError("cannot sign: it is not a certificate request in PEM") from error
    if not is_signed(request):
        raise FactoryError("cannot sign the request: its signature is not by its own key")
    for extension in extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            return sign_device_ca(root, subject, public_key)
    hosts = _hosts(extensions)
    if not hosts:
        raise FactoryError("cannot sign the request: it asks for no CA and has no DNS names")
    return sign_server(root, subject, public_key, hosts)


def _hosts(extensions: x509.Extensions) -> Sequence[str]:
    """DNS names, as fioctl takes them over; who is called localhost here has its addresses too."""
    hosts: list[str] = []
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            hosts += extension.value.get_values_for_type(x509.DNSName)
    return [*hosts, *LOOPBACK[1:]] if LOOPBACK[0] in hosts else hosts

"""The readers, and what each of them promises of whatever it is given."""

from __future__ import annotations

import contextlib
import tempfile
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fioagent import (
    answers,
    certcheck,
    csrattrs,
    ecies,
    esturl,
    pkcs7,
    proxy,
    settings,
    sota,
    tls,
    transfer,
    waiting,
)
from fioagent.certcheck import Policy
from fioagent.config import document, trigger
from fioagent.disk import LocalDisk
from fioagent.errors import AgentError, ConfigError
from fioagent.est import HttpEst
from fioagent.factory import Factory
from fioagent.http import Response, Session
from fioagent.rotation.journal import Journal, JournalDamagedError
from fioagent.x509 import Certificate, CertificateError
from tests.est.replies import raw
from tests.est.server import EstServer, Lab, Script
from tests.fuzz.watch import Target

SEEDS: Final = Path(__file__).parent / "seeds"
VECTORS: Final = Path(__file__).parent.parent / "vectors"
NOW: Final = datetime(2026, 11, 20, tzinfo=timezone.utc)
# Keys that everybody knows; the seeds are sealed to them.
KEYS: Final = [ec.derive_private_key(7, c()) for c in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)]


def seeds_of(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]


@contextlib.contextmanager
def all_targets() -> Iterator[dict[str, Target]]:
    """By name; those that need files or a server have them until the end."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fioagent-fuzz-")))
        found = [
            *_PURE,
            Target("journal", _journal(directory), (ConfigError,)),
            Target("settings", _settings(directory / "fioagent.toml"), (ConfigError,)),
            Target("http-answer", _http_answer(directory, stack), (AgentError,)),
        ]
        yield {target.name: target for target in found}


# --- what comes from the network ---


def _pkcs7(data: bytes) -> None:
    found = pkcs7.certificates(data)
    assert len(found) <= pkcs7.MAX_CERTIFICATES
    assert all(each in data for each in found)


def _certificate(data: bytes) -> None:
    try:
        found = Certificate.from_der(data)
    except CertificateError:
        return
    renewed = Certificate.from_der(seeds_of("certificate")[0])
    for policy in (Policy(), Policy(allow_san_loss=True, require_chain=True)):
        how = {"spki": found.spki_der, "renewed": renewed, "roots": [renewed], "now": NOW}
        issued = certcheck.check([data], policy=policy, **how)  # type: ignore[arg-type]
        assert issued.certificate.der == data


def _http_answer(directory: Path, stack: contextlib.ExitStack) -> Callable[[bytes], None]:
    """The whole way: TLS over loopback, HTTP, base64, PKCS#7."""
    factory = Factory.create(directory / "factory")
    server = EstServer(Lab(factory, directory), Script(raw(b"")))
    stack.enter_context(server.serving())
    context = tls.client_context(factory.paths.root.read_bytes())

    def read(data: bytes) -> None:
        server.script = Script(raw(data))
        server.requests.clear()
        session = Session(server.url, context)
        try:
            HttpEst(session).reenroll(b"\x30\x03\x02\x01\x00")
        finally:
            session.close()

    return read


def _csrattrs(data: bytes) -> None:
    wanted = csrattrs.parse(data, None)
    assert wanted.curve in (None, "secp256r1", "secp384r1", "secp521r1")
    assert wanted.digest in ("sha256", "sha384", "sha512")
    assert sum(map(len, wanted.extensions)) <= csrattrs.MAX_COPIED
    assert all(note.isprintable() for note in (*wanted.notes, wanted.problem or ""))


def _base64(data: bytes) -> None:
    found = transfer.decoded(data)
    assert found.der
    assert transfer.decoded(transfer.encoded(found.der)).der == found.der


def _proxy(data: bytes) -> None:
    found = proxy.parse(data.decode("utf-8", "surrogateescape"))
    assert found.host.isprintable()
    assert 0 < found.port < 65536


def _retry_after(data: bytes) -> None:
    wait = Response(503, {"retry-after": data.decode("latin-1")}, b"").retry_after_s()
    assert wait is None or 0 <= wait <= waiting.LONGEST_S


# --- what an operator or a technician writes ---


def _sota(data: bytes) -> None:
    path = "/var/sota/sota.toml"
    merged = sota.merge([(path, data)])
    keys = ("import.tls_pkey_path", "import.tls_clientcert_path")
    with contextlib.suppress(ConfigError):
        for key in ("tls.server", "storage.path", "p11.pass", *keys):
            merged.get(key)
    file = sota.file_to_edit(merged, keys, lambda _: True)
    sota.require_clean(file, keys)
    wanted = dict.fromkeys(keys, "/var/sota/new.pem")
    after = merged.replaced(path, sota.edited(file, wanted))
    assert {key: after.get(key) for key in keys} == wanted


def _trigger(data: bytes) -> None:
    assert trigger.parse(data).id


def _settings(path: Path) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        path.write_bytes(data)
        settings.shown(settings.load(LocalDisk(), {"FIOAGENT_CONFIG": str(path)}))

    return read


def _est_url(data: bytes) -> None:
    url = esturl.base_url(data.decode("utf-8", "surrogateescape"))
    assert url.startswith("https://")
    assert url.isprintable()


# --- what this program, fioctl or the gateway has written ---


def _config(data: bytes) -> None:
    keys = [_go_key(), KEYS[0]]
    document.files(data, "it")
    lost = document.lost(data, keys, "it")
    values = document.values(data, keys, "it")
    assert {value.name for value in values if value.content is None} == set(lost)
    sealed = document.resealed(data, keys, KEYS[0], "it")
    assert bool(lost) or document.opens_with(sealed, KEYS[0], "it")
    after = document.values(sealed, KEYS[:1], "it")
    assert [(v.name, v.content) for v in after] == [(v.name, v.content) for v in values]


def _go_key() -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((VECTORS / "config.encrypted.go.key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _ecies(data: bytes) -> None:
    errors = []
    for key in KEYS:
        try:
            ecies.decrypt(data, key)
        except ecies.EciesError as error:
            errors.append(error)
    assert len(errors) >= len(KEYS) - 1
    if len(errors) == len(KEYS):
        raise errors[0]


def _worker_line(data: bytes) -> None:
    found = answers.read(data)
    assert found is None or isinstance(found, dict)


def _journal(directory: Path) -> Callable[[bytes], None]:
    """As it stands, and with checksums that are right: damage that no checksum tells."""

    def read(data: bytes) -> None:
        _read_journal(directory, data)
        _read_journal(directory, b"".join(map(_with_checksum, data.splitlines(keepends=True))))

    return read


def _read_journal(directory: Path, data: bytes) -> None:
    journal = Journal(LocalDisk(), str(directory))
    Path(journal.path).write_bytes(data)
    try:
        journal.load()
    except JournalDamagedError:
        assert Path(journal.path).read_bytes() == data
        journal.set_aside()  # the operator's word: from here on what is sound counts
    except ConfigError:  # of a newer program
        return
    journal.unreported()


def _with_checksum(line: bytes) -> bytes:
    text = line[9:].rstrip(b"\n")
    return b"%08x %s\n" % (zlib.crc32(text), text)


_PURE: Final = [
    Target("pkcs7", _pkcs7, (pkcs7.Pkcs7Error,)),
    Target("certificate", _certificate, (AgentError,)),
    Target("csrattrs", _csrattrs, (csrattrs.CsrAttrsError,)),
    Target("base64", _base64, (transfer.TransferError,)),
    Target("proxy", _proxy, (ValueError,)),
    Target("retry-after", _retry_after, ()),
    Target("sota", _sota, (ConfigError,)),
    Target("trigger", _trigger, (ConfigError,)),
    Target("est-url", _est_url, (ConfigError,)),
    Target("config", _config, (ConfigError,)),
    Target("ecies", _ecies, (ecies.EciesError,)),
    Target("worker-line", _worker_line, ()),
]

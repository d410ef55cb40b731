"""What a person who helps from afar needs of a device, without a secret in it.

Nothing is copied whole that may hold a secret: text goes through ``redaction``, and
a part in which one is found all the same is left out, and said to be.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import platform
import ssl
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from fioagent import __version__, agent, redaction, settings, sota, withheld
from fioagent.disk import LocalDisk
from fioagent.doctor import finding, units
from fioagent.doctor.finding import Finding
from fioagent.errors import AgentError, ConfigError
from fioagent.redaction import Redactor
from fioagent.site import Device
from fioagent.surroundings import Machine, said

_MOST: Final = 512 * 1024  # bytes of one part: its end is kept
_LIMIT_S: Final = 60.0
_LINES: Final = 4000  # of the systemd journal
_TEXTS: Final = (".journal", ".json", ".toml", "current-target")
_UNITS: Final = (*units.OURS, *units.FIOCONFIGS, "fioconfig-extract.service")
_SYSTEM: Final = ("/etc/os-release", "/etc/default/fioagent", "/etc/default/fioconfig")
_TOLD: Final = (
    "FIOAGENT",
    "SOTA_",
    "SECRETS_DIR",
    "CONFIG_URL",
    "DAEMON_INTERVAL",
    "TPM2_",
    "SOFTHSM2_CONF",
    "UNSAFE_CALLBACKS",
    "HTTPS_PROXY",
    "NO_PROXY",
    "LANG",
    "TZ",
)
_ABOUT: Final = """\
Made by fioagent {version} at {at}, for a person who helps from afar.

Private keys, PINs, passwords and values of the configuration are not in it: where one
stood is "{gone}". Of files that hold secrets there is the name, mode and size (files.txt).

{parts}
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for.

    Attributes:
        config: ``-c`` of the command line.
        environ: of the agent.
        program: what starts fioagent, as we were started.
    """

    config: Sequence[str]
    environ: Mapping[str, str]
    program: Sequence[str]


def made(order: Order, findings: Sequence[Finding]) -> tuple[bytes, list[str]]:
    """The whole as tar.gz, and the names of the parts that had to be left out."""
    disk = LocalDisk()
    with contextlib.ExitStack() as stack:
        device = None
        with contextlib.suppress(AgentError):  # what is wrong with it the doctor says
            device = stack.enter_context(agent.opened(order.config, order.environ)).device
        paths = _sota_paths(order, disk)
        redactor = Redactor(
            withheld.secrets(order.environ, device, disk, paths, can_ask=_can_ask(findings))
        )
        parts, left_out = {}, []
        for name, text in _parts(order, device, disk, paths, findings):
            plain = redactor.text(text)
            if redactor.leaks(plain):
                left_out.append(name)
            else:
                parts[name] = plain
    parts["README.txt"] = _about(parts, left_out)
    return _packed(parts), left_out


def _can_ask(findings: Sequence[Finding]) -> bool:
    """A token that hangs or has refused the PIN is not asked again: the third wrong one locks."""
    return not any(each.check == "token" and each.exit for each in findings)


def require_new(path: str) -> None:
    """Raises ConfigError: it exists already, with a mode and a reader of its own perhaps."""
    if LocalDisk().is_there(path):
        raise ConfigError(
            f"cannot write {path}: it exists already", hint="give another name, or remove it"
        )


def write(path: str, content: bytes) -> None:
    """A file that only we can read. Raises ConfigError: as ``require_new``, or the disk."""
    require_new(path)
    LocalDisk().replace(path, content, mode=0o600)


def _about(parts: Iterable[str], left_out: Sequence[str]) -> str:
    lines = [f"  {name}" for name in sorted(parts)]
    lines += [f"  {name}: left out, a secret was in it" for name in left_out]
    at = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    told = {"version": __version__, "at": at, "gone": redaction.GONE}
    return _ABOUT.format(**told, parts="\n".join(lines))


def _packed(parts: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb") as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, text in sorted(parts.items()):
            content = text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"fioagent-support/{name}")
            member.size, member.mode = len(content), 0o600
            member.mtime = int(datetime.now(timezone.utc).timestamp())
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


# --- what is in it ---


def _parts(
    order: Order,
    device: Device | None,
    disk: LocalDisk,
    paths: Sequence[str],
    findings: Sequence[Finding],
) -> Iterator[tuple[str, str]]:
    told = [line for each in findings for line in finding.lines(each)]
    yield "doctor.txt", "\n".join([*told, finding.summary(findings), ""])
    yield "doctor.json", "".join(f"{json.dumps(each.as_json())}\n" for each in findings)
    yield "settings.json", _own(order, ["settings", "--json"])
    can_ask = _can_ask(findings)
    if can_ask:
        yield "status.txt", _own(order, ["status"])
        yield "status.json", _own(order, ["status", "--json"])
    yield "versions.txt", _versions()
    yield "environment.txt", _environment(order.environ)
    restarted = () if device is None else device.settings.services_restart
    yield from _systemd((*_UNITS, *restarted))
    yield "files.txt", "\n".join(_listing(device, disk, paths))
    for path in (*paths, *_settings_files(disk, order), *_SYSTEM):
        yield from _text(disk, path, f"etc/{path.strip('/').replace('/', '_')}")
    if device is not None:
        yield from _storage(device, disk)
    if device is not None and can_ask:
        with contextlib.suppress(AgentError):
            live = device.keys.certificate(device.live_credential())
            if live is not None:
                yield "storage/live-certificate.pem", live.pem.decode("ascii")


def _storage(device: Device, disk: LocalDisk) -> Iterator[tuple[str, str]]:
    """Journals, what we remember, and certificates; of everything else the name alone."""
    storage, state = device.site.storage, device.site.state_directory
    for directory, prefix in ((storage, "storage"), (state, "storage/fioagent")):
        for name in _names(disk, directory):
            is_text = name.endswith(_TEXTS) and name != "sota.toml"
            is_certificate = name.startswith("client") and name.endswith(".pem")
            if is_text or is_certificate:
                yield from _text(disk, os.path.join(directory, name), f"{prefix}/{name}")
    with contextlib.suppress(AgentError):
        roots = device.sessions.trusted_roots()
        yield "storage/trusted-roots.pem", "".join(root.pem.decode("ascii") for root in roots)


def _text(disk: LocalDisk, path: str, name: str) -> Iterator[tuple[str, str]]:
    try:
        content = disk.read_if_there(path)
    except ConfigError as error:
        yield name, f"{error}\n"
        return
    if content is not None:
        yield name, _cut(content)


def _cut(content: bytes) -> str:
    kept = content[-_MOST:]
    left = (
        f"[{len(content) - len(kept)} bytes before this are left out]\n" if kept != content else ""
    )
    return left + kept.decode("utf-8", "replace")


def _own(order: Order, command: Sequence[str]) -> str:
    options = [word for path in order.config for word in ("-c", path)]
    environ = {**os.environ, **order.environ}
    try:
        done = subprocess.run(
            [*order.program, *command, *options],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot be told: {error}\n"
    return done.stdout.decode("utf-8", "replace")


def _versions() -> str:
    known = {
        "fioagent": __version__,
        "python": sys.version.split()[0],
        "openssl": ssl.OPENSSL_VERSION,
        "kernel": " ".join(platform.uname()[index] for index in (0, 2, 3, 4)),
        **{name: _version_of(name) for name in ("cryptography", "python-pkcs11")},
    }
    lines = [f"{name:<14} {value}" for name, value in known.items()]
    lines.append((said(["systemctl", "--version"]) or "no systemd").splitlines()[0])
    return "\n".join([*lines, ""])


def _version_of(package: str) -> str:
    from importlib import metadata  # noqa: PLC0415  # costs more than all else here

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _environment(environ: Mapping[str, str]) -> str:
    """Variables that mean something to us; of all others not even the name."""
    known = {**os.environ, **environ}
    return "".join(f"{k}={v}\n" for k, v in sorted(known.items()) if k.upper().startswith(_TOLD))


def _systemd(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(AgentError):
        found = Machine().units(names)
        if found is not None:
            yield "units.json", json.dumps(found, indent=1) + "\n"
    each = [word for name in names for word in ("--unit", name)]
    for name, which in (("journal-units.txt", each), ("journal-fioagent.txt", ["-t", "fioagent"])):
        options = ["--quiet", "--no-pager", "--output=short-iso-precise", f"--lines={_LINES}"]
        text = said(["journalctl", *options, *which], _LIMIT_S)
        yield name, "no journal is here\n" if text is None else _cut(text.encode())


def _listing(device: Device | None, disk: LocalDisk, paths: Sequence[str]) -> Iterator[str]:
    """Mode, owner, size, time and name, of everything that is ours to know of."""
    directories = {os.path.dirname(path) for path in paths}
    if device is not None:
        storage = device.site.storage
        directories |= {storage, device.site.state_directory}
        directories.add(device.settings.config_secrets_directory)
    machine = Machine()
    for directory in sorted(directories):
        for path in (directory, *(os.path.join(directory, n) for n in _names(disk, directory))):
            entry = machine.entry(path)
            if entry is not None:
                at = datetime.fromtimestamp(entry.modified_s, timezone.utc)
                mode = stat.filemode(entry.mode)
                owner = f"{entry.uid}:{entry.gid}"
                yield f"{mode} {owner:<9} {entry.size:>9} {at:%Y-%m-%d %H:%M} {path}"
    yield ""


def _names(disk: LocalDisk, directory: str) -> list[str]:
    with contextlib.suppress(ConfigError):
        return disk.names(directory)
    return []


def _settings_files(disk: LocalDisk, order: Order) -> list[str]:
    named = order.environ.get("FIOAGENT_CONFIG")
    if named:
        return [named]
    return [os.path.join(d, n) for d in settings.DIRECTORIES for n in _names(disk, d)]


def _sota_paths(order: Order, disk: LocalDisk) -> list[str]:
    """Every file that sota.toml may be made of, whether it can be read or not."""
    paths: Sequence[str] = sota.SEARCH_LIST
    with contextlib.suppress(AgentError):
        paths = settings.load(disk, order.environ).sota_paths
    found = []
    for path in order.config or paths:
        names = (
            [n for n in _names(disk, path) if n.endswith(".toml")] if os.path.isdir(path) else []
        )
        found += [os.path.join(path, name) for name in names] or [path]
    return found

"""What each command of ``fioagent-factory`` does, and how it shows the answer."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fioagent.factory.cli.arguments import table
from fioagent.factory.errors import FactoryError
from fioagent.factory.fleet import events
from fioagent.factory.fleet.device_view import DeviceView
from fioagent.factory.fleet.hsm import LABEL, MAKERS, PIN
from fioagent.factory.knobs import KNOBS
from fioagent.factory.lab import Factory
from fioagent.factory.pki.certificates import key_digest
from fioagent.factory.servers.serving import SERVERS, SIGN
from fioagent.factory.servers.traffic import SHORT_DIGEST

NOTICE: Final = "This is a lab factory for tests. It is not for production."


def init(args: argparse.Namespace) -> int:
    factory = Factory.create(args.dir, args.name, own_pki=not args.no_pki)
    print(f"created the factory {factory.name} in {factory.paths.directory}")
    return 0


def serve(args: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT. ``ready`` is printed once devices can be served."""
    factory = Factory.open(args.dir)
    given = {name: getattr(args, name) for name in (*SERVERS, SIGN) if getattr(args, name)}
    stops = {signal.SIGTERM, signal.SIGINT}
    with _left_to_sigwait(stops), factory.serving(given) as urls:
        print(NOTICE)
        print(f"gateway {urls.gateway}\nest     {urls.est}\napi     {urls.api}")
        if urls.sign:
            print(f"sign    {urls.sign}")
        # A browser keeps what is behind # to itself: no server and no log gets to see it.
        print(f"page    {urls.api}/#{factory.paths.api_token.read_text().strip()}")
        print("ready", flush=True)
        signal.sigwait(stops)
    return 0


@contextmanager
def _left_to_sigwait(signals: set[signal.Signals]) -> Iterator[None]:
    """Threads and children that are started inside the ``with`` do not hear them either."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def device_add(args: argparse.Namespace) -> int:
    factory = Factory.open(args.dir)
    device = factory.add_device(
        args.device_dir,
        args.uuid,
        hardware_id=args.hardware_id,
        ca=args.ca,
        make_hsm=None if args.token is None else MAKERS[args.token],
    )
    print(f"added the device {device.uuid} in {device.directory}")
    if device.hsm is not None:
        print(f"its key is in the token {LABEL!r} of {device.hsm.module}, user PIN {PIN}")
        for name, value in device.hsm.env.items():
            print(f"  {name}={value}")
        if device.hsm.starter.exists():
            print(f"its TPM runs until this machine stops; again: sh {device.hsm.starter}")
    print(f"next: . {device.directory}/env")
    return 0


def device_list(args: argparse.Namespace) -> int:
    found = Factory.open(args.dir).all_devices()
    if args.json:
        print(json.dumps([_device_row(device) for device in found], indent=2))
        return 0
    for device in found:
        digest = key_digest(device.public_key_pem)[:SHORT_DIGEST]
        locked = "locked" if device.next_public_key_pem else "unlocked"
        seen = events.rfc3339(device.last_seen) if device.last_seen else "never"
        denied = len(device.denied)
        name = "" if device.name == device.uuid else f" name={device.name}"
        print(f"{device.uuid} key={digest} {locked} last-seen={seen} denied-keys={denied}{name}")
    return 0


def _device_row(device: DeviceView) -> dict[str, object]:
    return {
        "uuid": device.uuid,
        "name": device.name,
        "key": key_digest(device.public_key_pem),
        "locked": device.next_public_key_pem is not None,
        "last-seen": device.last_seen,
        "denied-keys": len(device.denied),
    }


def config_set(args: argparse.Namespace) -> int:
    files = {name: _content(path) for name, path in args.files}
    factory = Factory.open(args.dir)
    if args.factory_wide:
        if not args.plain:
            raise FactoryError(
                "cannot set a file for all devices: it cannot be encrypted to all of them",
                "hint: add --plain",
            )
        factory.set_factory_config(files, on_changed=args.on_changed, reason=args.reason)
    else:
        how = {"plain": args.plain, "on_changed": args.on_changed, "reason": args.reason}
        factory.set_config(args.uuid, files, **how)
    print(f"set {', '.join(files)}")
    return 0


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FactoryError(f"cannot read {path}: {error.strerror}") from error


def rotate_certs(args: argparse.Namespace) -> int:
    if bool(args.uuid) == bool(args.group):
        raise FactoryError("cannot ask for a rotation: name a device or a --group, one of them")
    rotation_id = Factory.open(args.dir).rotate_certs(
        args.uuid,
        group=args.group or "",
        est_url=args.est_url,
        rotation_id=args.id,
        hsm_pkey_ids=args.hsm_pkey_ids,
        hsm_cert_ids=args.hsm_cert_ids,
        reason=args.reason,
    )
    print(rotation_id)
    return 0


def updates(args: argparse.Namespace) -> int:
    factory = Factory.open(args.dir)
    uuid = factory.device(args.uuid).uuid
    if args.id is None:
        rows = factory.updates(uuid)
        print(json.dumps(rows, indent=2) if args.json else _updates(rows))
        return 0
    found = factory.events(uuid, args.id)
    if not found:
        raise FactoryError(f"cannot show the update {args.id}: the device has sent no such event")
    print(json.dumps(found, indent=2) if args.json else events.format_events(found))
    return 0


def _updates(rows: Iterable[Mapping[str, str]]) -> str:
    """The table of ``fioctl devices updates``."""
    members = ("correlation-id", "time", "version", "target")
    shown = [[row[member] for member in members] for row in rows]
    return table(("ID", "TIME", "VERSION", "TARGET"), shown)


def knob(args: argparse.Namespace) -> int:
    factory = Factory.open(args.dir)
    if args.reset:
        if args.name is not None:
            raise FactoryError("cannot reset one knob: --reset takes all; or set it to its default")
        factory.reset_knobs()
        return 0
    if args.value is not None:
        factory.set_knob(args.name, args.value)
        return 0
    values = factory.knobs()
    if args.name is None:
        for name, known in KNOBS.items():
            takes = " | ".join(known.values) if known.values else "a whole number"
            print(f"{name} = {values[name]}\n    {known.meaning}\n    takes: {takes}")
        return 0
    if args.name not in values:
        raise FactoryError(f"cannot show {args.name}: there is no such knob")
    print(values[args.name])
    return 0


def run_demo(args: argparse.Namespace) -> int:
    from fioagent.factory.demo import demo  # noqa: PLC0415  # the other commands need none of it

    return demo(args.dir, keep=args.keep, token=args.token)

"""What ``fioagent-factory keys`` does: the operator's part in the PKI, as ``fioctl keys``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from fioagent.factory.errors import FactoryError
from fioagent.factory.lab import Factory
from fioagent.factory.pki import certs_show, retirement
from fioagent.factory.pki.certificates import certificate_pem
from fioagent.factory.pki.directory import PkiDirectory, sign_request
from fioagent.factory.pki.root_key import FileKey, from_options

JUST: Final = {"root": "root-crt", "tls": "tls-crt", "device_cas": "ca-crt"}


def _directory(args: argparse.Namespace) -> PkiDirectory:
    key = from_options(args.hsm_module, args.hsm_pin, args.hsm_token_label)
    return PkiDirectory(args.pki_dir, key)


def _warn(text: str) -> None:
    print(f"WARNING: {text}", file=sys.stderr)


def ca_create(args: argparse.Namespace) -> int:
    factory, mine = Factory.open(args.dir), _directory(args)
    stranded = factory.desk.dependants().total()
    mine.create(factory.desk, online_ca=args.online_ca, local_ca=args.local_ca)
    _warn(
        f"the root of trust can be set once. Back up {mine.path}: the root's key cannot be"
        " recovered, and without it no certificate of this factory can be changed again."
    )
    if stranded:
        _warn(
            f"Devices with a certificate of the shared PKI: {stranded}. They can no longer connect,"
            " and need to be registered anew."
        )
    if not args.online_ca:
        _warn("there is no online CA: devices cannot register at the API, nor renew over EST.")
    return 0


def ca_show(args: argparse.Namespace) -> int:
    desk = Factory.open(args.dir).desk
    shown = desk.certificates()
    just = next((name for flag, name in JUST.items() if getattr(args, f"just_{flag}")), None)
    if just is not None:
        lines = certs_show.some(shown[just], pretty=args.pretty)
    else:
        lines = certs_show.all_of(shown, pretty=args.pretty)
    print("\n".join(lines))
    if just is None and args.pretty:
        print("## States of Device CAs")
        print("\n".join(certs_show.states(desk.device_cas(), desk.dependants())))
    return 0


def ca_rotate_tls(args: argparse.Namespace) -> int:
    factory = Factory.open(args.dir)
    _directory(args).rotate_tls(factory.desk)
    print("The gateway has a new TLS certificate, from the next connection on")
    return 0


def ca_add_device_ca(args: argparse.Namespace) -> int:
    factory = Factory.open(args.dir)
    _directory(args).add_device_ca(
        factory.desk,
        online_ca=args.online_ca,
        local_ca=args.local_ca,
        local_ca_filename=args.local_ca_filename,
    )
    return 0


def ca_disable_device_ca(args: argparse.Namespace) -> int:
    return _retire(args, revoke=False)


def ca_revoke_device_ca(args: argparse.Namespace) -> int:
    return _retire(args, revoke=True)


def _retire(args: argparse.Namespace, *, revoke: bool) -> int:
    desk, mine = Factory.open(args.dir).desk, _directory(args)
    wanted = retirement.serials(mine.path, args.ca_file, args.ca_serial)
    known = {ca.serial: ca.state for ca in desk.device_cas()}
    for serial in wanted:
        if known.get(serial, "revoked") == "revoked":
            raise FactoryError(f"cannot find the device CA {serial}: the factory trusts no such CA")
    dependants = desk.dependants()
    for serial in wanted:
        print(f"Devices with a certificate of the device CA {serial}: {dependants[serial]}")
    reason = retirement.REVOKE if revoke else retirement.DISABLE
    listed = retirement.revocation_list(mine.root(), wanted, reason)
    if args.dry_run:
        print(listed.rstrip("\n"))
        if args.pretty:
            print("\n".join(certs_show.described_list(listed)))
        return 0
    if revoke:
        desk.revoke(wanted, listed, force=args.force)
    else:
        desk.change(ca_revoke_crl=listed)
    print("Revoked" if revoke else "Disabled")
    return 0


def ca_update(args: argparse.Namespace) -> int:
    factory = Factory.open(args.dir)
    factory.desk.change(ca_crt=_text(args.file))
    return 0


def ca_sign(args: argparse.Namespace) -> int:
    factory = Factory.open(args.dir)
    mine = PkiDirectory(args.pki_dir or factory.paths.pki, FileKey())
    signed = sign_request(mine.root(), _text(args.csr))
    print(certificate_pem(signed).decode("ascii"), end="")
    return 0


def est_authorize(args: argparse.Namespace) -> int:
    factory, mine = Factory.open(args.dir), _directory(args)
    print("Uploading new EST certificate:")
    print(factory.desk.authorize_est(mine), end="")
    return 0


def est_show(args: argparse.Namespace) -> int:
    shown = Factory.open(args.dir).desk.certificates()["est-tls-crt"]
    if not shown:
        print("EST TLS certificate has not been configured for this factory.")
        return 0
    print("\n".join(certs_show.some(shown, pretty=args.pretty)))
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise FactoryError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise FactoryError(f"cannot read {path}: it is not text") from error

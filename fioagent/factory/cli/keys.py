"""The command line of ``fioagent-factory keys``: the words and options are fioctl's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from fioagent.factory.cli import keys_commands as do
from fioagent.factory.cli.arguments import Commands, add_dir, command

BOTH: Final = argparse.BooleanOptionalAction


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    group = commands.add_parser("keys", help="own the PKI: root, device CAs, TLS certificates")
    below = group.add_subparsers(required=True, metavar="COMMAND")
    ca = below.add_parser("ca", help="the gateway's PKI").add_subparsers(
        required=True, metavar="COMMAND"
    )
    _add_making(ca)
    _add_retiring(ca)
    _add_files(ca)
    est = below.add_parser("est", help="the EST server's TLS certificate").add_subparsers(
        required=True, metavar="COMMAND"
    )
    _add_est(est)


def _add_making(ca: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        ca,
        "create",
        do.ca_create,
        "take ownership of the factory's PKI. The root of trust can be set once",
        "keys ca create lab pki",
    )
    _add_pki_dir(parser)
    parser.add_argument(
        "--online-ca", action=BOTH, default=True, help="a device CA that the cloud signs with"
    )
    parser.add_argument(
        "--local-ca", action=BOTH, default=True, help="a device CA whose key you have"
    )

    parser = command(ca, "show", do.ca_show, "show the certificates", "keys ca show lab --pretty")
    add_dir(parser)
    _add_pretty(parser)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--just-root", action="store_true", help="the root only")
    only.add_argument("--just-tls", action="store_true", help="the gateway's certificate only")
    only.add_argument("--just-device-cas", action="store_true", help="the device CAs only")

    parser = command(
        ca,
        "rotate-tls",
        do.ca_rotate_tls,
        "give the gateway a new TLS key and certificate",
        "keys ca rotate-tls lab pki",
    )
    _add_pki_dir(parser)

    parser = command(
        ca,
        "add-device-ca",
        do.ca_add_device_ca,
        "add a device CA to those that are trusted",
        "keys ca add-device-ca lab pki --local-ca --local-ca-filename site-2.pem",
    )
    _add_pki_dir(parser)
    parser.add_argument("--online-ca", action="store_true", help="the cloud will sign with it")
    parser.add_argument("--local-ca", action="store_true", help="you have its key")
    parser.add_argument(
        "--local-ca-filename", default="local-ca.pem", metavar="FILE", help="(%(default)s)"
    )


def _add_retiring(ca: Commands[argparse.ArgumentParser]) -> None:
    for name, run, about in (
        ("disable-device-ca", do.ca_disable_device_ca, "no new device of this CA may register"),
        ("revoke-device-ca", do.ca_revoke_device_ca, "no device of this CA may connect"),
    ):
        parser = command(ca, name, run, about, f"keys ca {name} lab pki --ca-file local-ca")
        _add_pki_dir(parser)
        parser.add_argument(
            "--ca-file",
            action="append",
            default=[],
            metavar="FILE",
            help="certificate of the CA, in PKI_DIR; may be given again",
        )
        parser.add_argument(
            "--ca-serial",
            action="append",
            default=[],
            metavar="SERIAL",
            help="its decimal serial number; may be given again",
        )
        parser.add_argument("--dry-run", action="store_true", help="show the CRL, change nothing")
        _add_pretty(parser)
        if run is do.ca_revoke_device_ca:
            parser.add_argument(
                "--force", action="store_true", help="even if devices are stranded by it"
            )


def _add_files(ca: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        ca, "update", do.ca_update, "set the list of device CAs", "keys ca update lab cas.pem"
    )
    add_dir(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="all of them, in PEM")

    parser = command(
        ca,
        "sign",
        do.ca_sign,
        "sign a request with the root: a CA if it asks for one, else a TLS server",
        "keys ca sign lab --pki-dir pki tls.csr",
    )
    add_dir(parser)
    parser.add_argument("csr", metavar="CSR", type=Path, help="the request, in PEM")
    parser.add_argument("--pki-dir", type=Path, help="the operator's directory; default: DIR/pki")


def _add_est(est: Commands[argparse.ArgumentParser]) -> None:
    parser = command(
        est,
        "authorize",
        do.est_authorize,
        "give the EST server a new TLS key and certificate",
        "keys est authorize lab pki",
    )
    _add_pki_dir(parser)
    parser = command(
        est, "show", do.est_show, "show the EST server's certificate", "keys est show lab"
    )
    add_dir(parser)
    _add_pretty(parser)


def _add_pretty(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pretty", action="store_true", help="in words")


def _add_pki_dir(parser: argparse.ArgumentParser) -> None:
    """The two directories, and where the root's key is."""
    add_dir(parser)
    parser.add_argument(
        "pki_dir", metavar="PKI_DIR", type=Path, help="the operator's directory, with the root"
    )
    parser.add_argument("--hsm-module", metavar="FILE", help="the root's key is in a PKCS#11 token")
    parser.add_argument(
        "--hsm-pin",
        metavar="PIN",
        help="env:NAME or file:PATH, to keep it from other users of the machine; or as it is",
    )
    parser.add_argument("--hsm-token-label", metavar="LABEL", help="the token's label")

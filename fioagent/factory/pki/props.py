"""Certificates that must not be accepted, so that tests can show them to either side.

A second PKI that nobody trusts, ``cloud/foreign-*``, and a TLS certificate of the real one for
another host, ``cloud/wrong-host.*``. The knobs ``est_ca`` and ``est_tls`` serve them.
"""

from __future__ import annotations

from typing import Final

from fioagent.factory.pki.certificates import Authority, new_key, subject_name
from fioagent.factory.pki.forms import (
    LOOPBACK,
    Paths,
    new_root,
    sign_device_ca,
    sign_server,
    write_pair,
)

FOREIGN: Final = "foreign-factory"
WRONG_HOST: Final = "wrong-host.test"


def create_foreign(paths: Paths) -> None:
    root, ca, tls = new_root(new_key(), FOREIGN), new_key(), new_key()
    issued = {
        "foreign-root": root,
        "foreign-ca": Authority(
            sign_device_ca(root, subject_name("foreign-devices-CA", FOREIGN), ca.public_key()), ca
        ),
        "foreign-tls": Authority(
            sign_server(root, subject_name(LOOPBACK[0], FOREIGN), tls.public_key(), LOOPBACK), tls
        ),
    }
    for stem, pair in issued.items():
        write_pair(pair, paths.cloud / f"{stem}.pem", paths.cloud / f"{stem}.key")


def create_wrong_host(paths: Paths, root: Authority, factory: str) -> None:
    """Only who has the root's key can make it; it stays as it was first made."""
    certificate, key_file = paths.cloud / "wrong-host.pem", paths.cloud / "wrong-host.key"
    if certificate.exists():
        return
    key = new_key()
    subject = subject_name(WRONG_HOST, factory)
    signed = sign_server(root, subject, key.public_key(), [WRONG_HOST])
    write_pair(Authority(signed, key), certificate, key_file)

"""Writes the seeds that are made, not found: ``python -m tests.fuzz.seeding``.

Keys are new each time, so a second run changes the files and not their form. What is
where, and what was found, is in ``seeds/README.md``.
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from fioagent import ecies
from fioagent.factory.pki.certificates import Authority
from fioagent.rotation.machine import Phase
from tests.est import messages
from tests.est.certificates import (
    FOR_CLIENTS,
    NO_CA,
    SIGNING,
    alternative_names,
    below,
    spki_of,
)
from tests.est.of_questions import (
    CHALLENGE,
    EC_KEY,
    ECDSA_SHA384,
    EMAIL,
    EXTENSIONS,
    MAC_ADDRESS,
    P384,
    RSA_KEY,
    SHA384,
    TEMPLATE,
    TLS_FEATURE,
)
from tests.est.replies import CERTS_ONLY, chunked, folded, http
from tests.fuzz.targets import KEYS, SEEDS, VECTORS
from tests.unit import histories, journals, made

NAME = made.device_name().public_bytes()


def keep(target: str, name: str, data: bytes) -> None:
    path = SEEDS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main() -> None:
    authority = made.authority()
    signer = Authority(authority.certificate, authority.key)
    spki = spki_of(KEYS[0])
    usual = (SIGNING, FOR_CLIENTS, NO_CA)
    leaf = below(signer, NAME, spki, *usual).signed()
    issuer = made.der(authority.certificate)
    keep("certificate", "0-usual", leaf)
    keep("certificate", "no-extensions", below(signer, NAME, spki).signed())
    keep(
        "certificate",
        "names",
        below(signer, NAME, spki, *usual, alternative_names("a.test")).signed(),
    )
    of_servers(leaf, issuer)
    of_questions(leaf)
    of_http(leaf)
    of_devices()


def of_servers(leaf: bytes, issuer: bytes) -> None:
    data, info = messages.signed_data, messages.content_info
    keep("pkcs7", "openssl", messages.certs_only(leaf))
    keep("pkcs7", "go-empty-crls", info(data(leaf, crls=messages.EMPTY_CRLS)))
    keep("pkcs7", "estserver-cacerts", info(data(issuer, e_content=messages.EMPTY_E_CONTENT)))
    keep("pkcs7", "bouncycastle", messages.ber(leaf, issuer))
    keep("pkcs7", "issuers-behind", messages.certs_only(leaf, issuer))
    keep(
        "pkcs7",
        "signed",
        info(
            data(
                leaf,
                digests=messages.SHA256_DIGEST,
                signers=made.tlv(0x30, made.tlv(0x02, b"\x01")),
            )
        ),
    )
    keep("pkcs7", "other-choices", messages.certs_only(made.tlv(0xA1, b"\x02\x01\x01"), leaf))
    keep("pkcs7", "nothing", messages.certs_only())


def of_questions(leaf: bytes) -> None:
    asked = {
        "bare": (MAC_ADDRESS, EMAIL, P384, SHA384, CHALLENGE),
        "key": (made.tlv(0x30, made.oid(EC_KEY), made.tlv(0x31, P384)), ECDSA_SHA384),
        "extensions": (
            made.tlv(0x30, made.oid(EXTENSIONS), made.tlv(0x31, made.tlv(0x30, TLS_FEATURE))),
        ),
        "rfc7030": (made.tlv(0x30, made.oid(EXTENSIONS), made.tlv(0x31, MAC_ADDRESS)), CHALLENGE),
        "template": (TEMPLATE, made.tlv(0x30, made.oid(RSA_KEY), made.tlv(0x31, b"\x02\x01\x7f"))),
    }
    for name, wanted in asked.items():
        keep("csrattrs", name, made.tlv(0x30, *wanted))
    message = messages.certs_only(leaf)
    keep("base64", "folded", folded(message))
    keep("base64", "windows", folded(message, 76, "\r\n"))
    keep("base64", "nul", base64.b64encode(message) + b"\x00")
    keep("base64", "binary", message)
    keep("base64", "pem", b"-----BEGIN PKCS7-----\n" + folded(message) + b"-----END PKCS7-----\n")
    keep("proxy", "plain", b"http://proxy.example:3128")
    keep("proxy", "user", b"http://user:pass%20word@[2001:db8::1]:8080/")


def of_http(leaf: bytes) -> None:
    body = folded(messages.certs_only(leaf))
    line = base64.b64encode(messages.certs_only(leaf))
    keep("http-answer", "rfc7030", http(200, body))
    keep("http-answer", "estserver", http(201, line, "application/pkcs7-mime"))
    keep(
        "http-answer",
        "libest",
        b"HTTP/1.1 200 OK\r\nStatus: 200 OK\r\n" + http(200, body).partition(b"\r\n")[2],
    )
    keep("http-answer", "chunked", chunked(body))
    keep(
        "http-answer",
        "http-1.0",
        b"HTTP/1.0 200 OK\r\nContent-Type: application/pkcs7-mime\r\n\r\n" + body,
    )
    keep("http-answer", "pending", http(202, b"", None, "Retry-After: 300"))
    keep(
        "http-answer",
        "busy",
        http(
            503,
            b"later",
            "text/plain",
            "Retry-After: Sat, 21 Nov 2026 12:00:00 GMT",
            "Date: Sat, 21 Nov 2026 11:00:00 GMT",
        ),
    )
    keep(
        "http-answer",
        "ejbca-error",
        http(400, b"<html><body>No</body></html>", "text/html;charset=utf-8"),
    )
    keep(
        "http-answer",
        "redirect",
        http(307, b"", None, "Location: /.well-known/est/a/simplereenroll"),
    )
    keep("http-answer", "continue", b"HTTP/1.1 100 Continue\r\n\r\n" + http(200, body, CERTS_ONLY))
    for number, value in enumerate(
        (
            "300",
            "Sat, 21 Nov 2026 12:00:00 GMT",
            "Saturday, 21-Nov-26 12:00:00 GMT",
            "Sat Nov 21 12:00:00 2026",
            "-1",
            "",
        )
    ):
        keep("retry-after", str(number), value.encode())


def of_devices() -> None:
    for number, key in enumerate(KEYS):
        keep("ecies", key.curve.name, ecies.encrypt(b"seed %d" % number, key.public_key()))
    keep("config", "go", (VECTORS / "config.encrypted.go").read_bytes())
    keep("config", "plain", (VECTORS / "config.plain.json").read_bytes())
    keep(
        "config",
        "odd",
        b'{"a":{"value":"","onchanged":null},"b":{"Value":"x","Unencrypted":true,"more":[1.5,null]}}',
    )
    keep(
        "trigger",
        "stock",
        b"ESTSERVER=https://est.example:8443/.well-known/est\nROTATIONID=certs-1763683200\nPKEYIDS=01,07\nCERTIDS=03,09\n",
    )
    keep(
        "trigger",
        "window",
        b"# why\nROTATIONID='certs-1'\nWINDOW=24h\nSTART=2026-12-01T02:00:00Z\nOTHER=\n",
    )
    keep("est-url", "plain", b"https://est.example:8443/.well-known/est")
    keep("est-url", "label", b"https://[2001:db8::1]/.well-known/est/label/")
    keep(
        "worker-line",
        "end",
        b'{"event": "end", "exit": 75, "next_at": null, "a": [-2.5e3, true, {"b": "\\u00e9"}]}\n',
    )
    keep(
        "settings",
        "all",
        b'[est]\nserver = "https://e.example/est"\nallow_san_loss = true\n[rotation]\ndue_at = 1\n',
    )
    keep("settings", "empty", b"")
    of_disks()


def of_disks() -> None:
    keep("sota", "registered", _SOTA.encode())
    keep("sota", "windows", _SOTA.replace("\n", "\r\n").encode())
    keep(
        "sota",
        "token",
        (_SOTA + '\n[p11]\nmodule = "/usr/lib/softhsm.so"\npass = "1234"\n').encode(),
    )
    histories_by_name = {
        "completed": histories.until(Phase.COMPLETED),
        "refused": histories.refused(),
        "pausing": [
            *histories.until(Phase.KEY_GENERATED),
            histories.paused(Phase.CERT_ISSUED, "timed out"),
        ],
    }
    for name, records in histories_by_name.items():
        with tempfile.TemporaryDirectory() as directory:
            keep("journal", name, journals.written(Path(directory), records))


_SOTA = """\
[tls]
server = "https://gw.example:8443"
ca_source = "file"
pkey_source = "file"
cert_source = "file"

[storage]
path = "/var/sota"

[import]
tls_cacert_path = "/var/sota/root.crt"
tls_pkey_path = "/var/sota/pkey.pem"
tls_clientcert_path = "/var/sota/client.pem"

[pacman]
tags = "main"
"""

if __name__ == "__main__":
    main()

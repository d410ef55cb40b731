"""Text without secrets: every spelling of a known one, and every form of an unknown one."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from fioagent.redaction import GONE, Redactor, passwords

from . import made

_SECRET = b'user=robot\npassword=hun/ter"2 \xc3\xbc\n'
_LINE = 'hun/ter"2 \u00fc'


@pytest.mark.parametrize(
    "spelling",
    [
        _SECRET.decode(),
        _LINE,
        json.dumps(_LINE),
        quote(_LINE, safe=""),
        base64.b64encode(_SECRET).decode(),
        base64.b64encode(_LINE.encode()).decode(),
    ],
)
def test_a_known_secret_goes_in_every_spelling(spelling: str) -> None:
    redactor = Redactor([_SECRET])
    text = f"before {spelling} after"

    found = redactor.text(text)

    assert redactor.leaks(text)
    assert not redactor.leaks(found)
    assert GONE in found
    assert "hun" not in found
    assert found.startswith("before")
    assert found.endswith("after")


def test_a_short_one_goes_where_it_stands_alone() -> None:
    """A PIN of four digits must not tear every date apart."""
    redactor = Redactor([b"2026"])

    assert redactor.text("PIN 2026, at 12026x") == f"PIN {GONE}, at 12026x"
    assert redactor.leaks("(2026)")


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("traditional", [True, False])
@pytest.mark.parametrize("in_json", [True, False])
def test_a_private_key_goes_in_every_form(ends: bool, traditional: bool, in_json: bool) -> None:  # noqa: FBT001  # three forms
    pem = made.key_pem(made.new_key(), traditional=traditional).decode()
    body = pem.splitlines()[1]
    text = pem if ends else pem[:100]

    found = Redactor([]).text(f"a\n{json.dumps(text) if in_json else text}\n")

    assert body[:20] not in found
    assert found.startswith("a\n")


@pytest.mark.parametrize(
    "text",
    [
        "http://robot:sesame@proxy.example:3128",
        "http://robot:ses@me:sesame@proxy.example:3128",
        "https://sesame@host/",
        "Authorization: Bearer sesame12345",
        '{"authorization": "Basic sesame"}',
        'pass = "sesame"',
        "p11.pass=sesame",
        'PASSWORD="a \\" sesame"',
        '{"user": "x", "password": "sesame"}',
        "PrivateKey = sesame",
        "API_KEY: sesame",
        '{"NewKey":"sesame","NewCert":"sesame","FullConfigEncrypted":"sesame',
    ],
)
def test_an_unknown_one_goes_by_its_form(text: str) -> None:
    found = Redactor([]).text(f"kept\n{text}\nkept")

    assert "sesame" not in found
    assert found.splitlines()[0] == "kept"


@pytest.mark.parametrize(
    "text",
    [
        'tls_pkey_id = "01"',
        "https://est.example:8443/.well-known/est",
        '"token.key_ids": {"value": ["01", "07"]}',
        "token           'aktualizr' takes the PIN; no wrong PIN was tried",
        "-----BEGIN CERTIFICATE-----",
        "valid until 2027-11-17 04:14 UTC",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor([b"enabled=true\n-----BEGIN CERTIFICATE-----\n"]).text(text) == text


def test_passwords_of_a_url() -> None:
    found = list(passwords("http://robot:p%40ss@proxy:3128"))

    assert found == [b"p%40ss", b"p@ss", base64.b64encode(b"robot:p@ss")]
    assert list(passwords("http://proxy:3128")) == []
    assert list(passwords("http://[:bad")) == []

"""config.encrypted under another key: what must change, what must not, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from fioagent import ecies
from fioagent.config import document
from fioagent.errors import ConfigError
from fioagent.ports import ConfigFile

from . import made

# Made by fioconfig's own code on Go: the document, its key, and what is in it.
_VECTORS = Path(__file__).parent.parent / "vectors"
_GO = (_VECTORS / "config.encrypted.go").read_bytes()
_PLAIN: dict[str, dict[str, Any]] = json.loads((_VECTORS / "config.plain.json").read_text("utf-8"))
_OLD, _NEW, _STRANGER = (made.new_key() for _ in range(3))


def _go_key() -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((_VECTORS / "config.encrypted.go.key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _sealed(text: bytes, key: ec.EllipticCurvePrivateKey = _OLD) -> str:
    return base64.b64encode(ecies.encrypt(text, key.public_key())).decode()


def _opened(value: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    return ecies.decrypt(base64.b64decode(value), key)


def _mixed() -> dict[str, dict[str, Any]]:
    return {
        "secret": {"Value": _sealed(b"p4ss"), "OnChanged": ["/bin/x"], "Unencrypted": False},
        "lower": {"value": _sealed(b"low"), "onchanged": ["/bin/y"]},
        "plain <&> ü": {"Value": "a=1\n", "OnChanged": None, "Unencrypted": True},
        "lower plain": {"value": "b", "unencrypted": True},
        "extra": {"Value": _sealed(b"x"), "Version": 7, "Tags": ["a", {"b": [None, 1.5]}]},
        "empty": {"Value": ""},
    }


def test_what_go_wrote_opens() -> None:
    """Each value of fioconfig's own file reads as it was before it was sealed."""
    entries = document.parse(_GO, "config.encrypted")

    assert _PLAIN.keys() == entries.keys()
    for name, entry in entries.items():
        plain = _PLAIN[name]
        value = entry["Value"]
        found = value if entry["Unencrypted"] else _opened(value, _go_key()).decode()
        assert plain == {**entry, "Value": found}
    assert document.opens_with(_GO, _go_key(), "config.encrypted")
    assert not document.opens_with(_GO, _STRANGER, "config.encrypted")


def test_resealing_what_go_wrote_keeps_all_but_the_sealed_values() -> None:
    before = json.loads(_GO)

    after = json.loads(document.resealed(_GO, [_go_key()], _NEW, "config.encrypted"))

    assert list(before) == list(after)
    for name, entry in after.items():
        if entry["Unencrypted"]:
            assert before[name] == entry
        else:
            assert _PLAIN[name]["Value"] == _opened(entry["Value"], _NEW).decode()
            assert {**before[name], "Value": entry["Value"]} == entry


def test_resealing_passes_everything_else_through() -> None:
    """Members unknown to us, lower-case names, plain values and the order of all of them."""
    before = _mixed()

    raw = document.resealed(json.dumps(before).encode(), [_OLD], _NEW, "x")

    after = json.loads(raw)
    assert list(before) == list(after)
    assert [list(entry) for entry in before.values()] == [list(entry) for entry in after.values()]
    assert before["plain <&> ü"] == after["plain <&> ü"]
    assert before["lower plain"] == after["lower plain"]
    assert {**before["extra"], "Value": ""} == {**after["extra"], "Value": ""}
    assert b"p4ss" == _opened(after["secret"]["Value"], _NEW)
    assert b"low" == _opened(after["lower"]["value"], _NEW)
    assert b"x" == _opened(after["extra"]["Value"], _NEW)


def test_the_old_key_opens_nothing_afterwards() -> None:
    raw = document.resealed(json.dumps(_mixed()).encode(), [_OLD], _NEW, "x")

    for name, member in (("secret", "Value"), ("lower", "value"), ("extra", "Value")):
        with pytest.raises(ecies.EciesError):
            _opened(json.loads(raw)[name][member], _OLD)


def test_an_empty_value_stays_empty() -> None:
    """The operator's tool writes "" for an empty secret; agents before us see no change."""
    raw = document.resealed(b'{"f":{"Value":""}}', [_OLD], _NEW, "x")

    assert {"f": {"Value": ""}} == json.loads(raw)
    assert document.opens_with(b'{"f":{"Value":""}}', _STRANGER, "x")


def test_resealing_again_changes_nothing() -> None:
    """After a power cut the same step runs over its own result."""
    once = document.resealed(json.dumps(_mixed()).encode(), [_OLD, _NEW], _NEW, "x")

    assert once == document.resealed(once, [_OLD, _NEW], _NEW, "x")
    assert once == document.resealed(once, [_OLD], _NEW, "x")


def test_resealing_takes_whichever_key_opens() -> None:
    """While two keys are at hand the operator may have set files under either of them."""
    mixed = {"a": {"Value": _sealed(b"1", _OLD)}, "b": {"Value": _sealed(b"2", _NEW)}}
    third = made.new_key(ec.SECP384R1())

    after = json.loads(document.resealed(json.dumps(mixed).encode(), [_OLD, _NEW], third, "x"))

    assert [b"1", b"2"] == [_opened(entry["Value"], third) for entry in after.values()]


def test_values_that_nothing_opens_are_named() -> None:
    """The operator has to know which files to set again, and the good ones are no news."""
    lost: dict[str, dict[str, Any]] = {
        "good": {"Value": _sealed(b"1")},
        "lost-1": {"Value": _sealed(b"2", _STRANGER)},
        "lost-2": {"Value": "not base64!"},
        "plain": {"Value": "not base64!", "Unencrypted": True},
    }
    raw = json.dumps(lost).encode()

    assert document.lost(raw, [_OLD], "the file") == ["lost-1", "lost-2"]
    resealed = json.loads(document.resealed(raw, [_OLD], _NEW, "the file"))
    assert {**lost, "good": resealed["good"]} == resealed
    assert document.opens_with(json.dumps({"good": resealed["good"]}).encode(), _NEW, "it")


@pytest.mark.parametrize("value", ["schlüssel", "QUJ\u212a", "=", "QQ", "\x00", "\ud800"])
def test_a_value_that_is_no_base64_does_not_open(value: str) -> None:
    """Whatever stands there, it is named as a file that does not open."""
    raw = json.dumps({"f": {"Value": value}}).encode()

    assert not document.opens_with(raw, _OLD, "x")
    assert document.lost(raw, [_OLD], "x") == ["f"]
    assert json.loads(raw) == json.loads(document.resealed(raw, [_OLD], _NEW, "x"))


def test_half_a_character_does_not_stop_a_rotation() -> None:
    """JSON may escape half of a surrogate pair; Go reads it, so such a file is in the field."""
    raw = (
        b'{"f":{"Value":"\\ud800","Unencrypted":true},"s":{"Value":"%s"}}' % _sealed(b"1").encode()
    )

    after = json.loads(document.resealed(raw, [_OLD], _NEW, "x"))

    assert b"1" == _opened(after["s"]["Value"], _NEW)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 4096,
        b'{"a":{"Value":"x","Unencrypted":true}',
        b'{"a":{"Value":"\xff"}}',
        b'{"a":{"Value":"x","Unencrypted":true,"n":NaN}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":{"n":' + b"9" * 10_000 + b"}}",
    ],
    ids=[
        "empty",
        "zeros",
        "cut off",
        "not UTF-8",
        "NaN",
        "deep list",
        "deep object",
        "long number",
    ],
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    """What a power cut or a bad disk leaves of a file, and what Go would not take."""
    with pytest.raises(ConfigError, match=r"cannot read config\.encrypted: "):
        document.parse(raw, "config.encrypted")


@pytest.mark.parametrize("raw", [b"null", b"[]", b'"text"', b"7"])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError, match="not a JSON object"):
        document.parse(raw, "config.encrypted")


@pytest.mark.parametrize("entry", ["null", "[]", "{}", '{"Value":null}', '{"Value":5}', '"x"'])
def test_an_entry_without_text_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ConfigError, match="the entry 'name' has no text value"):
        document.parse(b'{"name":%s}' % entry.encode(), "config.encrypted")


def test_files_are_what_patch_config_takes() -> None:
    """By name, with the handler, whatever the spelling of the members."""
    raw = (
        b'{"b":{"value":"1","onchanged":["/h","x"],"unencrypted":true},'
        b'"a":{"Value":"2","OnChanged":null}}'
    )

    assert [
        ConfigFile("a", "2", unencrypted=False, on_changed=()),
        ConfigFile("b", "1", unencrypted=True, on_changed=("/h", "x")),
    ] == document.files(raw, "x")


@pytest.mark.parametrize(
    "member",
    ['"OnChanged":5', '"OnChanged":"/bin/x"', '"OnChanged":[1]', '"Unencrypted":"false"'],
)
def test_members_of_another_type_are_refused(member: str) -> None:
    """Go does not decode them; guessing sends a secret as plain text, a handler in pieces."""
    raw = b'{"a":{"Value":"x",%s}}' % member.encode()

    with pytest.raises(ConfigError, match="'a'"):
        document.files(raw, "x")


@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_else(raw: bytes) -> None:
    try:
        entries = document.parse(raw, "x")
    except ConfigError:
        return

    assert all(isinstance(entry, dict) for entry in entries.values())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Value", "value", "Unencrypted", "OnChanged", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(_JSON)
def test_arbitrary_json_raises_nothing_else(value: object) -> None:
    """Every use of a document: its own error or none."""
    raw = json.dumps(value).encode()

    try:
        document.files(raw, "x")
        document.resealed(raw, [_OLD], _NEW, "x")
    except ConfigError:
        return

    assert isinstance(value, dict)

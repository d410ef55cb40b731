"""Which file of the search list says what, and which of them may be edited."""

from __future__ import annotations

import pytest

from fioagent import sota
from fioagent.errors import ConfigError
from fioagent.sota import Sota, SotaFile

_KEY, _CERTIFICATE = "import.tls_pkey_path", "import.tls_clientcert_path"


def _import(key: str | None = None, certificate: str | None = None) -> bytes:
    lines = ["[import]"]
    if key is not None:
        lines.append(f'tls_pkey_path = "{key}"')
    if certificate is not None:
        lines.append(f'tls_clientcert_path = "{certificate}"')
    return "\n".join(lines).encode()


def _merged(*found: tuple[str, bytes]) -> Sota:
    return sota.merge(found)


@pytest.mark.parametrize(
    ("names", "winner"),
    [
        (["sota.toml", "z-50-fioctl.toml"], "z-50-fioctl.toml"),
        (["z-50-fioctl.toml", "sota.toml"], "z-50-fioctl.toml"),
        (["sota.toml", "90-local.toml"], "sota.toml"),
        (["sota.toml", "a-first.toml"], "sota.toml"),
        (["10-b.toml", "9-a.toml"], "9-a.toml"),
        (["Z.toml", "a.toml"], "a.toml"),
    ],
)
def test_the_highest_base_name_wins(names: list[str], winner: str) -> None:
    """By bytes of the base name, wherever in the search list the file is."""
    merged = _merged(*((f"/dir{i}/{name}", _import(name)) for i, name in enumerate(names)))

    assert winner == merged.get(_KEY)


def test_a_later_file_of_the_same_name_replaces_the_earlier_whole() -> None:
    """Not key by key: what the earlier one alone has set is gone."""
    merged = _merged(
        ("/usr/lib/sota/conf.d/40-hw.toml", _import("usr-key", "usr-certificate")),
        ("/etc/sota/conf.d/40-hw.toml", _import("etc-key")),
    )

    assert "etc-key" == merged.get(_KEY)
    assert merged.get(_CERTIFICATE) is None
    assert ["/etc/sota/conf.d/40-hw.toml"] == [file.path for file in merged.files]


def test_an_empty_string_is_not_set() -> None:
    """The next file is asked, as fioconfig does."""
    merged = _merged(("/a/sota.toml", _import("key")), ("/b/z.toml", _import("")))

    assert "key" == merged.get(_KEY)


@pytest.mark.parametrize("value", ["5", "true", "[]", "{}", "1979-05-27"])
def test_another_type_than_a_string_is_told(value: str) -> None:
    """Where fioconfig panics we name file and key."""
    merged = _merged(("/a/sota.toml", f"[import]\ntls_pkey_path = {value}\n".encode()))

    with pytest.raises(ConfigError, match=r"import\.tls_pkey_path in /a/sota\.toml: .* string"):
        merged.get(_KEY)


@pytest.mark.parametrize("content", [b"", b"import = 5\n", b"[tls]\n", b"[import]\n"])
def test_a_key_that_is_nowhere_is_asked_for(content: bytes) -> None:
    merged = _merged(("/a/sota.toml", content), ("/b/z.toml", b""))

    assert merged.get(_KEY) is None
    with pytest.raises(
        ConfigError, match=r"import\.tls_pkey_path is not set in /a/sota.toml, /b/z"
    ):
        merged.require(_KEY)


@pytest.mark.parametrize("content", [b"[import\n", b"\xff", b"a = 1\na = 2\n", b"\x00"])
def test_a_broken_file_is_named(content: bytes) -> None:
    """One broken file stops everything: half of a configuration is none."""
    with pytest.raises(ConfigError, match=r"cannot read /b/z\.toml: not valid TOML"):
        _merged(("/a/sota.toml", _import("key")), ("/b/z.toml", content))


def test_replaced_shows_the_view_after_an_edit() -> None:
    before = _merged(("/a/sota.toml", _import("key")), ("/b/z.toml", b"[tls]\n"))

    after = before.replaced("/a/sota.toml", _import("new"))

    assert ("key", "new") == (before.get(_KEY), after.get(_KEY))
    assert ["/a/sota.toml", "/b/z.toml"] == [file.path for file in after.files]


def _edited_file(merged: Sota, *writable: str) -> SotaFile:
    return sota.file_to_edit(merged, (_KEY, _CERTIFICATE), lambda path: path in writable)


def test_the_file_that_sets_the_credential_is_edited() -> None:
    """The highest that sets any of the keys, not the highest of all."""
    merged = _merged(
        ("/a/10.toml", _import("low", "low")),
        ("/a/sota.toml", _import("key", "certificate")),
        ("/a/z-60.toml", b'[pacman]\ntype = "x"\n'),
    )

    assert "/a/sota.toml" == _edited_file(merged, "/a/10.toml", "/a/sota.toml", "/a/z-60.toml").path


def test_one_of_the_keys_is_enough() -> None:
    """All keys go to one file, or key and certificate could come from two."""
    merged = _merged(("/a/sota.toml", _import("k", "c")), ("/a/t.toml", _import(None, "other")))

    assert "/a/t.toml" == _edited_file(merged, "/a/sota.toml", "/a/t.toml").path


def test_an_empty_value_does_not_hold_a_key() -> None:
    merged = _merged(("/a/sota.toml", _import("k", "c")), ("/a/t.toml", _import("", "")))

    assert "/a/sota.toml" == _edited_file(merged, "/a/sota.toml", "/a/t.toml").path


def test_a_higher_file_stands_in_for_one_that_cannot_be_replaced() -> None:
    """The next higher one that can be; the operator's file and lower ones never."""
    merged = _merged(
        ("/rw/10.toml", b""),
        ("/ro/sota.toml", _import("k", "c")),
        ("/ro/t.toml", b""),
        ("/rw/z-50-fioctl.toml", b""),
        ("/rw/z-90.toml", b""),
        ("/rw/z-91.toml", b""),
    )
    writable = [file.path for file in merged.files if file.path.startswith("/rw/")]

    assert "/rw/z-90.toml" == _edited_file(merged, *writable).path


def test_nothing_stands_in_where_nothing_can_be_replaced() -> None:
    merged = _merged(("/rw/10.toml", b""), ("/ro/sota.toml", _import("k", "c")))

    with pytest.raises(ConfigError, match=r"/ro/sota\.toml cannot be replaced") as caught:
        _edited_file(merged, "/rw/10.toml")
    assert "writable" in str(caught.value.hint)


def test_the_operators_file_is_not_ours_to_edit() -> None:
    """An edit would be undone by the next config; so the operator has to."""
    merged = _merged(
        ("/a/sota.toml", _import("k", "c")), ("/etc/z-50-fioctl.toml", _import("k", "c"))
    )

    with pytest.raises(ConfigError, match=r"/etc/z-50-fioctl\.toml .* belongs to the operator"):
        _edited_file(merged, "/a/sota.toml", "/etc/z-50-fioctl.toml")


def test_no_file_with_a_credential_is_no_file_to_edit() -> None:
    with pytest.raises(
        ConfigError, match=r"no file sets import\.tls_pkey_path or import\.tls_client"
    ):
        _edited_file(_merged(("/a/sota.toml", b"")), "/a/sota.toml")

"""An edit of sota.toml changes the text between two quotes, or nothing at all.

The proof is made here by readings of our own: TOML by the library, INI by a
reader of a few lines that does what boost's does.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent import sota
from fioagent.errors import ConfigError
from fioagent.sota import SotaFile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# As the reference registration server writes it.
_REFERENCE = """\
[tls]
server = "https://gw:8443"
ca_source = "file"
pkey_source = "file"
cert_source = "file"

[provision]
server = "https://gw:8443"
primary_ecu_hardware_id = "intel-corei7-64"

[uptane]
repo_server = "https://gw:8443/repo"
key_source = "file"

[pacman]
type = "ostree+compose_apps"
ostree_server = "https://gw:8443/treehub"
compose_apps_root = "/var/sota/compose-apps"

[storage]
type = "sqlite"
path = "/var/sota/"

[import]
tls_cacert_path = "/var/sota/root.crt"
tls_pkey_path = "/var/sota/pkey.pem"
tls_clientcert_path = "/var/sota/client.pem"
"""
_KEY, _CERTIFICATE = "import.tls_pkey_path", "import.tls_clientcert_path"
_NEW = {_KEY: "/var/sota/pkey.certs-1.pem", _CERTIFICATE: "/var/sota/client.certs-1.pem"}


def _edited(text: str, values: dict[str, str] | None = None) -> str:
    file = SotaFile.parse("/var/sota/sota.toml", text.encode())
    return sota.edited(file, _NEW if values is None else values).decode()


def _toml(text: str) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, table in tomllib.loads(text).items()
        for name, value in table.items()
    }


def _ini(text: str) -> dict[str, str]:
    """boost/property_tree/ini_parser.hpp: trimmed lines, ';' and '#' begin comments."""
    found, section = {}, ""
    for line in (each.strip() for each in text.split("\n")):
        if line.startswith("["):
            section = line[1 : line.index("]")].strip()
        elif line and line[0] not in ";#":
            name, _, value = line.partition("=")
            found[f"{section}.{name.strip()}"] = value.strip().replace('"', "")
    return found


def _replaced(text: str) -> str:
    """What an edit by hand would give: the old values between the same quotes."""
    return text.replace('"/var/sota/pkey.pem"', f'"{_NEW[_KEY]}"').replace(
        '"/var/sota/client.pem"', f'"{_NEW[_CERTIFICATE]}"'
    )


_INDENTED = "\n".join(
    f"  {line}" if "=" in line else line for line in _REFERENCE.split("\n")
)  # as fioconfig leaves it after its own rotation
_FORMS = {
    "reference": _REFERENCE,
    "indented keys": _INDENTED,
    "tabs": _REFERENCE.replace(" = ", "\t=\t").replace("tls_", "\ttls_"),
    "no spaces": _REFERENCE.replace(" = ", "="),
    "spaces at line ends": _REFERENCE.replace('"\n', '"  \t\n'),
    "CRLF": _REFERENCE.replace("\n", "\r\n"),
    "no final newline": _REFERENCE.rstrip("\n"),
    "indented headers": _REFERENCE.replace("[", "  ["),
    "comments between": _REFERENCE.replace("tls_", "# a note\n; no, # only\ntls_").replace(
        "; no, # only\n", ""
    ),
    "a key commented out": _REFERENCE.replace(
        "[import]\n", '[import]\n# tls_pkey_path = "/var/sota/pkey.pem.old"\n'
    ),
    "not set, as registration leaves it": _REFERENCE.replace(
        "[import]\n", "[import]\n# tls_pkey_path is not set\n"
    ),
    "the same name in another section": _REFERENCE.replace(
        "[storage]\n", '[storage]\ntls_pkey_path = "/elsewhere"\n'
    )
    + '[zzz]\ntls_pkey_path = "/elsewhere"\ntls_clientcert_path = "/elsewhere"\n',
    "a name that ends alike": _REFERENCE.replace(
        "[import]\n", '[import]\nold_tls_pkey_path = "/o"\ntls_pkey_path_old = "/o"\n'
    ),
    "numbers": _REFERENCE + "[logger]\nloglevel = 1\n",
    "a boolean": _REFERENCE + "[telemetry]\nreport_network = true\n",
    "characters of all kinds": _REFERENCE.replace("/compose-apps", "/compose-äpps €, #;=[]"),
    "section in the middle": _REFERENCE + "\n\n[logger]\nloglevel = 1\n",
}


@pytest.mark.parametrize("text", _FORMS.values(), ids=_FORMS.keys())
def test_an_edit_changes_the_text_between_the_quotes_alone(text: str) -> None:
    """Byte for byte what careful hands would have done; both readers see it and nothing else."""
    after = _edited(text)

    assert _replaced(text) == after
    assert {**_toml(text), **_NEW} == _toml(after)
    assert {**_ini(text), **_NEW} == _ini(after)


@pytest.mark.parametrize("text", _FORMS.values(), ids=_FORMS.keys())
def test_such_a_file_is_clean(text: str) -> None:
    """Preflight must not turn a device away for a form that an edit handles."""
    sota.require_clean(SotaFile.parse("/var/sota/sota.toml", text.encode()), list(_NEW))


def test_an_edit_twice_is_an_edit_once() -> None:
    once = _edited(_REFERENCE)

    assert once == _edited(once)


def test_one_key_alone_can_be_edited() -> None:
    after = _edited(_REFERENCE, {_KEY: "/new"})

    assert _REFERENCE.replace("/var/sota/pkey.pem", "/new") == after


_REFUSED = {
    "comment behind": _REFERENCE.replace('pkey.pem"', 'pkey.pem" # the key'),
    "single quotes": _REFERENCE.replace('"/var/sota/pkey.pem"', "'/var/sota/pkey.pem'"),
    "multi-line string": _REFERENCE.replace('"/var/sota/pkey.pem"', '"""/var/sota/pkey.pem"""'),
    "escapes": _REFERENCE.replace("sota/pkey.pem", "sot\\u0061/pkey.pem"),
    "quoted name": _REFERENCE.replace("tls_pkey_path", '"tls_pkey_path"'),
    "inline table": 'import = { tls_pkey_path = "/k", tls_clientcert_path = "/c" }\n',
    "dotted keys": 'import.tls_pkey_path = "/k"\nimport.tls_clientcert_path = "/c"\n',
    "no string": _REFERENCE.replace('"/var/sota/pkey.pem"', "5"),
    "header with a comment": _REFERENCE.replace("[import]", "[import] # pair"),
    "INI sees a section in a string": _REFERENCE + '[x]\ny = """\n[import]\n"""\n',
    "key line inside a string": _REFERENCE.replace(
        "[import]", '[import]\nnote = """\ntls_pkey_path = "/n"\n"""'
    ),
    "list of tables": '[[import]]\ntls_pkey_path = "/k"\n',
}


@pytest.mark.parametrize("text", _REFUSED.values(), ids=_REFUSED.keys())
def test_a_form_that_the_readers_may_see_differently_is_refused(text: str) -> None:
    """Better no rotation than a line that only one of two programs understands."""
    with pytest.raises(ConfigError, match=r"cannot (edit|use|read) /var/sota/sota\.toml"):
        _edited(text)


@pytest.mark.parametrize(
    "text",
    [
        _REFERENCE + 'tls_pkey_path = "/again"\n',
        _REFERENCE + '[import]\ntls_pkey_path = "/again"\n',
        _REFERENCE + 'a = "1"\na = "1"\n',
    ],
    ids=["the key", "the section", "another key"],
)
def test_doubles_are_refused(text: str) -> None:
    """Which of two counts is not the same for every reader."""
    with pytest.raises(ConfigError, match=r"cannot (edit|use|read) /var/sota/sota\.toml"):
        _edited(text)


def test_a_missing_key_is_added_at_the_end_of_its_section() -> None:
    """As in HSM registration, where the paths are commented out."""
    text = _REFERENCE.replace("tls_pkey_path = ", "# tls_pkey_path = ") + "\n[logger]\nlevel = 1\n"

    after = _edited(text)

    key_line = f'tls_pkey_path = "{_NEW[_KEY]}"\n'
    assert (
        text.replace("/var/sota/client.pem", _NEW[_CERTIFICATE]).replace(
            "\n\n[logger]", f"\n{key_line}\n[logger]"
        )
        == after
    )
    assert {**_toml(text), **_NEW} == _toml(after)
    assert {**_ini(text), **_NEW} == _ini(after)


@pytest.mark.parametrize("text", ["", "\n", "[pacman]\na = 1\n", "[pacman]\na = 1", "# note"])
def test_a_missing_section_is_added_at_the_end(text: str) -> None:
    """What was there stays in front, to the byte."""
    after = _edited(text)

    assert after.startswith(text)
    assert {**_toml(text), **_NEW} == _toml(after)
    assert {**_ini(text), **_NEW} == _ini(after)


@pytest.mark.parametrize("text", ["[import]", "[import]\n", "[import]\n\n[x]\na = 1\n"])
def test_an_empty_section_is_filled(text: str) -> None:
    after = _edited(text)

    assert {**_toml(text), **_NEW} == _toml(after)
    assert {**_ini(text), **_NEW} == _ini(after)
    assert 1 == after.count("[import]")


@pytest.mark.parametrize(
    "value",
    ["", '/a"b', "/a'b", "/a\\b", "/a\nb", "/a\tb", "/a\x00b", "/a\x7fb", "/a\n", "\r"],
    ids=repr,
)
def test_a_value_that_needs_escapes_is_refused(value: str) -> None:
    """The INI reader knows no escapes, so there is no way to write it for both."""
    with pytest.raises(ConfigError, match=r"cannot write import\.tls_pkey_path: .* needs escaping"):
        _edited(_REFERENCE, {_KEY: value})


@pytest.mark.parametrize("value", ["/a b", "/é/€", "/a=b", "/a#b;c", "/[x]", "01"])
def test_a_value_without_escapes_is_written(value: str) -> None:
    after = _edited(_REFERENCE, {_KEY: value})

    assert _REFERENCE.replace("/var/sota/pkey.pem", value) == after
    assert value == _toml(after)[_KEY] == _ini(after)[_KEY]


@pytest.mark.parametrize(
    "line",
    ["apps = 'a'", 'apps = "a" # b', 'apps = "a\\tb"'],
)
def test_a_line_that_aktualizr_reads_differently_is_not_clean(line: str) -> None:
    """Named by its key, with how to write it."""
    name = "credential"
    file = SotaFile.parse("/s.toml", f"[pacman]\n{line}\n".replace("apps", name).encode())

    with pytest.raises(ConfigError, match=rf"pacman\.{name} differently") as caught:
        sota.require_clean(file, [f"pacman.{name}"])
    assert caught.value.hint is not None


_NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
_TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters="\"'\\"),
    max_size=12,
)
_LINES = st.one_of(
    st.just(""),
    st.tuples(_NAMES, _TEXTS).map(lambda pair: pair),
    st.from_regex(r"# ?[a-z =\"\[\]]{0,12}", fullmatch=True),
)


@st.composite
def _simple_files(draw: st.DrawFn) -> str:
    """Sections of ``name = "value"`` lines, comments and blanks, with the pair in [import]."""
    sections = draw(st.lists(_NAMES.filter(lambda name: name != "import"), unique=True, max_size=4))
    sections.insert(draw(st.integers(0, len(sections))), "import")
    text = ""
    for section in sections:
        text += f"[{section}]\n"
        names = {"tls_pkey_path", "tls_clientcert_path"} if section == "import" else set()
        lines = [f'{name} = "/old/{name}"' for name in sorted(names)]
        for line in draw(st.lists(_LINES, max_size=5)):
            if isinstance(line, str):
                lines.append(line)
            elif line[0] not in names:
                names.add(line[0])
                indent = draw(st.sampled_from(["", "  ", "\t"]))
                equals = draw(st.sampled_from([" = ", "=", "\t= "]))
                lines.append(f'{indent}{line[0]}{equals}"{line[1]}"')
        text += "".join(f"{line}\n" for line in draw(st.permutations(lines)))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = text.replace("\n", end)
    return text if draw(st.booleans()) else text.removesuffix(end)


@given(_simple_files())
def test_every_other_line_of_any_simple_file_stays(text: str) -> None:
    """Line by line, byte by byte; and both readers agree on the two that changed."""
    after = _edited(text)

    before_lines, after_lines = text.split("\n"), after.split("\n")
    assert len(before_lines) == len(after_lines)
    changed = [(b, a) for b, a in zip(before_lines, after_lines, strict=True) if b != a]
    assert {
        b.replace(f"/old/{name}", _NEW[f"import.{name}"])
        for b, _ in changed
        for name in ("tls_pkey_path", "tls_clientcert_path")
        if f"/old/{name}" in b
    } == {a for _, a in changed}
    assert 2 == len(changed)
    assert {**_toml(text), **_NEW} == _toml(after)
    assert {**_ini(text), **_NEW} == _ini(after)


@given(st.text(max_size=60) | st.lists(st.sampled_from('[import]\n"=#tls_pkey_path ')).map("".join))
def test_arbitrary_text_is_edited_rightly_or_refused(text: str) -> None:
    """No input makes a file that reads otherwise than asked, and none crashes."""
    try:
        after = _edited(text)
    except ConfigError:
        return

    assert {**_toml(text), **_NEW} == _toml(after)

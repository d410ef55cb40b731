"""sota.toml as aktualizr-lite and fioconfig see it, and an edit that both understand.

fioconfig reads TOML, aktualizr-lite reads the same files as boost INI and drops
every double quote. So a file counts as clean only when both readings agree on
the keys that matter, and an edit changes nothing but the text between two
quotes: customers' containers and scripts grep these lines.

Pure: files come in as text and go out as text.
"""

from __future__ import annotations

import configparser
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fioagent import causes
from fioagent.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# fioconfig sotatoml/app_config.go; aktualizr-lite src/api.cc.
SEARCH_LIST = ("/usr/lib/sota/conf.d", "/var/sota/sota.toml", "/etc/sota/conf.d/")
# Written by the operator's tool through the config channel; an edit here would be undone.
MANAGED_NAME = "z-50-fioctl.toml"

_SECTION = re.compile(r"^\s*\[\s*([A-Za-z0-9_-]+)\s*\]\s*$")
_HEADER = re.compile(r"^\[\s*(.*?)\s*\]")
_SAFE_VALUE = re.compile(r"[^\"'\\\x00-\x1f\x7f]+")
_TOP = "\x00top"  # configparser wants a section; boost does not


@dataclass(frozen=True, slots=True)
class SotaFile:
    """One file of the search list.

    Attributes:
        path: as found.
        text: its content.
        data: the TOML reading.
    """

    path: str
    text: str
    data: Mapping[str, Any]

    @classmethod
    def parse(cls, path: str, raw: bytes) -> SotaFile:
        """Raises ConfigError naming the file."""
        try:
            text = raw.decode("utf-8")
            return cls(path, text, _table(text))
        except (ValueError, RecursionError) as error:  # TOML's own, a long number, deep nesting
            raise ConfigError.of(causes.NOT_TOML, {"path": path, "reason": error}) from error

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    def value(self, key: str) -> str | None:
        """The string at ``section.name``; None where it is absent or empty.

        An empty string counts as not set: fioconfig sotatoml/app_config.go Get.
        """
        section, _, name = key.partition(".")
        table = self.data.get(section, {})
        found = table.get(name) if isinstance(table, dict) else None
        if found is None or found == "":
            return None
        if not isinstance(found, str):
            raise ConfigError(f"cannot use {key} in {self.path}: it is not a string")
        return found


@functools.lru_cache(maxsize=8)  # looked at before each use of the live pair, and hardly ever new
def _table(text: str) -> Mapping[str, Any]:
    return tomllib.loads(text)


@dataclass(frozen=True, slots=True)
class Sota:
    """All files merged.

    Attributes:
        files: in ascending order of precedence.
    """

    files: tuple[SotaFile, ...]

    def get(self, key: str) -> str | None:
        origin = self.origin(key)
        return None if origin is None else origin.value(key)

    def origin(self, key: str) -> SotaFile | None:
        """The file whose value counts; None where nothing sets ``key``."""
        return next((file for file in reversed(self.files) if file.value(key)), None)

    def refuse(self, key: str, why: str) -> ConfigError:
        """An error that names the key, its value and the file that sets it."""
        origin = self.origin(key)
        place = origin.path if origin else "no file"
        return ConfigError(f'cannot use {key} = "{self.get(key)}" in {place}: {why}')

    def require(self, key: str) -> str:
        found = self.get(key)
        if found is None:
            read = ", ".join(file.path for file in self.files)
            raise ConfigError.of(causes.KEY_NOT_SET, {"key": key, "files": read})
        return found

    def replaced(self, path: str, raw: bytes) -> Sota:
        """The same with other content at ``path``."""
        return Sota(
            tuple(SotaFile.parse(path, raw) if f.path == path else f for f in self.files),
        )


def merge(found: Iterable[tuple[str, bytes]]) -> Sota:
    """Files in search order to one view.

    A later file of the same base name replaces the earlier one whole; then the
    base names are sorted, and the highest wins: z-50 beats sota, 90 loses to it.
    """
    by_name = {os.path.basename(path): SotaFile.parse(path, raw) for path, raw in found}
    return Sota(tuple(by_name[name] for name in sorted(by_name)))


def file_to_edit(sota: Sota, keys: Sequence[str], editable: Callable[[str], bool]) -> SotaFile:
    """The file that has to receive ``keys``, all of them.

    The one of highest precedence that sets any of them; where it cannot be
    replaced, the next higher one that can (fioconfig sotatoml/app_config.go
    UpdateKeys).

    Raises:
        ConfigError: nothing sets them, or a file that is not ours to edit does.
    """
    holders = [i for i, file in enumerate(sota.files) if any(file.value(key) for key in keys)]
    if not holders:
        raise ConfigError(f"cannot rotate: no file sets {' or '.join(keys)}")
    holder = sota.files[holders[-1]]
    if holder.name == MANAGED_NAME:
        facts = {"path": holder.path, "key": keys[0], "name": MANAGED_NAME}
        raise ConfigError.of(causes.OPERATORS_FILE, facts)
    for file in sota.files[holders[-1] :]:
        if file.name != MANAGED_NAME and editable(file.path):
            return file
    raise ConfigError.of(causes.SOTA_READ_ONLY, {"path": holder.path})


def edited(file: SotaFile, values: Mapping[str, str]) -> bytes:
    """``file`` with ``values`` ("section.name" to new value) and not a byte else changed.

    A key that the file does not set is added at the end of its section. Proved
    on the result: as TOML and as INI, every other key reads as before and the
    given ones read as asked.

    Raises:
        ConfigError: a value that needs escaping, or text that the two readers see differently.
    """
    text = file.text
    for key, value in values.items():
        if not _SAFE_VALUE.fullmatch(value):
            raise ConfigError(f"cannot write {key}: {value!r} needs escaping")
        text = _with_key(file, text, key, value)
    _prove(file, text, values)
    return text.encode("utf-8")


def require_clean(file: SotaFile, keys: Sequence[str]) -> None:
    """Raises ConfigError where TOML and INI readers would not see the same at ``keys``."""
    ini = _ini(file.path, file.text)
    for key in keys:
        if ini.get(key, "") != (file.value(key) or ""):
            raise ConfigError.of(causes.READ_DIFFERENTLY, {"path": file.path, "key": key})


def _with_key(file: SotaFile, text: str, key: str, value: str) -> str:
    section, _, name = key.partition(".")
    lines = text.splitlines(keepends=True)
    assignment = re.compile(rf'^(\s*{re.escape(name)}\s*=\s*")[^"\\]*("\s*)$')
    current = ""
    end_of_section = None
    for i, line in enumerate(lines):
        header = _SECTION.match(line)
        if header:
            current = header.group(1)
        if current != section:
            continue
        match = assignment.match(line)
        if match:
            lines[i] = f"{match.group(1)}{value}{match.group(2)}"
            return "".join(lines)
        if line.strip():
            end_of_section = i + 1
    if name in file.data.get(section, {}):
        raise ConfigError(
            f'cannot edit {file.path}: {key} is not on a line of its own as {name} = "value"'
        )
    end = "\r\n" if "\r\n" in text else "\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    added = f'{name} = "{value}"{end}'
    if end_of_section is None:
        separator = [end] if lines else []
        return "".join([*lines, *separator, f"[{section}]{end}", added])
    return "".join([*lines[:end_of_section], added, *lines[end_of_section:]])


def _prove(file: SotaFile, text: str, values: Mapping[str, str]) -> None:
    expected = dict(file.data)
    for key, value in values.items():
        section, _, name = key.partition(".")
        table = expected.get(section, {})
        expected[section] = {**table, name: value} if isinstance(table, dict) else table
    if SotaFile.parse(file.path, text.encode()).data != expected:
        raise ConfigError(f"cannot edit {file.path}: the change would reach other keys")
    ini_before, ini_after = _ini(file.path, file.text), _ini(file.path, text)
    if ini_after != {**ini_before, **values}:
        raise ConfigError(f"cannot edit {file.path}: aktualizr-lite would read it differently")


def _ini(path: str, text: str) -> dict[str, str]:
    """The reading of boost's ini_parser: no duplicates, quotes dropped wherever they stand."""
    parser = configparser.RawConfigParser(
        delimiters=("=",),
        comment_prefixes=(";", "#"),
        strict=True,
        empty_lines_in_values=False,
        default_section="\x00none",
    )
    # The library lower-cases names and folds indented lines; boost does neither.
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # its documented hook
    stripped = "\n".join(_HEADER.sub(r"[\1]", line.strip()) for line in text.splitlines())
    try:
        parser.read_string(f"[{_TOP}]\n{stripped}\n", source=path)
    except configparser.Error as error:
        reason = " ".join(str(error).split())
        raise ConfigError.of(causes.NOT_INI, {"path": path, "reason": reason}) from error
    return {
        (name if section == _TOP else f"{section}.{name}"): value.replace('"', "")
        for section in parser.sections()
        for name, value in parser.items(section)
    }

"""Configuration in layers: factory, then group, then device.

An entry is kept as GET /config shows it. Writers name files in the other spelling, lower
case with hyphens, which the operator API and PATCH /config share.
"""

from __future__ import annotations

import configparser
import io
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import config_log
from fioagent.factory.fleet.devices import Device
from fioagent.factory.servers.incoming import read_json

MERGED_FILE: Final = "z-50-fioctl.toml"
MAX_LAYER: Final = 1024 * 1024  # bytes, as the operator API shows it; the cloud's documents
OPERATOR: Final = "operator"  # who changes it with the operators' token, or by command
TABLES: Final = ("config_layers", "config_files", "config_log")


class Entry(TypedDict, total=False):
    Value: str
    Unencrypted: bool
    OnChanged: list[str]


Entries = dict[str, Entry]


@dataclass(frozen=True, slots=True)
class Change:
    """Of one layer."""

    files: Entries
    reason: str = ""
    by: str = OPERATOR
    public_key: str = ""  # SPKI PEM, what encrypted values are for; empty: not said


class ConfigError(ValueError):
    """A body that is not a configuration change."""


def parse_change(body: bytes, by: str = OPERATOR) -> Change:
    """What a POST or PATCH body asks for.

    Raises:
        ConfigError: not the JSON that fioctl and fioconfig send.
    """
    try:
        change = read_json(body)
        files = {file["name"]: _entry(file) for file in change["files"]}
        texts = (change.get("reason", ""), change.get("public-key", ""), *files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError("Failed to parse request JSON body") from error
    if not (all(isinstance(text, str) for text in texts) and all(files)):
        raise ConfigError("Failed to parse request JSON body")
    return Change(files, texts[0], by, texts[1])


def _entry(file: Mapping[str, Any]) -> Entry:
    """Go omits what is false or empty, and so do the gateways."""
    if not isinstance(file["value"], str):
        raise TypeError("value is not text")
    entry: Entry = {"Value": file["value"]}
    if file.get("unencrypted"):
        entry["Unencrypted"] = True
    if file.get("on-changed"):
        entry["OnChanged"] = [str(handler) for handler in file["on-changed"]]
    return entry


def put(
    db: sqlite3.Connection,
    layer: str,
    owner: str,
    change: Change,
    now: float,
    *,
    replace: bool = False,
) -> None:
    """Merged into the layer: files not named stay, unless the change is to ``replace`` it.

    A change without a key leaves the recorded one.

    Raises:
        RefusedError: the layer would be larger than the cloud takes it.
    """
    files = {**({} if replace else entries(db, layer, owner)), **change.files}
    _write(db, layer, owner, files, now)
    if change.public_key:
        db.execute(
            "UPDATE config_layers SET public_key = ? WHERE layer = ? AND owner = ?",
            (change.public_key, layer, owner),
        )
    config_log.add(db, layer, owner, as_files(files), change.by, change.reason, int(now))


def remove(db: sqlite3.Connection, layer: str, owner: str, name: str, now: float) -> bool:
    """Whether there was such a file. The layer counts as changed: devices must hear of it."""
    files = entries(db, layer, owner)
    if name not in files:
        return False
    del files[name]
    _write(db, layer, owner, files, now)
    config_log.add(db, layer, owner, as_files(files), OPERATOR, f"Delete {name}", int(now))
    return True


def _write(db: sqlite3.Connection, layer: str, owner: str, files: Entries, now: float) -> None:
    if (size := len(json.dumps(as_files(files)))) > MAX_LAYER:
        raise RefusedError(
            413,
            f"cannot set the configuration: it would have {size} bytes, and may have {MAX_LAYER}",
        )
    db.execute("DELETE FROM config_files WHERE layer = ? AND owner = ?", (layer, owner))
    db.executemany(
        "INSERT INTO config_files VALUES (?, ?, ?, ?)",
        [(layer, owner, name, json.dumps(entry)) for name, entry in files.items()],
    )
    _touch(db, layer, owner, now)


def forget(db: sqlite3.Connection, layer: str, owner: str) -> None:
    """As if nothing had ever been set."""
    for table in TABLES:
        db.execute(
            f"DELETE FROM {table} WHERE layer = ? AND owner = ?",  # noqa: S608  # our own tables
            (layer, owner),
        )


def hand_over(db: sqlite3.Connection, layer: str, owner: str, other: str) -> None:
    """What ``owner`` had belongs to ``other``, who had nothing."""
    for table in TABLES:
        db.execute(
            f"UPDATE {table} SET owner = ? WHERE layer = ? AND owner = ?",  # noqa: S608  # the same
            (other, layer, owner),
        )


def _touch(db: sqlite3.Connection, layer: str, owner: str, now: float) -> None:
    # Whole seconds, as on the public gateways: a second change within one second is
    # invisible to a device that has fetched the first. A clock that was set back may not hide
    # one, though.
    db.execute(
        "INSERT INTO config_layers (layer, owner, changed_at) VALUES (?, ?, ?)"
        " ON CONFLICT (layer, owner) DO UPDATE"
        " SET changed_at = max(changed_at, excluded.changed_at)",
        (layer, owner, int(now)),
    )


def as_files(entries: Entries) -> list[dict[str, Any]]:
    """As the operator API names them."""
    return [
        {
            "name": name,
            "value": entry["Value"],
            "unencrypted": entry.get("Unencrypted", False),
            **({"on-changed": entry["OnChanged"]} if "OnChanged" in entry else {}),
        }
        for name, entry in entries.items()
    ]


def entries(db: sqlite3.Connection, layer: str, owner: str) -> Entries:
    rows = db.execute(
        "SELECT name, entry FROM config_files WHERE layer = ? AND owner = ? ORDER BY name",
        (layer, owner),
    )
    return {row["name"]: json.loads(row["entry"]) for row in rows}


def encrypted_to(db: sqlite3.Connection, uuid: str) -> str:
    """SPKI PEM the device layer was last said to be encrypted to; empty if never said."""
    row = db.execute(
        "SELECT public_key FROM config_layers WHERE layer = 'device' AND owner = ?", (uuid,)
    ).fetchone()
    return str(row["public_key"]) if row else ""


def changed_at(db: sqlite3.Connection, device: Device) -> int:
    """Unix seconds of the newest change that touches the device; 0: nothing was ever set."""
    row = db.execute(
        "SELECT max(changed_at) AS newest FROM config_layers WHERE (layer = 'factory')"
        " OR (layer = 'group' AND owner = ?) OR (layer = 'device' AND owner = ?)",
        (device.group_name, device.uuid),
    ).fetchone()
    return max(row["newest"] or 0, device.group_changed_at)


def keep_before_patch(db: sqlite3.Connection, device: Device) -> None:
    """Remember the device layer for the knob config_while_locked=old; the first time only."""
    if device.config_before_patch is None:
        db.execute(
            "UPDATE devices SET config_before_patch = ? WHERE uuid = ?",
            (json.dumps(entries(db, "device", device.uuid)), device.uuid),
        )


def merged(db: sqlite3.Connection, device: Device, *, before_patch: bool) -> Entries:
    """What GET /config shows: whole entries replace each other, but one file is merged inside."""
    own = entries(db, "device", device.uuid)
    if before_patch and device.config_before_patch is not None:
        own = json.loads(device.config_before_patch)
    result: Entries = {}
    layers = (_plain(db, "factory", ""), _plain(db, "group", device.group_name), own)
    for layer in layers:
        for name, entry in layer.items():
            if name == MERGED_FILE and name in result:
                value = _merged_toml(result[name]["Value"], entry["Value"])
                result[name] = {**entry, "Value": value}
            else:
                result[name] = entry
    return dict(sorted(result.items()))


def _plain(db: sqlite3.Connection, layer: str, owner: str) -> Entries:
    """A layer that many devices share. fioctl sends its files in clear, and does not say so."""
    return {
        name: {**entry, "Unencrypted": True} for name, entry in entries(db, layer, owner).items()
    }


def _merged_toml(below: str, above: str) -> str:
    """Sections and keys of both; ``above`` wins. Text we cannot read wins as a whole.

    aktualizr reads the file as INI, so it is kept to ``key = "value"`` lines in sections.
    """
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # the documented way
    try:
        parser.read_string(below)
        parser.read_string(above)
    except configparser.Error:
        return above
    out = io.StringIO()
    for section in parser.sections():
        out.write(f"[{section}]\n")
        for key, value in parser[section].items():
            out.write(f"  {key} = {value}\n")
    return out.getvalue()

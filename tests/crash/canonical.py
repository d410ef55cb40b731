"""What a state of disk and servers is, with everything in it that is random left out.

Keys, serial numbers, ephemeral points and seeds differ in every run. Two states
are the same where they differ in these alone: same files, same journal, same
roles of the keys, every value opened by the key of the same role. Of what was
torn counts what is there, zeros or missing, and about where it was cut.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from fioagent.ports import Disk
from tests.crash import look
from tests.crash.look import Look
from tests.crash.servers import Servers, public_pem
from tests.crash.simulated import Simulation

# Digests, serial numbers and seeds; base64; times; counters of the clock.
_RANDOM: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9A-Fa-f]{16,}|[A-Za-z0-9+/=]{60,}"
    r"|\d{4}-\d\d-\d\dT[0-9:.+]+|\"monotonic_us\": \d+|boot-\d+"
)
_RUNS: Final = re.compile(rb"\0+|[^\0]+")
_STEP: Final = 64  # bytes; a certificate is longer or shorter than the next by less
_END: Final = b"\n"


def digest(simulation: Simulation) -> str:
    return of(simulation.disk, simulation.storage, simulation.servers)


def of(disk: Disk, storage: str, servers: Servers) -> str:
    """What lies in ``storage``, and what the servers remember."""
    found = look.at(disk, storage)
    parts = [
        *(f"{name} {_file(name, content, found, servers)}" for name, content in _named(found)),
        f"gateway {_entries(servers.config, found, servers)} {bool(servers.next_public_key)}",
        f"denied {len(servers.denied)} issued {servers.issued} est {servers.est_answers}",
        *(_event(event) for event in servers.events),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _named(found: Look) -> list[tuple[str, bytes]]:
    return sorted(found.files.items())


def _file(name: str, content: bytes, found: Look, servers: Servers) -> str:
    if name.endswith(".fioagent-tmp"):  # it is never read
        return _torn(content)
    if name.startswith("config.encrypted"):
        entries = _document(content)
        return _torn(content) if entries is None else _entries(entries, found, servers)
    if name.endswith(".journal"):
        return "\n".join(map(_record, content.splitlines(keepends=True)))
    if name.endswith(".pem"):
        _, leaf = found.pair("", found.storage + name)
        public = look.public_pem(content) if leaf is None else public_pem(leaf)
        role = _torn(content) if public is None else _role(public, servers)
        return f"{found.real[name]} {role}"
    return _masked(content.decode("utf-8", "replace"))


def _role(public: str | None, servers: Servers) -> str:
    """What a key is to the gateway."""
    if public == servers.public_key:
        return "present"
    if public is not None and public == servers.next_public_key:
        return "next"
    return "denied" if public in servers.denied else "unknown"


def _entries(entries: Mapping[str, Any], found: Look, servers: Servers) -> str:
    """Which key opens which value."""
    openers = {}
    for name, entry in sorted(entries.items()):
        if not entry.get("Unencrypted"):
            opens = (pem for pem in found.key_pems if look.opened(entry["Value"], pem) is not None)
            openers[name] = [_role(look.public_pem(pem), servers) for pem in opens]
    return json.dumps(openers)


def _document(content: bytes) -> dict[str, Any] | None:
    """None for a torn one."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@functools.lru_cache(maxsize=8192)
def _record(line: bytes) -> str:
    try:
        return _masked(json.dumps(json.loads(line[9:])))
    except ValueError:
        return _torn(line)


def _torn(content: bytes) -> str:
    """Where it has zeros, how much of anything else, and whether its end is there."""
    runs = [(not any(run), len(run) // _STEP) for run in _RUNS.findall(content)]
    return f"{runs} {content.endswith(_END)}"


def _event(event: Mapping[str, Any]) -> str:
    return _masked(json.dumps({**event, "deviceTime": ""}))


def _masked(text: str) -> str:
    return _RANDOM.sub("#", text)

"""What the servers saw of a device while it rotated: its requests beside its own words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from fioagent.factory.fleet.events import RFC3339
from fioagent.factory.page.rotations import ENDED, Rotation
from fioagent.factory.servers.traffic import Request, Traffic

SERVERS: Final = ("gateway", "est")
KEPT: Final = 60  # requests of a rotation that are told, the newest
SLACK_S: Final = 2  # the times of events have no fractions


class Sighting(NamedTuple):
    server: str
    request: Request


def by_device(
    traffic: Mapping[str, Traffic], devices: Collection[str]
) -> dict[str, list[Sighting]]:
    """Requests since the servers started, oldest first, for each of ``devices``."""
    seen: dict[str, list[Sighting]] = {uuid: [] for uuid in devices}
    for server in SERVERS:
        for request in traffic[server].requests() if server in traffic else ():
            if request.device in seen:
                seen[request.device].append(Sighting(server, request))
    for found in seen.values():
        found.sort(key=lambda sighting: sighting.request.at)
    return seen


def during(rotation: Rotation, asked_at: int, seen: Sequence[Sighting]) -> list[Sighting]:
    """Those between its first word and its last, or since it was asked for.

    The words have the device's time: with a clock that is wrong there, nothing is found.
    """
    begin, end = asked_at, float("inf")
    if rotation.steps:
        begin = seconds(rotation.steps[0].at) - SLACK_S
        if rotation.state in ENDED:
            end = seconds(rotation.steps[-1].at) + SLACK_S
    return [each for each in seen if begin <= each.request.at <= end][-KEPT:]


def seconds(time: str) -> int:
    """Unix seconds of a time in RFC 3339; 0 for an offset that cannot be."""
    match = RFC3339.fullmatch(time)
    if match is None:
        return 0
    offset = "+00:00" if match[3] == "Z" else match[3]
    try:
        return int(datetime.fromisoformat(match[1] + offset).timestamp())
    except ValueError:
        return 0

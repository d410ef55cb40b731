"""A fleet that rotates: how many requests for certificates come in the busiest minutes.

Each device is the agent's own timing (rotation/timing.py, rotation/policy.py) and
nothing else: when it is its turn, when it tries again. It looks at every check-in,
five minutes apart, at its own second. All chance is hashes, so the figures are the
same on every machine.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from fioagent.config import trigger
from fioagent.model import CredentialRef, RotationId, Store
from fioagent.rotation import policy, timing
from fioagent.rotation.machine import Pause, Phase, Rotation
from fioagent.rotation.situation import Rules

DEVICES: Final = 100_000
BUCKET: Final = timedelta(minutes=10)
CHECK_IN: Final = timedelta(minutes=5)
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
START: Final = datetime(2027, 1, 4, tzinfo=timezone.utc)
LIFE: Final = timedelta(days=1095)  # estserver's three years
RULES: Final = Rules(0.66, None, timedelta(days=14), timedelta())
_PAIR: Final = CredentialRef(Store.FILE, "", "")

# Whether the server issues at this moment; else the seconds that it asks to wait, 0 for none.
Server = Callable[[datetime], bool | int]


@dataclass(frozen=True, slots=True)
class Turn:
    """A device of the fleet, and when it begins.

    Attributes:
        device: its name.
        at: its turn.
        not_after: of its certificate.
        patience: as the decision gives it.
    """

    device: str
    at: datetime
    not_after: datetime
    patience: timedelta | None


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to the EST server in the busiest ten minutes, against the mean.

    Attributes:
        mean: requests in ten minutes, were they spread evenly over the window.
        peak: in the busiest ten minutes in which the server issues.
        busiest: when those begin, since the start.
        last: when the last device has its certificate, since the start.
    """

    mean: float
    peak: int
    busiest: timedelta
    last: timedelta

    @property
    def ratio(self) -> float:
        return self.peak / self.mean


# --- fleets ---


def triggered(devices: int, window: timedelta) -> list[Turn]:
    """All see the same group trigger at a check-in after the start."""
    seconds = int(window.total_seconds())
    text = f"ROTATIONID=certs-1798761600\nESTSERVER=https://e/.well-known/est\nWINDOW={seconds}s\n"
    file = trigger.parse(text.encode())
    not_after = START + LIFE / 2
    patience = policy.patience(window)
    turns = []
    for name in _names(devices):
        seen_at = _check_in(name, START)
        at = timing.slot(file, seen_at, not_after, RULES, name)
        turns.append(Turn(name, at, not_after, patience))
    return turns


def scheduled(devices: int) -> list[Turn]:
    """Certificates were all issued within one day; the start is when the first are due."""
    first = START - (timing.due_at(START, START + LIFE, RULES) - START)
    turns = []
    for name in _names(devices):
        not_before = first + DAY * timing.draw("issued", name)
        not_after = not_before + LIFE
        at = timing.scheduled_at(not_before, not_after, RULES, name)
        turns.append(Turn(name, at, not_after, policy.patience(RULES.spread)))
    return turns


def _names(devices: int) -> Iterator[str]:
    return (f"device-{number}" for number in range(devices))


def _check_in(device: str, at: datetime) -> datetime:
    """The first check-in that is not before ``at``."""
    phase = CHECK_IN * timing.draw("check-in", device)
    rounds = math.ceil((at - START - phase) / CHECK_IN)
    return START + phase + rounds * CHECK_IN


# --- servers ---


def up(at: datetime) -> bool:
    del at
    return True


def down(begin: timedelta, duration: timedelta, retry_after_s: int = 0) -> Server:
    """It does not issue in between."""

    def answer(at: datetime) -> bool | int:
        if begin <= at - START < begin + duration:
            return retry_after_s
        return True

    return answer


def limited(per_bucket: int, retry_after_s: int) -> Server:
    """It issues so many certificates in ten minutes; the others it asks to come again."""
    issued: Counter[int] = Counter()

    def answer(at: datetime) -> bool | int:
        bucket = _bucket(at)
        issued[bucket] += 1
        return issued[bucket] <= per_bucket or retry_after_s

    return answer


# --- the run ---


def requests(turns: Sequence[Turn], server: Server) -> list[tuple[datetime, bool]]:
    """Each request with whether it got a certificate; devices come in the order of time."""
    queue = [(_check_in(turn.device, turn.at), n, _begun(turn)) for n, turn in enumerate(turns)]
    heapq.heapify(queue)
    seen = []
    while queue:
        at, number, rotation = heapq.heappop(queue)
        answer = server(at)
        seen.append((at, answer is True))
        if answer is True:
            continue
        pause = Pause(at, Phase.CERT_ISSUED, "", answer or None)
        rotation = replace(rotation, paused=pause, failures=rotation.failures + 1)
        again = policy.next_try(rotation)
        if again is None:
            raise AssertionError("a failure is waited for")
        heapq.heappush(queue, (_check_in(turns[number].device, again), number, rotation))
    return seen


def load(
    seen: Sequence[tuple[datetime, bool]], devices: int, window: timedelta, server: Server = up
) -> Load:
    """``window`` is that over which the devices would be spread evenly."""
    answered = [at for at, _ in seen if server(at) is True]
    buckets = Counter(_bucket(at) for at in answered)
    bucket, peak = max(buckets.items(), key=lambda each: each[1])
    last = max(at for at, issued in seen if issued)
    return Load(devices * (BUCKET / window), peak, bucket * BUCKET, last - START)


def _bucket(at: datetime) -> int:
    return int((at - START) / BUCKET)


def _begun(turn: Turn) -> Rotation:
    begun: dict[str, str | int | bool] = {
        "event_seed": turn.device,
        "old_not_after": turn.not_after.isoformat(),
    }
    if turn.patience is not None:
        begun["patience_s"] = int(turn.patience.total_seconds())
    return Rotation(
        RotationId("r"), turn.at, "", _PAIR, _PAIR, Phase.KEY_GENERATED, {Phase.BEGUN: begun}, {}
    )


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the table.

    Attributes:
        name: for a person.
        turns: makes the fleet.
        window: over which an even load would be spread.
        server: what the devices meet.
    """

    name: str
    turns: Callable[[int], list[Turn]]
    window: timedelta
    server: Server = up

    def run(self, devices: int) -> Load:
        seen = requests(self.turns(devices), self.server)
        return load(seen, devices, self.window, self.server)


_SPREAD: Final = RULES.spread + DAY
SCENARIOS: Final = (
    Scenario("group trigger, WINDOW=24h", lambda n: triggered(n, DAY), DAY),
    Scenario("group trigger, WINDOW=1h", lambda n: triggered(n, HOUR), HOUR),
    Scenario("certificates of one day, by schedule", scheduled, _SPREAD),
    Scenario("the same, EST down for a day", scheduled, _SPREAD, down(5 * DAY, DAY)),
    Scenario("the same, 503 with Retry-After 1 h", scheduled, _SPREAD, down(5 * DAY, DAY, 3600)),
    Scenario(
        "WINDOW=24h, EST down all that day", lambda n: triggered(n, DAY), DAY, down(0 * DAY, DAY)
    ),
    Scenario(
        "WINDOW=24h, EST down from hour 6 to 30",
        lambda n: triggered(n, DAY),
        DAY,
        down(DAY / 4, DAY),
    ),
    Scenario(
        "WINDOW=24h, EST down for an hour", lambda n: triggered(n, DAY), DAY, down(8 * HOUR, HOUR)
    ),
    Scenario(
        "no WINDOW, EST down for a day",
        lambda n: triggered(n, timedelta()),
        policy.BACKOFF[policy.Peer.EST].cap,
        down(0 * DAY, DAY),
    ),
)


def main(devices: int = DEVICES) -> None:
    """Prints the table."""
    print(f"{devices} devices; requests to the EST server in ten minutes")
    print(f"{'':<40} {'mean':>6} {'peak':>6} {'ratio':>6}  busiest      last done")
    for scenario in SCENARIOS:
        found = scenario.run(devices)
        print(
            f"{scenario.name:<40} {found.mean:6.0f} {found.peak:6} {found.ratio:6.2f}  "
            f"{_hours(found.busiest):>9}  {_hours(found.last):>9}",
            flush=True,
        )


def _hours(since: timedelta) -> str:
    return f"{since / HOUR:.1f} h"

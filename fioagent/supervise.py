"""What the resident service does when, and what the outcome of one duty means for the next.

Pure, and light: no import that costs memory, because this lives as long as the
device runs. Times are seconds: ``now`` counts up from any point, ``wall`` is
unix time by the device's clock, which may jump.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing alone is 1.5 MB of a resident process
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

CHECK: Final = "check"
CHECK_IN: Final = "check-in"
ROTATE: Final = "rotate"

# How a worker ended.
EXITED: Final = "exited"
CRASHED: Final = "crashed"
HUNG: Final = "hung"
NOT_STARTED: Final = "not-started"
STOPPED: Final = "stopped"  # by us, because the service stops

# Exit statuses of model.Exit, which is an enum and so costs its import.
DONE: Final = 0
FAILED: Final = 1
TRY_AGAIN: Final = 75
CONFIG: Final = 78
HANDLER: Final = 123  # of a check-in: a handler asked for it
# Between these and the next word the files are being switched over, or put back.
COMMITTING: Final = frozenset(("device-config-updated", "committed", "reverting"))

INTERVAL_S: Final = 300.0  # fioconfig's; the configuration may have another
_FIRST_WAIT_S: Final = 60.0
_LONGEST_WAIT_S: Final = 3600.0
_LEAST_WAIT_S: Final = 10.0  # between two runs of a rotation, whatever they say


class Ended:
    """How a duty went.

    Attributes:
        duty: CHECK, CHECK_IN or ROTATE.
        how: EXITED, CRASHED, HUNG, NOT_STARTED or STOPPED.
        code: exit status, or the signal that ended it.
        answer: the last JSON object that it printed; empty where it printed none.
    """

    __slots__ = ("answer", "code", "duty", "how")

    def __init__(self, duty: str, how: str, code: int, answer: Mapping[str, object]) -> None:
        self.duty = duty
        self.how = how
        self.code = code
        self.answer = answer

    @property
    def is_clean(self) -> bool:
        """Whether it ended by itself and has said how; not whether it went well."""
        return self.how == EXITED


def how_ended(code: int, answer: Mapping[str, object]) -> str:
    """CRASHED or EXITED, by exit status or minus the signal; 1 is Python's for a crash too."""
    if code in (DONE, TRY_AGAIN, CONFIG, HANDLER) or (code == FAILED and answer):
        return EXITED
    return CRASHED


class Timetable:
    """Duties of one device: one at a time, each at its time.

    Attributes:
        interval_s: from check-in to check-in.
        check_in_at: ``now`` of the next one.
        rotation_at: ``wall`` from which a rotation is wanted; None while none is known to be.
    """

    def __init__(self, now: float, draw: float) -> None:
        """``draw`` is from 0 to 1, another on each device.

        A fleet that gets its power back in one minute spreads its first check-ins
        over the interval, and with them all later ones.
        """
        self.interval_s = INTERVAL_S
        self.check_in_at = now
        self.rotation_at: float | None = None
        self._draw = draw
        self._check = True
        self._is_new = True
        self._rotate_not_before = now
        self._failures = {CHECK: 0, CHECK_IN: 0, ROTATE: 0}

    def reload(self, now: float) -> None:
        """A person has changed something: look at it, check in, and wait for nothing else."""
        self._check, self._is_new = True, False
        self.check_in_at = self._rotate_not_before = now
        self._failures = dict.fromkeys(self._failures, 0)

    def due(self, now: float, wall: float) -> str | None:
        """What is to be done now; a check-in comes first, it may bring a correction."""
        if self._check:
            return CHECK
        if now >= self.check_in_at:
            return CHECK_IN
        return ROTATE if self._rotation_in(now, wall) == 0 else None

    def wait(self, now: float, wall: float) -> float:
        """Seconds until something is due by itself."""
        check_in = max(0.0, self.check_in_at - now)
        rotation = self._rotation_in(now, wall)
        return 0.0 if self._check else check_in if rotation is None else min(check_in, rotation)

    def _rotation_in(self, now: float, wall: float) -> float | None:
        if self.rotation_at is None:
            return None
        return max(0.0, self.rotation_at - wall, self._rotate_not_before - now)

    def ended(self, ended: Ended, began: float, now: float) -> None:
        """What follows from how a duty went that began at ``began``."""
        failed = not ended.is_clean or (
            ended.duty == ROTATE and ended.code not in (DONE, TRY_AGAIN)
        )
        self._failures[ended.duty] = self._failures[ended.duty] + 1 if failed else 0
        failures = self._failures[ended.duty]
        if ended.duty == CHECK:
            self._checked(ended.answer.get("interval_s"), now)
        elif ended.duty == CHECK_IN:
            # By the beginning, so that devices keep their places; never one right after the other.
            waited = max(began + self.interval_s, now + self.interval_s / 10)
            self.check_in_at = max(waited, now + _longer(self.interval_s, failures))
            if ended.is_clean:
                self.check_in_at = max(self.check_in_at, now + self._asked(ended.answer))
                self._heard(ended.answer.get("rotation"))
        else:
            self._rotate_not_before = now + (
                _longer(_FIRST_WAIT_S, failures) if failed else _LEAST_WAIT_S
            )
            if ended.is_clean:
                self.rotation_at = unix_time(ended.answer.get("next_at"))

    def _checked(self, interval_s: object, now: float) -> None:
        """The configuration was looked at; where it could not be used, what was known counts."""
        if isinstance(interval_s, (int, float)) and interval_s > 0:
            self.interval_s = float(interval_s)
        if self._is_new:
            self.check_in_at = now + self.interval_s * self._draw
        self._check = self._is_new = False

    def _asked(self, answer: Mapping[str, object]) -> float:
        """Seconds that the gateway wants to be left alone, and by chance up to a half more.

        An hour at most: a correction may have to arrive.
        """
        asked = answer.get("retry_after_s")
        if not isinstance(asked, (int, float)) or asked <= 0:
            return 0.0
        return min(asked * (1 + self._draw / 2), _LONGEST_WAIT_S)

    def _heard(self, rotation: object) -> None:
        """What a check-in says of rotations; nothing where it could not say."""
        if isinstance(rotation, dict):
            wanted = rotation.get("wanted") is True
            self.rotation_at = 0.0 if wanted else unix_time(rotation.get("next_at"))


def _longer(first_s: float, failures: int) -> float:
    """Doubles from failure to failure, up to an hour; 0 after none."""
    if failures == 0:
        return 0.0
    return min(first_s * (1 << min(failures - 1, 16)), max(first_s, _LONGEST_WAIT_S))


def unix_time(text: object) -> float | None:
    """Of ISO 8601 in UTC, to the second, as our workers write it; None for anything else.

    By hand: datetime, strptime and calendar cost more than this whole module.
    """
    if not isinstance(text, str) or text[10:11] != "T" or text[-6:] != "+00:00":
        return None
    try:
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    except ValueError:
        return None
    # A year that begins in March has its leap day at its end.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day
    return ((days - 719_469) * 24 + hour) * 3600.0 + minute * 60 + second

"""The device's clock; boards without a battery boot in 1970."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone

from fioagent.ports import Moment

_IMAGE_TIME = "/usr/lib/clock-epoch"  # systemd(1): its time of modification is the image's
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class SystemClock:
    """``ports.Clock``."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def image_time(self) -> datetime | None:
        try:
            return datetime.fromtimestamp(os.stat(_IMAGE_TIME).st_mtime, timezone.utc)
        except OSError:
            return None

    def moment(self) -> Moment:
        try:
            with open(_BOOT_ID, encoding="ascii") as file:
                boot_id = file.read().strip()
        except OSError:  # hidden from sandboxed units by ProcSubset=pid
            boot_id = ""
        # CLOCK_MONOTONIC is what systemd's *TimestampMonotonic properties count.
        return Moment(boot_id, time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

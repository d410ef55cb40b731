"""What runs on the device: ``current-target`` of aktualizr-lite (src/liteclient.cc)."""

from __future__ import annotations

import os
import re

from fioagent.errors import ConfigError
from fioagent.model import Target
from fioagent.ports import Disk

_LINE = re.compile(r'^(TARGET_NAME|CUSTOM_VERSION)\s*=\s*"([^"]*)"\s*$', re.MULTILINE)


def read(disk: Disk, storage: str) -> Target:
    try:
        content = disk.read_if_there(os.path.join(storage, "current-target"))
    except ConfigError:
        content = None
    found = dict(_LINE.findall((content or b"").decode("utf-8", "replace")))
    return Target(found.get("TARGET_NAME", ""), found.get("CUSTOM_VERSION", "0"))

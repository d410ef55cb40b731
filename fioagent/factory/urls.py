"""Where the servers of a factory are, as factory.json tells it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fioagent.factory.pki import Paths


@dataclass(frozen=True, slots=True)
class Urls:
    gateway: str
    est: str
    api: str
    sign: str = ""  # empty: it is not served


def last_urls(paths: Paths) -> Urls | None:
    """Where the servers are, or were when they last ran; None if they never did."""
    try:
        state: Any = json.loads(paths.state.read_text())
        sign_url = str(state.get("sign", ""))
        return Urls(str(state["gateway"]), str(state["est"]), str(state["api"]), sign_url)
    except (OSError, ValueError, TypeError, KeyError):
        return None

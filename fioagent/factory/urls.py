"""Where the servers of a factory are, as factory.json tells it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from fioagent.factory.pki.forms import Paths


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
        names = (state["gateway"], state["est"], state["api"], state.get("sign", ""))
        urls = Urls(*map(str, names))
        _ = [urlsplit(url).port for url in asdict(urls).values()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return urls

"""JSON that others have sent."""

from __future__ import annotations

import json
from typing import Any


def read_json(body: bytes) -> Any:
    """What ``body`` says. ValueError: it is not JSON, or says what nobody could write down."""
    try:
        found = json.loads(body)
        # An escaped half of a surrogate pair is JSON, but no text that a database would take.
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return found

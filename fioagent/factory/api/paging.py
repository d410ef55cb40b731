"""Lists of the operator API: a page of a length that was asked for, and where the next one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from flask import Response, request

from fioagent.factory.errors import RefusedError
from fioagent.factory.servers.answers import as_json

DEFAULT_LIMIT: Final = 500  # fioctl's own
MAX_LIMIT: Final = 1000

Row = TypeVar("Row")


def page(member: str, rows: Sequence[Row], show: Callable[[Row], Any]) -> Response:
    """200 with the page of ``rows`` that the request asks for, in the ``member`` of that name.

    Raises:
        RefusedError: ``limit`` or ``page`` are no numbers that can be.
    """
    limit, number = _asked("limit", DEFAULT_LIMIT, MAX_LIMIT), _asked("page", 1, 1_000_000)
    end = limit * number
    shown = [show(row) for row in rows[end - limit : end]]
    following = _address(number + 1) if end < len(rows) else None
    return as_json(200, {member: shown, "total": len(rows), "next": following})


def _asked(parameter: str, default: int, most: int) -> int:
    text = request.args.get(parameter) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise RefusedError(400, f"cannot list: {parameter}={text} is not from 1 to {most}")
    return int(text)


def _address(number: int) -> str:
    """The whole address: fioctl asks for it as it is."""
    return f"{request.base_url}?{urlencode({**request.args.to_dict(), 'page': number})}"

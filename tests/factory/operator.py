"""Somebody with the operators' token, at the operator API."""

from __future__ import annotations

from typing import Any

import requests

from fioagent.factory import Factory, Urls
from tests.factory.peers import TIMEOUT_S


class Operator:
    def __init__(self, factory: Factory, urls: Urls, session: requests.Session) -> None:
        self._urls = urls
        self._session = session
        session.trust_env = False
        session.headers["OSF-TOKEN"] = factory.paths.api_token.read_text().strip()

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        """``path`` is below /ota/devices/."""
        return self.ask(method, f"/ota/devices/{path}", **more)

    def factory(self, method: str, path: str, **more: Any) -> requests.Response:
        """``path`` is below the factory."""
        return self.ask(method, f"/ota/factories/lab-factory/{path}", **more)

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        address = path if path.startswith("http") else self._urls.api + path
        return self._session.request(method, address, timeout=TIMEOUT_S, **more)


def refused(answer: requests.Response, status: int, said: str) -> None:
    """JSON with the member that fioctl shows."""
    assert (status, "application/json") == (answer.status_code, answer.headers["Content-Type"])
    assert said in answer.json()["message"]

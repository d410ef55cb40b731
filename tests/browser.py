"""A real browser without a window: Chromium, driven over the W3C WebDriver protocol.

As little of it as the tests of the factory's page need. It sees what a person sees and presses
what a person presses; no JavaScript of a test takes a short cut, but for questions about the page.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import requests

DRIVER: Final = "chromedriver"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S: Final = 60.0  # a machine that does other things besides is slow
START_S: Final = 240  # of a browser whose files are not in memory, on a busy machine
LOOK_S: Final = 0.05
ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # W3C WebDriver's own name for one
KEYS: Final = {"Tab": "\ue004", "Enter": "\ue007", "Right": "\ue014", "Space": " "}

Found = TypeVar("Found")


class Browser:
    """One window. Elements are named by CSS selectors; there has to be one, within a while."""

    def __init__(self, session: requests.Session, url: str) -> None:
        self._session = session
        self._url = url
        self._seen: list[dict[str, Any]] = []

    # --- acting ---

    def open(self, url: str) -> None:
        """The page, and not the one that was open before with another #."""
        self._send("POST", "url", {"url": "about:blank"})
        self._send("POST", "se/log", {"type": "performance"})
        self._seen = []
        self._send("POST", "url", {"url": url})

    def reload(self) -> None:
        self._send("POST", "refresh", {})

    def click(self, selector: str) -> None:
        self.until(lambda: self._clicked(selector), selector)

    def fill(self, selector: str, text: str) -> None:
        """In the place of what is there."""
        field = self._element(selector)
        self._send("POST", f"element/{field}/clear", {})
        self._send("POST", f"element/{field}/value", {"text": text})

    def press(self, *names: str) -> None:
        """Keys of ``KEYS``, one after the other, wherever the focus is."""
        actions = [
            {"type": kind, "value": KEYS[name]} for name in names for kind in ("keyDown", "keyUp")
        ]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._send("POST", "actions", {"actions": [keyboard]})

    def resize(self, width: int, height: int) -> None:
        """Of the page itself, whatever the window has around it. For good: also below 500."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)

    def devtools(self, command: str, **parameters: Any) -> Any:
        """For what a person sets in the browser, such as a dark scheme."""
        return self._send("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    # --- looking ---

    def text(self, selector: str) -> str:
        """As it is shown: nothing of what is hidden. In one step, for the page may be changing."""
        return str(self.ask("document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def ask(self, expression: str, *arguments: object) -> Any:
        """The value of a JavaScript expression about the page; ``arguments[0]`` is the first."""
        body = {"script": f"return {expression}", "args": list(arguments)}
        return self._send("POST", "execute/sync", body)

    def until(self, look: Callable[[], Found], what: str) -> Found:
        """What ``look`` finds, once it finds something."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"the page never shows {what}; it shows:\n{self.text('body')}")
            time.sleep(LOOK_S)

    def until_text(self, selector: str, words: str) -> None:
        self.until(lambda: words in self.text(selector), words)

    def has(self, selector: str) -> bool:
        return bool(self._send("POST", "elements", _by(selector)))

    def said(self) -> list[str]:
        """What the browser has written to its console since it was asked last."""
        return [entry["message"] for entry in self._send("POST", "se/log", {"type": "browser"})]

    def asked_for(self) -> list[str]:
        """URLs of all that the page has asked for since :meth:`open`."""
        entries = self._send("POST", "se/log", {"type": "performance"})
        self._seen += [json.loads(entry["message"])["message"] for entry in entries]
        sent = [each for each in self._seen if each["method"] == "Network.requestWillBeSent"]
        return [each["params"]["request"]["url"] for each in sent]

    # --- the protocol ---

    def _clicked(self, selector: str) -> bool:
        """Whether the element was still there when it was to be pressed: rows are made anew."""
        pressed = self._answer("POST", f"element/{self._element(selector)}/click", {})
        value = pressed.json()["value"] or {}
        assert pressed.ok or value["error"] == "stale element reference", value["message"]
        return bool(pressed.ok)

    def _element(self, selector: str) -> str:
        found = self.until(lambda: self._send("POST", "elements", _by(selector)), selector)
        return str(found[0][ELEMENT])

    def _send(self, method: str, path: str, body: object = None) -> Any:
        answer = self._answer(method, path, body)
        value = answer.json()["value"]
        assert answer.ok, f"{method} {path}: {value}"
        return value

    def _answer(self, method: str, path: str, body: object) -> requests.Response:
        return self._session.request(
            method, f"{self._url}/{path}", json=body, timeout=2 * PATIENCE_S
        )


def _by(selector: str) -> dict[str, str]:
    return {"using": "css selector", "value": selector}


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Open inside the ``with``. ``profile`` is a new directory for what it writes."""
    profile.mkdir()
    with _driver(profile) as url, requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{url}/session", json=_wishes(program, profile), timeout=START_S)
        value = answer.json()["value"]
        assert answer.ok, value
        opened = f"{url}/session/{value['sessionId']}"
        try:
            yield Browser(session, opened)
        finally:
            session.delete(opened, timeout=START_S)


def _wishes(program: str, profile: Path) -> dict[str, Any]:
    arguments = [
        "--headless=new",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-proxy-server",
        "--lang=en",
        "--window-size=1280,900",
        f"--user-data-dir={profile / 'data'}",
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium will not run as root with it
    wishes = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": program, "args": arguments},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }
    return {"capabilities": {"alwaysMatch": wishes}}


@contextmanager
def _driver(profile: Path) -> Iterator[str]:
    """It picks a port, and says which."""
    command = [DRIVER, "--port=0"]
    environment = {**os.environ, "HOME": str(profile), "TMPDIR": str(profile)}
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield f"http://127.0.0.1:{_port(driver.stdout or ())}"
    finally:
        driver.terminate()
        driver.wait(PATIENCE_S)
        if driver.stdout:
            driver.stdout.close()


def _port(lines: Iterator[str] | Sequence[str]) -> int:
    told: list[str] = []
    for line in lines:
        told.append(line)
        _, found, rest = line.partition("successfully on port ")
        if found:
            return int(rest.strip(" .\n"))
    raise AssertionError(f"{DRIVER} did not start: {told}")

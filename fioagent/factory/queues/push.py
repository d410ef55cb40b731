"""Delivery of push queues: each message to its receiver until it says 2xx.

At least once, and in order for each device. A queue that has work has a thread of its own for
as long as it has, so a slow receiver holds up nobody but itself. What is waiting is in the
database, not here: a process that dies loses nothing, and the next one begins at once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import requests

from fioagent.factory.pki.forms import Paths
from fioagent.factory.queues import bearer, queues
from fioagent.factory.queues.queues import Message
from fioagent.factory.servers.traffic import Traffic
from fioagent.factory.store import Store, factory_name

POLL_S: Final = 0.2
TIMEOUT_S: Final = 10.0  # Pub/Sub's: as long as a message may stay unacknowledged
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 60.0
STOP_WAIT_S: Final = 0.5
TROUBLE_KEPT: Final = 200  # characters


@contextmanager
def delivering(store: Store, paths: Paths, log: Traffic) -> Iterator[None]:
    """Push queues are served inside the ``with``."""
    courier = _Courier(store, paths, log)
    courier.start()
    try:
        yield
    finally:
        courier.stop()


def pause(tries: int) -> float:
    """Seconds after so many failures in a row: doubled each time, up to a minute."""
    return float(min(FIRST_PAUSE_S * 2 ** min(tries - 1, 16), LONGEST_PAUSE_S))


def _reason(error: Exception) -> str:
    """Without the URL, which may have a token in it."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", None) or inner)


class _Courier:
    def __init__(self, store: Store, paths: Paths, log: Traffic) -> None:
        self._store = store
        self._paths = paths
        self._log = log
        self._stopped = threading.Event()
        self._busy: dict[str, threading.Thread] = {}
        self._tokens: dict[str, tuple[float, str]] = {}  # by URL, with the time of signing
        self._thread = threading.Thread(target=self._watch, name="factory push", daemon=True)

    def start(self) -> None:
        with self._store.write() as db:
            queues.begin_anew(db)
        self._thread.start()

    def stop(self) -> None:
        """A push that is on its way is not waited for long: unanswered, it goes out again."""
        self._stopped.set()
        self._thread.join()
        until = time.monotonic() + STOP_WAIT_S
        for thread in [*self._busy.values()]:
            thread.join(max(0.0, until - time.monotonic()))

    def _watch(self) -> None:
        """Looks into the database, because other processes publish, too."""
        while not self._stopped.wait(POLL_S):
            self._busy = {label: t for label, t in self._busy.items() if t.is_alive()}
            try:
                with self._store.read() as db:
                    labels = queues.with_work(db, time.time())
            except sqlite3.Error as error:
                self._log.saw_trouble(f"cannot look for messages: {error}")
                continue
            for label in labels:
                if label not in self._busy:
                    self._busy[label] = threading.Thread(
                        target=self._serve, args=(label,), name=f"factory push {label}", daemon=True
                    )
                    self._busy[label].start()

    def _serve(self, label: str) -> None:
        """All that may go out now, one after the other."""
        try:
            with requests.Session() as session:
                session.trust_env = False  # a proxy for the world is none for the lab
                while not self._stopped.is_set() and self._push_next(session, label):
                    pass
        except (sqlite3.Error, OSError) as error:
            self._log.saw_trouble(f"cannot serve the queue {label}: {error}")

    def _push_next(self, session: requests.Session, label: str) -> bool:
        """Whether there was one."""
        with self._store.read() as db:
            message = queues.next_push(db, label, time.time())
            factory = factory_name(db)
        if message is None:
            return False
        trouble = self._post(session, queues.subscription(factory, label), message)
        if self._stopped.is_set():
            return False
        self._log.saw_trouble(
            f"{label} {message.type} {message.uuid} {message.seq} {trouble or 'delivered'}"
        )
        with self._store.write() as db:
            if trouble:
                due = time.time() + pause(message.tries + 1)
                queues.not_pushed(db, label, message, trouble, due)
            else:
                queues.pushed(db, label, message)
        return True

    def _post(self, session: requests.Session, subscription: str, message: Message) -> str:
        """Nothing, or why it was not taken."""
        signed = self._token(message.push_url, time.time())
        try:
            with session.post(
                message.push_url,
                json={"message": message.as_json(), "subscription": subscription},
                headers={"Authorization": f"Bearer {signed}"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,  # what the receiver says beyond its status is not read
            ) as answer:
                return "" if 200 <= answer.status_code < 300 else f"HTTP {answer.status_code}"
        except (requests.RequestException, ValueError) as error:
            return _reason(error)[:TROUBLE_KEPT]

    def _token(self, url: str, now: float) -> str:
        """Signed anew when half of its life is over."""
        at, token = self._tokens.get(url, (0.0, ""))
        if not 0 <= now - at < bearer.TOKEN_LIFE_S / 2:
            at, token = now, bearer.token(self._paths, url, now)
            self._tokens[url] = at, token
        return token

"""Event queues: who is told, and what each has not taken yet.

A queue gets what is published from its creation on. A message stays until it is taken: by an
answer 2xx of the receiver of a push queue, by an acknowledgement of who pulls. Functions run
inside the caller's transaction; times are unix seconds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import urlsplit

from fioagent.factory.errors import RefusedError

LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
TYPES: Final = ("push", "pull")
PROJECT: Final = "fioagent-factory"
ACK_DEADLINE_S: Final = 10  # the default of a Pub/Sub subscription


@dataclass(frozen=True, slots=True)
class Queue:
    label: str
    type: str
    push_url: str  # empty for a pull queue
    waiting: int  # messages that nobody has taken
    trouble: str  # why the last push failed; empty if it did not


@dataclass(frozen=True, slots=True)
class Message:
    seq: int
    type: str
    uuid: str
    payload: str  # JSON
    at: float
    tries: int  # earlier ones
    push_url: str

    def as_json(self) -> dict[str, Any]:
        """As Pub/Sub shows a message, with the two spellings that a push request has."""
        moment = datetime.fromtimestamp(self.at, timezone.utc)
        published = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "attributes": {"event-type": self.type},
            "data": base64.b64encode(self.payload.encode()).decode(),
            "messageId": str(self.seq),
            "message_id": str(self.seq),
            "publishTime": published,
            "publish_time": published,
        }


_MESSAGE: Final = (
    "SELECT seq, outbox.type, outbox.uuid, payload, at, tries, push_url FROM queue_messages"
    " JOIN outbox USING (seq) JOIN event_queues USING (label)"
)


def subscription(factory: str, label: str) -> str:
    """Its name, made as the cloud's; the project is ours."""
    return f"projects/{PROJECT}/subscriptions/f-{factory}-{label}"


def create(db: sqlite3.Connection, label: str, kind: str, push_url: str) -> str:
    """The token that pulls from it; empty for a push queue.

    Raises:
        RefusedError: nothing was created.
    """
    _check(label, kind, push_url)
    token = secrets.token_urlsafe(32) if kind == "pull" else ""
    try:
        db.execute(
            "INSERT INTO event_queues (label, type, push_url, token_digest) VALUES (?, ?, ?, ?)",
            (label, kind, push_url, _digest(token)),
        )
    except sqlite3.IntegrityError as error:
        raise RefusedError(
            409, f"cannot create the event queue {label}: there is one of that name"
        ) from error
    return token


def _check(label: str, kind: str, push_url: str) -> None:
    problem = ""
    if not LABEL.fullmatch(label):
        problem = "a label begins with a letter; letters, digits and . _ - follow, at most 63"
    elif kind not in TYPES:
        problem = f"its type is push or pull, not {kind!r}"
    elif kind == "pull" and push_url:
        problem = "a pull queue has no URL"
    elif kind == "push" and not _is_url(push_url):
        problem = f"{push_url!r} is no http:// or https:// URL"
    if problem:
        raise RefusedError(400, f"cannot create the event queue {label!r}: {problem}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.username is None
            and parts.port != 0
            and text.isascii()
            and text.isprintable()
            and " " not in text
        )
    except ValueError:
        return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def may_pull(db: sqlite3.Connection, label: str, token: str) -> bool:
    row = db.execute(
        "SELECT token_digest FROM event_queues WHERE label = ? AND type = 'pull'", (label,)
    ).fetchone()
    return row is not None and hmac.compare_digest(row["token_digest"], _digest(token))


def remove(db: sqlite3.Connection, label: str) -> None:
    """With all that it has not handed out. RefusedError: there is none."""
    if not db.execute("DELETE FROM event_queues WHERE label = ?", (label,)).rowcount:
        raise RefusedError(404, f"cannot remove the event queue {label}: there is none")
    db.execute("DELETE FROM queue_messages WHERE label = ?", (label,))


def all_queues(db: sqlite3.Connection) -> list[Queue]:
    """In the order of their creation."""
    rows = db.execute(
        "SELECT label, type, push_url, trouble, (SELECT count(*) FROM queue_messages"
        " WHERE queue_messages.label = event_queues.label) AS waiting"
        " FROM event_queues ORDER BY rowid"
    )
    return [Queue(**{name: row[name] for name in Queue.__slots__}) for row in rows]


# --- pull ---


def pull(db: sqlite3.Connection, label: str, limit: int, now: float) -> list[tuple[str, Message]]:
    """The oldest messages that nobody is busy with, each with the id that acknowledges it.

    They come again, under another id, unless they are acknowledged within ``ACK_DEADLINE_S``.
    """
    rows = db.execute(
        f"{_MESSAGE} WHERE label = ? AND due <= ? ORDER BY seq LIMIT ?", (label, now, limit)
    ).fetchall()
    result = [(secrets.token_urlsafe(18), _message(row)) for row in rows]
    for ack_id, message in result:
        db.execute(
            "UPDATE queue_messages SET ack_id = ?, due = ?, tries = tries + 1"
            " WHERE label = ? AND seq = ?",
            (ack_id, now + ACK_DEADLINE_S, label, message.seq),
        )
    return result


def acknowledge(db: sqlite3.Connection, label: str, ack_ids: Iterable[str]) -> None:
    """An id that is not known, or no longer, is no error; late is fine until it came again."""
    db.executemany(
        "DELETE FROM queue_messages WHERE label = ? AND ack_id = ?",
        [(label, ack_id) for ack_id in ack_ids if ack_id],
    )


def extend(
    db: sqlite3.Connection, label: str, ack_ids: Iterable[str], seconds: int, now: float
) -> None:
    """So much longer before they come again, from now; 0: at once."""
    db.executemany(
        "UPDATE queue_messages SET due = ? WHERE label = ? AND ack_id = ?",
        [(now + seconds, label, ack_id) for ack_id in ack_ids if ack_id],
    )


# --- push ---


def begin_anew(db: sqlite3.Connection) -> None:
    """Everything that push queues have may go out at once: who waited for us is asked again."""
    db.execute(
        "UPDATE queue_messages SET due = 0 WHERE label IN"
        " (SELECT label FROM event_queues WHERE type = 'push')"
    )


def with_work(db: sqlite3.Connection, now: float) -> list[str]:
    """Labels of the push queues that have something to send now."""
    rows = db.execute(
        "SELECT label FROM event_queues WHERE type = 'push' AND EXISTS (SELECT 1 FROM"
        " queue_messages WHERE queue_messages.label = event_queues.label AND due <= ?)",
        (now,),
    )
    return [row["label"] for row in rows]


def next_push(db: sqlite3.Connection, label: str, now: float) -> Message | None:
    """The oldest message that may go out: no earlier one of its device is behind it."""
    row = db.execute(
        f"{_MESSAGE} WHERE label = ? AND due <= ? ORDER BY seq LIMIT 1", (label, now)
    ).fetchone()
    return None if row is None else _message(row)


def pushed(db: sqlite3.Connection, label: str, message: Message) -> None:
    db.execute("DELETE FROM queue_messages WHERE label = ? AND seq = ?", (label, message.seq))
    _note_trouble(db, label, "")


def not_pushed(
    db: sqlite3.Connection, label: str, message: Message, trouble: str, due: float
) -> None:
    """Again from ``due`` on, and all that the queue has of this device after it."""
    db.execute(
        "UPDATE queue_messages SET tries = tries + 1 WHERE label = ? AND seq = ?",
        (label, message.seq),
    )
    db.execute(
        "UPDATE queue_messages SET due = ? WHERE label = ? AND uuid = ?",
        (due, label, message.uuid),
    )
    _note_trouble(db, label, trouble)


def _note_trouble(db: sqlite3.Connection, label: str, trouble: str) -> None:
    db.execute("UPDATE event_queues SET trouble = ? WHERE label = ?", (trouble, label))


def _message(row: sqlite3.Row) -> Message:
    return Message(**{name: row[name] for name in Message.__slots__})

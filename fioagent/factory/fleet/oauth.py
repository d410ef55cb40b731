"""OAuth 2.0 device authorization (RFC 8628): a device asks, an operator says yes, a token comes.

Codes and tokens are kept as digests: who reads the database has none of them. Functions run
inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from typing import Final, NamedTuple

from fioagent.factory.errors import RefusedError
from fioagent.factory.store import factory_name

REQUEST_LIFE_S: Final = 15 * 60
TOKEN_LIFE_S: Final = 60 * 60
INTERVAL_S: Final = 5
GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 section 6.1: no vowels, so no words, and nothing that looks like a digit.
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"


class OAuthError(Exception):
    """``code`` is the ``error`` of the answer 400; RFC 8628 section 3.5, RFC 6749 section 5.2."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code


class Codes(NamedTuple):
    device_code: str  # the device's alone
    user_code: str  # for a person to type


class Waiting(NamedTuple):
    user_code: str
    client_id: str  # lmp-device-register: the uuid it will register
    scope: str


def scope_of(db: sqlite3.Connection) -> str:
    """The only one there is: a device may be created, and nothing else."""
    return f"{factory_name(db)}:devices:create"


def begin(db: sqlite3.Connection, client_id: str, scope: str, now: float) -> Codes:
    """A request that waits for an operator. OAuthError: not one that could be granted."""
    if not (client_id and client_id.isprintable() and len(client_id) <= 64):
        raise OAuthError("invalid_request", "client_id is missing or unfit; it is the uuid")
    if scope != scope_of(db):
        raise OAuthError("invalid_scope", f"the scope must be {scope_of(db)}")
    for table in ("oauth_requests", "oauth_tokens"):
        db.execute(f"DELETE FROM {table} WHERE expires_at <= ?", (now,))  # noqa: S608  # our own
    half = ("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(2))
    codes = Codes(secrets.token_urlsafe(32), "-".join(half))
    db.execute(
        "INSERT INTO oauth_requests VALUES (?, ?, ?, ?, ?, '')",
        (_digest(codes.device_code), codes.user_code, client_id, scope, int(now) + REQUEST_LIFE_S),
    )
    return codes


def waiting(db: sqlite3.Connection, now: float) -> list[Waiting]:
    """Requests without a verdict, oldest first."""
    rows = db.execute(
        "SELECT user_code, client_id, scope FROM oauth_requests"
        " WHERE verdict = '' AND expires_at > ? ORDER BY rowid",
        (now,),
    )
    return [Waiting(*row) for row in rows]


def decide(db: sqlite3.Connection, user_code: str, now: float, *, approved: bool) -> str:
    """An operator's word, given once; the client_id that it is about.

    Raises:
        RefusedError: nobody waits with this code.
    """
    code = user_code.upper()
    found = [each for each in waiting(db, now) if each.user_code == code]
    if not found:
        raise RefusedError(
            404,
            f"cannot decide about {user_code}: no device waits with this code",
            "hint: fioagent-factory oauth list",
        )
    verdict = "approved" if approved else "denied"
    db.execute("UPDATE oauth_requests SET verdict = ? WHERE user_code = ?", (verdict, code))
    return found[0].client_id


def redeem(db: sqlite3.Connection, device_code: str, client_id: str, now: float) -> str:
    """The access token, once. OAuthError: not yet, or not at all."""
    row = db.execute(
        "SELECT * FROM oauth_requests WHERE device_code = ? AND client_id = ?",
        (_digest(device_code), client_id),
    ).fetchone()
    if row is None:
        raise OAuthError("invalid_grant", "there is no such device_code for this client_id")
    if row["expires_at"] <= now:
        raise OAuthError("expired_token", "the device_code has expired")
    if row["verdict"] == "denied":
        raise OAuthError("access_denied", "an operator has refused")
    if row["verdict"] != "approved":
        # Never slow_down: lmp-device-register takes any other word for the end.
        raise OAuthError("authorization_pending", "an operator has to approve the user_code")
    db.execute("DELETE FROM oauth_requests WHERE device_code = ?", (row["device_code"],))
    token = secrets.token_urlsafe(32)
    db.execute(
        "INSERT INTO oauth_tokens VALUES (?, ?, ?, ?)",
        (_digest(token), client_id, row["scope"], int(now) + TOKEN_LIFE_S),
    )
    return token


def is_token(db: sqlite3.Connection, sent: bytes, now: float) -> bool:
    """Whether ``sent`` is a token that has not expired."""
    row = db.execute(
        "SELECT 1 FROM oauth_tokens WHERE token = ? AND expires_at > ?",
        (hashlib.sha256(sent).hexdigest(), now),
    ).fetchone()
    return row is not None


def allows(method: str, path: str) -> bool:
    """What a token of our scope may do: register a device, in either way."""
    return method in ("POST", "PUT") and path.rstrip("/") == "/ota/devices"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

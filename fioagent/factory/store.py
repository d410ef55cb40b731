"""The factory's memory: one SQLite file, shared by the servers and the command line.

Decides nothing. A writer takes the write lock at once (BEGIN IMMEDIATE), so what a request
reads is still true when it writes, and two switch-overs that race are put one after the other.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fioagent.factory.knobs import KNOBS, check

BUSY_TIMEOUT_S: Final = 30.0

SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE knobs (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE devices (
  uuid TEXT PRIMARY KEY,
  public_key TEXT NOT NULL,             -- SPKI PEM
  next_public_key TEXT,                 -- announced by PATCH /device: the device is locked
  locked_at REAL,
  config_before_patch TEXT,             -- JSON; device layer before it was patched while locked
  group_name TEXT NOT NULL DEFAULT '',
  group_changed_at INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  last_seen INTEGER NOT NULL DEFAULT 0,
  docker_apps TEXT NOT NULL DEFAULT '',
  ostree_hash TEXT NOT NULL DEFAULT '',
  tag TEXT NOT NULL DEFAULT '',
  target_name TEXT NOT NULL DEFAULT '',
  name TEXT NOT NULL DEFAULT '',
  is_prod INTEGER NOT NULL DEFAULT 0,   -- businessCategory=production in its certificate
  certificate TEXT NOT NULL DEFAULT ''  -- PEM; the one it came with last, or was registered with
);
CREATE TABLE denied_keys (
  uuid TEXT NOT NULL, public_key TEXT NOT NULL, denied_at INTEGER NOT NULL,
  PRIMARY KEY (uuid, public_key)
);
CREATE TABLE config_layers (            -- layer: factory, group, device; owner: '', group, uuid
  layer TEXT NOT NULL, owner TEXT NOT NULL,
  changed_at INTEGER NOT NULL,
  public_key TEXT NOT NULL DEFAULT '',  -- what the encrypted values are encrypted to
  PRIMARY KEY (layer, owner)
);
CREATE TABLE config_files (
  layer TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
  entry TEXT NOT NULL,                  -- JSON, as GET /config shows it
  PRIMARY KEY (layer, owner, name)
);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL, id TEXT NOT NULL, correlation_id TEXT NOT NULL,
  event TEXT NOT NULL,                  -- JSON, as POST /events brought it
  UNIQUE (uuid, id)
);
CREATE TABLE outbox (                   -- what was published to event queues
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, type TEXT NOT NULL,
  uuid TEXT NOT NULL,
  payload TEXT NOT NULL                 -- JSON
);
CREATE INDEX outbox_by_device ON outbox (uuid, type);
CREATE TABLE tests (                    -- runs of remote actions
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  uuid TEXT NOT NULL, id TEXT NOT NULL,
  name TEXT NOT NULL, target TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT '', details TEXT NOT NULL DEFAULT '',
  UNIQUE (uuid, id)
);
CREATE TABLE artifacts (                -- content is NULL until it was sent
  uuid TEXT NOT NULL, test TEXT NOT NULL, name TEXT NOT NULL, content BLOB,
  PRIMARY KEY (uuid, test, name)
);
CREATE TABLE hits (uuid TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX hits_by_device ON hits (uuid, at);
CREATE TABLE device_groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE, description TEXT NOT NULL DEFAULT '',
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
CREATE TABLE denied_devices (           -- deleted ones: none of their keys is served
  uuid TEXT PRIMARY KEY, name TEXT NOT NULL, denied_at INTEGER NOT NULL
);
CREATE TABLE config_log (               -- versions of a layer, the newest with the highest seq
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  layer TEXT NOT NULL, owner TEXT NOT NULL,
  created_at INTEGER NOT NULL, created_by TEXT NOT NULL, reason TEXT NOT NULL,
  files TEXT NOT NULL,                  -- JSON, as the operator API shows them
  applied_at INTEGER NOT NULL DEFAULT 0 -- 0: no device has fetched it
);
CREATE INDEX config_log_by_layer ON config_log (layer, owner);
CREATE TABLE oauth_requests (           -- devices that wait for an operator's word
  device_code TEXT PRIMARY KEY,         -- SHA-256 of it, hex
  user_code TEXT NOT NULL UNIQUE, client_id TEXT NOT NULL, scope TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  verdict TEXT NOT NULL DEFAULT ''      -- approved, denied, or nothing yet
);
CREATE TABLE oauth_tokens (
  token TEXT PRIMARY KEY,               -- SHA-256 of it, hex
  client_id TEXT NOT NULL, scope TEXT NOT NULL, expires_at INTEGER NOT NULL
);
CREATE TABLE certs (                    -- root-crt, tls-crt, est-tls-crt: what is served and shown
  name TEXT PRIMARY KEY, pem TEXT NOT NULL
);
CREATE TABLE device_cas (
  serial TEXT PRIMARY KEY,              -- decimal; it has up to 160 bits
  pem TEXT NOT NULL,
  state TEXT NOT NULL                   -- active, disabled, revoked
);
CREATE TABLE event_queues (
  label TEXT PRIMARY KEY,
  type TEXT NOT NULL,                   -- push, pull
  push_url TEXT NOT NULL,
  token_digest TEXT NOT NULL,           -- SHA-256 of what pulls from it
  trouble TEXT NOT NULL DEFAULT ''      -- why the last push failed
);
CREATE TABLE queue_messages (           -- what a queue has and nobody has taken
  label TEXT NOT NULL, seq INTEGER NOT NULL, uuid TEXT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  due REAL NOT NULL,                    -- when it may go out (again)
  ack_id TEXT NOT NULL DEFAULT '',      -- of the last pull
  PRIMARY KEY (label, seq)
);
CREATE INDEX queue_messages_due ON queue_messages (label, due, seq);
CREATE INDEX queue_messages_of_device ON queue_messages (label, uuid);
CREATE TABLE faults (                   -- what each means: faults.Fault
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  action TEXT NOT NULL, server TEXT NOT NULL,
  method TEXT NOT NULL, path TEXT NOT NULL, device TEXT NOT NULL,
  after INTEGER NOT NULL, times INTEGER NOT NULL,
  delay REAL NOT NULL, done INTEGER NOT NULL,
  status INTEGER NOT NULL, body TEXT NOT NULL, content_type TEXT NOT NULL,
  retry_after INTEGER NOT NULL, date TEXT NOT NULL,
  seen INTEGER NOT NULL DEFAULT 0       -- requests or connections that it matched
);
CREATE TABLE config_offers (            -- answered to GET /config and not known to be applied
  uuid TEXT PRIMARY KEY, changed_at INTEGER NOT NULL
);
"""


class Store:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] | None = None  # None: nothing is kept open
        self._watch: sqlite3.Connection | None = None  # writes nothing; see version
        self._lock = threading.Lock()
        # Our own threads queue here: SQLite has no queue, who waits for it sleeps and asks again.
        self._writing = threading.Lock()

    @staticmethod
    def create(path: Path, factory: str) -> Store:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
            db.execute("INSERT INTO meta VALUES ('factory', ?)", (factory,))
            db.commit()
        return Store(path)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may change things: committed at the end, undone by an exception."""
        with self._connection() as db, self._writing:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view."""
        with self._connection() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("ROLLBACK")

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Connections are reused inside: opening one costs more than a request does."""
        self._watch = _connect(self.path)
        self._idle = []
        try:
            yield
        finally:
            with self._lock:
                idle, self._idle = [*self._idle, self._watch], None
                self._watch = None
            for db in idle:
                db.close()

    def version(self) -> int:
        """Another number after each change, by whichever process; only inside ``kept_open``.

        It costs next to nothing: SQLite tells a connection that others have written.
        """
        with self._lock:
            if self._watch is None:
                raise AssertionError("nobody keeps the store open")
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._idle.pop() if self._idle else None
        if db is None:
            db = _connect(self.path)
        try:
            yield db
        finally:
            with self._lock:
                # One whose transaction would not end, as on a bad disk, is of no further use.
                keep = self._idle is not None and not db.in_transaction
                if self._idle is not None and keep:
                    self._idle.append(db)
            if not keep:
                db.close()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",  # rw: a missing factory must not become an empty one
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    db.row_factory = sqlite3.Row
    try:
        # A transaction is on the disk before it is answered: a power cut takes none of it back.
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:  # the file is no database
        db.close()
        raise
    return db


def factory_name(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT value FROM meta WHERE name = 'factory'").fetchone()[0])


def read_meta(db: sqlite3.Connection, name: str) -> str:
    """A single fact about the factory; empty if it was never set."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return str(row["value"]) if row else ""


def set_meta(db: sqlite3.Connection, name: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def read_knobs(db: sqlite3.Connection) -> Mapping[str, str]:
    """Every knob with its present value."""
    turned = {row["name"]: row["value"] for row in db.execute("SELECT name, value FROM knobs")}
    return {name: turned.get(name, knob.default) for name, knob in KNOBS.items()}


def set_knob(db: sqlite3.Connection, name: str, value: str) -> None:
    """From now on. KnobError: no such knob or value; nothing changed."""
    check(name, value)
    db.execute("INSERT OR REPLACE INTO knobs VALUES (?, ?)", (name, value))


def reset_knobs(db: sqlite3.Connection) -> None:
    """All back to their defaults, from now on."""
    db.execute("DELETE FROM knobs")

"""Operator API: event queues as fioctl manages them, and what their readers ask.

Readers speak the REST API of Pub/Sub, v1: ``pull``, ``acknowledge`` and ``modifyAckDeadline``
of a subscription. They have no operator's token, but that of their queue.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from flask import Flask, Response, request

from fioagent.factory.api.office import Office
from fioagent.factory.errors import RefusedError
from fioagent.factory.queues import bearer, queues
from fioagent.factory.queues.queues import PROJECT, Queue, subscription
from fioagent.factory.servers.answers import as_json, json_object
from fioagent.factory.store import factory_name

QUEUES: Final = "/event-queues/"
CERTIFICATES: Final = "/oauth2/v1/certs"
SUBSCRIPTIONS: Final = f"/v1/projects/{PROJECT}/subscriptions/"
OPEN: Final = (CERTIFICATES, SUBSCRIPTIONS)
MOST_AT_ONCE: Final = 1000  # messages of one pull, as Pub/Sub
LONGEST_DEADLINE_S: Final = 600


def add_routes(app: Flask, office: Office) -> None:
    office.below_factory(app, "GET", QUEUES, _list)
    office.below_factory(app, "POST", QUEUES, _create)
    office.below_factory(app, "DELETE", f"{QUEUES}<label>/", _remove)
    office.of_factory(app, "POST", f"{SUBSCRIPTIONS}<target>", _read)
    app.add_url_rule(
        CERTIFICATES, "certificates", lambda: as_json(200, bearer.certificates(office.paths))
    )


def credentials(factory: str, label: str, token: str, api: str) -> dict[str, str]:
    """What whoever pulls has to know; the cloud gives a key file of Google's instead."""
    return {
        "type": "fioagent-factory-queue",
        "project_id": PROJECT,
        "subscription": subscription(factory, label),
        "endpoint": f"{api.rstrip('/')}/v1/",
        "token": token,
    }


def describe(queue: Queue) -> dict[str, Any]:
    """The members that fioctl knows, then ours."""
    url = {"push-url": queue.push_url} if queue.push_url else {}
    return {
        "label": queue.label,
        "type": queue.type,
        **url,
        "waiting": queue.waiting,
        "trouble": queue.trouble,
    }


def _list(db: sqlite3.Connection, _now: float) -> Response:
    return as_json(200, [describe(queue) for queue in queues.all_queues(db)])


def _create(db: sqlite3.Connection, _now: float) -> Response:
    asked = json_object()
    label, kind, push_url = (asked.get(name) or "" for name in ("label", "type", "push-url"))
    if not all(isinstance(text, str) for text in (label, kind, push_url)):
        raise RefusedError(400, "cannot create an event queue: label, type and push-url are text")
    token = queues.create(db, label, kind, push_url)
    made = credentials(factory_name(db), label, token, request.host_url) if token else {}
    return as_json(201, made)


def _remove(db: sqlite3.Connection, _now: float, label: str) -> Response:
    queues.remove(db, label)
    return as_json(200, {})


# --- readers ---


def _read(db: sqlite3.Connection, now: float, target: str) -> Response:
    """``f-FACTORY-LABEL:VERB``; a queue that is not there and a wrong token look the same."""
    name, _, verb = target.rpartition(":")
    label = name.removeprefix(f"f-{factory_name(db)}-")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or label == name or not queues.may_pull(db, label, token):
        return _error(401, "UNAUTHENTICATED", "the token does not open this subscription")
    try:
        if verb == "pull":
            return _pull(db, label, _number(json_object(), "maxMessages", 1, MOST_AT_ONCE), now)
        if verb == "acknowledge":
            queues.acknowledge(db, label, _ack_ids(json_object()))
            return as_json(200, {})
        if verb == "modifyAckDeadline":
            seconds = _number(json_object(), "ackDeadlineSeconds", 0, LONGEST_DEADLINE_S)
            queues.extend(db, label, _ack_ids(json_object()), seconds, now)
            return as_json(200, {})
    except (RefusedError, ValueError, KeyError) as error:
        return _error(400, "INVALID_ARGUMENT", f"cannot use the request: {error}")
    return _error(404, "NOT_FOUND", f"there is no {verb} here")


def _pull(db: sqlite3.Connection, label: str, limit: int, now: float) -> Response:
    """At once, with nothing if there is nothing: Pub/Sub may wait for a message to come."""
    received = [
        {"ackId": ack_id, "message": found.as_json(), "deliveryAttempt": found.tries + 1}
        for ack_id, found in queues.pull(db, label, limit, now)
    ]
    return as_json(200, {"receivedMessages": received} if received else {})


def _number(body: dict[str, Any], name: str, least: int, most: int) -> int:
    """A number of more than ``most`` is ``most``."""
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} has to be a whole number from {least} up")
    return min(value, most)


def _ack_ids(body: dict[str, Any]) -> list[str]:
    ack_ids = body["ackIds"]
    if not isinstance(ack_ids, list) or not all(isinstance(one, str) for one in ack_ids):
        raise ValueError("ackIds")
    return ack_ids


def _error(status: int, name: str, reason: str) -> Response:
    """As Google's APIs say it."""
    return as_json(status, {"error": {"code": status, "message": reason, "status": name}})

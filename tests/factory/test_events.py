"""POST /events: what is kept, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from fioagent.factory.cli.arguments import table
from fioagent.factory.fleet.events import UPDATES_KEPT, format_events
from tests.factory.conftest import Lab

TIME = "2026-11-21T00:01:03Z"


def event(number: int, correlation_id: str = "certs-1", **inner: Any) -> dict[str, Any]:
    return {
        "id": f"event-{number}",
        "deviceTime": TIME,
        "event": {
            "correlationId": correlation_id,
            "success": True,
            "targetName": "lmp-42",
            "version": "42",
            **inner,
        },
        "eventType": {"id": "CertRotationStarted", "version": 0},
    }


def test_events_are_kept_once_each_in_order_of_arrival(lab: Lab) -> None:
    """200 with an empty body; a client that lost it posts the same id again."""
    device = lab.device()

    for _ in range(2):
        answer = device.send("POST", "/events", json=[event(2), event(1)])
        assert (200, b"") == (answer.status_code, answer.content)

    assert [event(2), event(1)] == lab.factory.events("device-1")


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"id": 1}]', b'[{"event": 1}]'])
def test_what_is_no_list_of_events_is_refused(lab: Lab, body: bytes) -> None:
    answer = lab.device().send("POST", "/events", data=body)

    assert 400 == answer.status_code
    assert {"message": "Failed to parse request JSON body"} == answer.json()


@pytest.mark.parametrize(
    "bad",
    [
        {**event(1), "id": ""},
        event(1, ""),
        event(1, "a b"),
        event(1, "certs-1\n"),
        {"id": "event-1"},
    ],
    ids=["no-id", "no-correlation", "space", "newline", "no-event"],
)
def test_a_bad_item_is_dropped_in_silence(lab: Lab, bad: dict[str, Any]) -> None:
    """So 200 does not mean stored."""
    device = lab.device()

    assert 200 == device.send("POST", "/events", json=[bad, event(9)]).status_code

    assert [event(9)] == lab.factory.events("device-1")


@pytest.mark.parametrize("time", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-21"])
def test_a_bad_time_becomes_the_present(lab: Lab, time: str) -> None:
    device = lab.device()

    device.send("POST", "/events", json=[{**event(1), "deviceTime": time}])

    (kept,) = lab.factory.events("device-1")
    assert kept["deviceTime"].endswith("Z")
    assert kept["deviceTime"] not in (time, TIME)


@pytest.mark.parametrize("time", [TIME, "2026-11-21T01:01:03.123456789+01:00"])
def test_a_good_time_stays_as_the_device_wrote_it(lab: Lab, time: str) -> None:
    device = lab.device()

    device.send("POST", "/events", json=[{**event(1), "deviceTime": time}])

    assert time == lab.factory.events("device-1")[0]["deviceTime"]


def test_only_the_newest_updates_are_kept(lab: Lab) -> None:
    device = lab.device()

    for number in range(UPDATES_KEPT + 2):
        device.send("POST", "/events", json=[event(number, f"certs-{number}")])

    ids = [update["correlation-id"] for update in lab.factory.updates("device-1")]
    assert [f"certs-{number}" for number in range(UPDATES_KEPT + 1, 1, -1)] == ids


def test_updates_are_printed_as_fioctl_prints_them() -> None:
    assert (
        "ID       TIME                  VERSION  TARGET\n"
        "--       ----                  -------  ------\n"
        "certs-1  2026-11-21T00:01:03Z  42       lmp-42"
    ) == table(("ID", "TIME", "VERSION", "TARGET"), [("certs-1", TIME, "42", "lmp-42")])


def test_events_are_printed_as_fioctl_prints_them() -> None:
    failed = event(2, success=False, details="HTTP_405\nno lock")

    assert (
        "2026-11-21T00:01:03Z : CertRotationStarted(lmp-42) -> Succeed\n"
        "2026-11-21T00:01:03Z : CertRotationStarted(lmp-42) -> Failed!\n"
        " Details:\n"
        " | HTTP_405\n"
        " | no lock"
    ) == format_events([event(1), failed])

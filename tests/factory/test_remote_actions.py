"""/tests: runs of remote actions, as update-server takes them."""

from __future__ import annotations

import re

import pytest

from tests.factory.conftest import Lab

ID = "action-0123456789"


def test_a_run_from_its_beginning_to_its_artifacts(lab: Lab) -> None:
    """As fioconfig reports it."""
    device = lab.device()

    begun = device.send("POST", "/tests", json={"name": "diag", "target": "t", "test-id": ID})
    ended = device.send(
        "PUT",
        f"/tests/{ID}",
        json={
            "status": "PASSED",
            "details": "fine",
            "artifacts": ["console.log", "a b.txt", "a/b.txt"],
        },
    )

    assert (201, ID) == (begun.status_code, begun.text)
    assert 200 == ended.status_code
    where = ended.json()
    assert "text/plain" == where["a b.txt"]["content-type"]
    path = where["a b.txt"]["url"].removeprefix(lab.urls.gateway)
    assert f"/tests/{ID}/a%20b.txt" == path
    assert (200, "OK") == ((sent := device.send("PUT", path, data=b"1")).status_code, sent.text)
    path = where["a/b.txt"]["url"].removeprefix(lab.urls.gateway)
    assert 200 == device.send("PUT", path, data=b"2").status_code
    (run,) = lab.factory.remote_actions("device-1")
    assert (ID, "diag", "t", "PASSED", "fine") == (
        run.id,
        run.name,
        run.target,
        run.status,
        run.details,
    )
    assert {"console.log": None, "a b.txt": b"1", "a/b.txt": b"2"} == run.artifacts


def test_an_id_is_made_where_none_is_given(lab: Lab) -> None:
    """Empty and absent are the same."""
    device = lab.device()

    for body in ({"name": "diag"}, {"name": "diag", "test-id": ""}):
        answer = device.send("POST", "/tests", json=body)

        assert 201 == answer.status_code
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.text)


@pytest.mark.parametrize("identifier", ["short", "x" * 49, "with spaces in it"])
def test_an_id_that_will_not_do_is_refused(lab: Lab, identifier: str) -> None:
    answer = lab.device().send("POST", "/tests", json={"name": "diag", "test-id": identifier})

    assert 400 == answer.status_code


def test_what_does_not_fit_is_refused(lab: Lab) -> None:
    """A status that is none is 500, as on update-server; nothing was begun, nothing was named."""
    device = lab.device()
    device.send("POST", "/tests", json={"name": "diag", "test-id": ID})

    def status(method: str, path: str, body: object) -> int:
        return device.send(method, path, json=body).status_code

    assert 400 == status("POST", "/tests", [])
    assert 400 == status("PUT", f"/tests/{ID}", {})
    assert 500 == status("PUT", f"/tests/{ID}", {"status": "DONE"})
    assert 404 == status("PUT", "/tests/another-0123456789", {"status": "PASSED"})
    assert 404 == status("PUT", f"/tests/{ID}/unnamed", {})

"""The operator's file ``fio-rotate-certs``, read line by line and not by grep."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fioagent.config import trigger
from fioagent.errors import ConfigError

FROM_FIOCTL = (
    "ESTSERVER=https://est.example:8443/.well-known/est\n"
    "PKEYIDS=01,07\nCERTIDS=03,09\nROTATIONID=certs-1763683200\n"
)


def test_what_fioctl_writes_is_read() -> None:
    """The value of ``fioctl devices config rotate-certs``, to the byte."""
    found = trigger.parse(FROM_FIOCTL.encode())

    assert "certs-1763683200" == found.id
    assert "https://est.example:8443/.well-known/est" == found.est_url
    assert (("01", "07"), ("03", "09")) == (found.key_ids, found.certificate_ids)
    assert (None, None, ()) == (found.window, found.start, found.unknown)
    assert "fio-rotate-certs" == trigger.FILE_NAME


def test_a_window_and_a_start_are_read() -> None:
    """Ours alone; the stock handler does not look for them."""
    text = f"{FROM_FIOCTL}WINDOW=24h\nSTART=2026-12-01T02:00:00Z\n"

    found = trigger.parse(text.encode())

    assert timedelta(days=1) == found.window
    assert datetime(2026, 12, 1, 2, tzinfo=timezone.utc) == found.start


@pytest.mark.parametrize(
    "text",
    [
        "ROTATIONID=certs-1",
        "# ROTATIONID=old\r\nROTATIONID=certs-1\r\n",
        "ROTATIONID=certs-0\nROTATIONID=certs-1\n",
        ' ROTATIONID = "certs-1" \n',
        "OLD_ROTATIONID=x\nROTATIONID='certs-1'\nno assignment\n",
        "\ufeffROTATIONID=certs-1\nESTSERVER=\nWINDOW=\nSTART=\nPKEYIDS=\n",
    ],
    ids=["alone", "comment and CR", "the last of two", "quotes", "whole names", "empty values"],
)
def test_lines_of_all_kinds(text: str) -> None:
    """Where the stock handler's grep goes wrong, and where it does not."""
    found = trigger.parse(text.encode())

    assert ("certs-1", "", None, None, ()) == (
        found.id,
        found.est_url,
        found.window,
        found.start,
        found.key_ids,
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "ROTATIONID is not in it"),
        ("ROTATIONID=", "ROTATIONID is not in it"),
        ("ROTATIONID=a b", "ROTATIONID: cannot use the rotation id 'a b'"),
        ("ROTATIONID=" + "a" * 64, "ROTATIONID: "),
        ("ESTSERVER=http://h/est", "ESTSERVER: .*only https is safe"),
        ("ESTSERVER=https://h/est?a=b=c", "ESTSERVER: .*no user, query or fragment"),
        ("WINDOW=soon", "WINDOW is 'soon': it is no duration"),
        ("WINDOW=-1h", "WINDOW is '-1h'"),
        ("WINDOW=99999d", "WINDOW is '99999d': it is longer than ten years"),
        ("START=tomorrow", "START is 'tomorrow': it is no moment"),
        ("START=2026-12-01T02:00:00", "START is .*: it is no moment"),
        ("PKEYIDS=01;07", "PKEYIDS is '01;07': it is no list of object ids"),
        ("CERTIDS=03,,09", "CERTIDS is '03,,09'"),
    ],
)
def test_a_damaged_value_is_told_by_name(line: str, complaint: str) -> None:
    """The operator has to see which; nothing of the file is used."""
    good = "" if "ROTATIONID" in line or not line else "ROTATIONID=certs-1\n"

    with pytest.raises(ConfigError, match=f"cannot use fio-rotate-certs: {complaint}"):
        trigger.parse(f"{good}{line}\n".encode())


def test_unknown_names_are_kept_to_be_told() -> None:
    """A typo in WINDOW must not pass in silence."""
    assert ("WINOW",) == trigger.parse(b"ROTATIONID=a\nWINOW=24h\n").unknown


def test_any_change_is_another_file() -> None:
    """A comment is enough to ask again."""
    digests = {trigger.parse(f"ROTATIONID=a\n{more}".encode()).digest for more in ("", "#\n")}

    assert 2 == len(digests)


@given(st.binary(max_size=200))
def test_whatever_is_in_it_is_a_trigger_or_one_clear_line(content: bytes) -> None:
    """Never a traceback for what an operator, or a damaged disk, has written."""
    told = ""
    try:
        told = trigger.parse(content).id
    except ConfigError as error:
        told = str(error).removeprefix("cannot use fio-rotate-certs: ")
    assert told

"""The operator's file ``fio-rotate-certs``, read line by line and not by grep."""

from __future__ import annotations

import pytest

from fioagent.config import trigger


def test_what_fioctl_writes_is_read() -> None:
    """The value of ``fioctl devices config rotate-certs``, to the byte."""
    text = (
        "ESTSERVER=https://est.example:8443/.well-known/est\n"
        "PKEYIDS=01,07\nCERTIDS=03,09\nROTATIONID=certs-1763683200\n"
    )

    assert {
        "ESTSERVER": "https://est.example:8443/.well-known/est",
        "PKEYIDS": "01,07",
        "CERTIDS": "03,09",
        "ROTATIONID": "certs-1763683200",
    } == trigger.parse(text)
    assert "fio-rotate-certs" == trigger.FILE_NAME


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n\n", {}),
        ("ROTATIONID=a", {"ROTATIONID": "a"}),
        ("ROTATIONID=a\r\nESTSERVER=b\r\n", {"ROTATIONID": "a", "ESTSERVER": "b"}),
        ("# ROTATIONID=old\nROTATIONID=new\n", {"ROTATIONID": "new"}),
        ("  #ROTATIONID=old\n", {}),
        ("ROTATIONID=a\nROTATIONID=b\n", {"ROTATIONID": "b"}),
        (" ROTATIONID = a \n", {"ROTATIONID": "a"}),
        ("OLD_ROTATIONID=a\n", {"OLD_ROTATIONID": "a"}),
        ("ESTSERVER=https://h/est?a=b=c\n", {"ESTSERVER": "https://h/est?a=b=c"}),
        ("ROTATIONID=\n", {"ROTATIONID": ""}),
        ("no assignment\n", {}),
    ],
    ids=[
        "empty",
        "blank lines",
        "no newline",
        "CR is no part of a value",
        "a comment is a comment",
        "an indented comment too",
        "the last of two wins",
        "white space around",
        "names are whole",
        "the value goes to the end of the line",
        "an empty value",
        "other lines",
    ],
)
def test_lines_of_all_kinds(text: str, expected: dict[str, str]) -> None:
    """Where the stock handler's grep goes wrong, and where it does not."""
    assert expected == trigger.parse(text)

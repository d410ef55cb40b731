"""The gateway remembers the certificate that each device came with last, and who issued it."""

from __future__ import annotations

from pathlib import Path

from fioagent.factory.fleet import devices
from fioagent.factory.pki.certificates import certificate_pem, issuer_of
from tests.factory.conftest import Lab


def seen(lab: Lab, uuid: str) -> bytes:
    with lab.factory.store.read() as db:
        certificate = devices.certificate(db, uuid)
    return certificate_pem(certificate) if certificate else b""


def test_a_device_is_known_by_the_certificate_it_came_with_last(lab: Lab) -> None:
    """Also a second one for the same key, which nothing else takes notice of."""
    first = lab.credential()
    lab.client(first).get("/config")
    assert first.certificate_file.read_bytes() == seen(lab, "device-1")

    again = lab.credential(key=first.key)
    lab.client(again).get("/config")

    assert again.certificate_file.read_bytes() == seen(lab, "device-1")
    assert b"" == seen(lab, "device-2")


def test_a_refused_certificate_is_not_remembered(lab: Lab) -> None:
    device = lab.credential()
    lab.client(device).get("/config")

    assert 502 == lab.client(lab.credential()).get("/config").status_code

    assert device.certificate_file.read_bytes() == seen(lab, "device-1")


def test_a_registered_device_is_known_by_its_certificate_before_it_comes(
    lab: Lab, tmp_path: Path
) -> None:
    device = lab.factory.add_device(tmp_path / "device")

    assert (device.sota / "client.pem").read_bytes() == seen(lab, device.uuid)


def test_the_issuer_is_the_ca_that_signed_not_one_of_its_name(lab: Lab) -> None:
    """Name and signature: there may be two CAs of one name."""
    mine, namesake = lab.credential(), lab.credential("device-2", ca="online-ca")
    cas = [
        lab.factory.authority(name).certificate for name in ("foreign-ca", "online-ca", "local-ca")
    ]

    assert cas[2] == issuer_of(mine.certificate, cas)
    assert cas[1] == issuer_of(namesake.certificate, cas)
    assert issuer_of(mine.certificate, cas[:2]) is None

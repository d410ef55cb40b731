"""The PKI directory is the one fioctl leaves, and openssl agrees that it works."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fioagent.factory import Factory, FactoryError
from tests.cloud import pair

DAY_S = 24 * 60 * 60


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def openssl_verifies(*arguments: object) -> bool:
    command = ["openssl", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_pki_directory_has_the_files_and_modes_of_fioctl(unserved: Factory) -> None:
    """Six files, readable by their owner only; what the cloud keeps is elsewhere."""
    files = {path.name: path.stat().st_mode & 0o777 for path in unserved.paths.pki.iterdir()}

    names = "factory_ca.key factory_ca.pem tls-crt online-crt local-ca.key local-ca.pem"
    assert dict.fromkeys(names.split(), 0o400) == files
    assert 0o700 == unserved.paths.pki.stat().st_mode & 0o777
    assert 0o700 == unserved.paths.cloud.stat().st_mode & 0o777
    assert 0o600 == unserved.paths.api_token.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("file", "name", "years"),
    [("factory_ca.pem", "Factory-CA", 20), ("local-ca.pem", "fio-", 10), ("tls-crt", "", 10)],
)
def test_subjects_are_cn_then_ou_and_lives_are_those_of_fioctl(
    unserved: Factory, file: str, name: str, years: int
) -> None:
    """The OU is the factory's name: the cloud checks it."""
    certificate = load(unserved.paths.pki / file)

    parts = list(certificate.subject)
    assert [NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME] == [p.oid for p in parts]
    assert str(parts[0].value).startswith(name)
    assert "lab-factory" == parts[1].value
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert years * 365 == life.days
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_the_root_may_sign_certificates_and_lists(unserved: Factory) -> None:
    """Signing of both, critical; both purposes, not critical."""
    extensions = load(unserved.paths.root).extensions

    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    purpose = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (True, True, None) == (basic.critical, basic.value.ca, basic.value.path_length)
    assert (True, True) == (usage.value.key_cert_sign, usage.value.crl_sign)
    assert (True, False) == (usage.critical, purpose.critical)


@pytest.mark.parametrize("file", ["online-crt", "local-ca.pem"])
def test_device_cas_sign_devices_and_nothing_below(unserved: Factory, file: str) -> None:
    """Path length 0, critical; keyCertSign alone."""
    extensions = load(unserved.paths.pki / file).extensions

    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (True, True, 0) == (basic.critical, basic.value.ca, basic.value.path_length)
    assert (True, False, False) == (usage.key_cert_sign, usage.crl_sign, usage.digital_signature)


def test_openssl_follows_a_device_and_the_gateway_to_the_root(
    unserved: Factory, tmp_path: Path
) -> None:
    """The chain of a provisioned device and the TLS certificates stand up to openssl verify."""
    paths = unserved.paths
    with unserved.serving():
        device = unserved.add_device(tmp_path / "device")

    client = device.sota / "client.pem"
    root = ["-CAfile", paths.root]
    below = ["-untrusted", paths.pki / "local-ca.pem"]
    assert openssl_verifies(*root, *below, "-purpose", "sslclient", client)
    server = ["-purpose", "sslserver", "-verify_hostname", "localhost"]
    assert openssl_verifies(*root, *server, paths.pki / "tls-crt")
    assert openssl_verifies(*root, *server, pair(unserved, "est-tls-crt")[0])
    assert openssl_verifies(*root, "-verify_ip", "::1", paths.pki / "tls-crt")
    assert openssl_verifies(*root, "-verify_ip", "127.0.0.1", paths.pki / "tls-crt")


def test_the_wrong_certificates_are_wrong(unserved: Factory) -> None:
    """What the fault knobs serve must fail for the reason they name."""
    cloud, root = unserved.paths.cloud, ["-CAfile", unserved.paths.root]

    assert not openssl_verifies(*root, cloud / "foreign-ca.pem")
    assert not openssl_verifies(*root, cloud / "foreign-tls.pem")
    assert openssl_verifies(*root, cloud / "wrong-host.pem")
    assert not openssl_verifies(*root, "-verify_hostname", "localhost", cloud / "wrong-host.pem")


def test_a_second_init_refuses_and_changes_nothing(unserved: Factory) -> None:
    """A factory that is there is not overwritten."""
    root = unserved.paths.root.read_bytes()

    with pytest.raises(FactoryError, match="is not empty"):
        Factory.create(unserved.paths.directory)

    assert root == unserved.paths.root.read_bytes()


@pytest.mark.parametrize("name", ["", "Lab", "-lab", "lab-", "a/b", "x" * 39, "lab\n"])
def test_a_name_that_no_factory_has_is_refused(tmp_path: Path, name: str) -> None:
    """The name goes into host names and subjects."""
    with pytest.raises(FactoryError, match="cannot create the factory"):
        Factory.create(tmp_path / "factory", name)

    assert not (tmp_path / "factory").exists()

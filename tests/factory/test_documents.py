"""The documents' commands to register a device with openssl and curl, in a real shell.

As they are printed, but for the addresses, which are the lab's.
"""

from __future__ import annotations

import pytest
from cryptography import x509

from tests.factory.conftest import Lab
from tests.factory.shell import Shell

UUID = "5a1c2b34-0000-4000-8000-000000000001"
CLIENT_CNF = f"""\
[req]
prompt = no
distinguished_name = dn
[dn]
CN = {UUID}
OU = lab-factory
"""
CA_EXT = "keyUsage=critical, keyCertSign\nbasicConstraints=critical, CA:TRUE, pathlen:0\n"
PRINTED_CLIENT_EXT = "keyUsage=critical, digitalSignature\nbasicConstraints=critical, clientAuth\n"
CLIENT_EXT = "keyUsage=critical, digitalSignature\nextendedKeyUsage=critical, clientAuth\n"

KEY = "openssl ecparam -genkey -name prime256v1 | openssl ec -out client.key"
CSR = "openssl req -new -config client.cnf -key client.key -out client.csr"
SIGN = (
    "openssl x509 -req -days 3650 -sha256 -CAcreateserial -in client.csr"
    " -extfile {} -CAkey local_ca.key -CA local_ca.pem -out client.pem"
)
PRINTED_REGISTER = """\
DEVICE_CRT=$(cat client.pem | awk -v ORS='\\\\n' '1') \\
curl "$API/ota/devices/" \\
-s -X PUT -H "Content-Type: application/json" -H "OSF-Token: $TOKEN" \\
-d '{"client.pem": "'"${DEVICE_CRT}"'", "name": "till-7"}'"""
# A variable that stands before a command is not set yet when the command's words are made.
REGISTER = PRINTED_REGISTER.replace("'1') \\\n", "'1')\n", 1)
HOSTS = "openssl x509 -noout -in tls.pem -ext subjectAltName"
CONNECT = (
    "set -o pipefail; curl --cacert factory_ca.pem --cert client.pem --key client.key"
    " $GATEWAY/repo/1.root.json | jq"
)


def certificate(shell: Shell) -> x509.Certificate:
    return x509.load_pem_x509_certificate((shell.directory / "client.pem").read_bytes())


@pytest.fixture
def shell(lab: Lab) -> Shell:
    directory = lab.tmp_path / "operator"
    directory.mkdir()
    pki = lab.factory.paths.pki
    files = {
        "factory_ca.pem": "factory_ca.pem",
        "local_ca.pem": "local-ca.pem",
        "local_ca.key": "local-ca.key",
        "tls.pem": "tls-crt",
    }
    for name, kept in files.items():
        (directory / name).write_bytes((pki / kept).read_bytes())
    env = {
        "API": lab.urls.api,
        "GATEWAY": lab.urls.gateway,
        "TOKEN": lab.factory.paths.api_token.read_text().strip(),
    }
    made = Shell(directory, env)
    made.write("client.cnf", CLIENT_CNF)
    made.write("ca.ext", CA_EXT)
    return made


def made_by(shell: Shell, extensions: str) -> None:
    """Key, request and certificate."""
    shell.write("client.ext", extensions)
    shell.run(KEY)
    shell.run(CSR)
    shell.run(SIGN.format("client.ext"))


def test_the_key_is_one_of_a_device(shell: Shell) -> None:
    """P-256, in the form with EC PARAMETERS left out."""
    shell.run(KEY)

    assert (shell.directory / "client.key").read_text().startswith("-----BEGIN EC PRIVATE KEY")


def test_the_request_names_the_device(shell: Shell) -> None:
    shell.run(KEY)
    shell.run(CSR)

    csr = x509.load_pem_x509_csr((shell.directory / "client.csr").read_bytes())
    assert f"OU=lab-factory,CN={UUID}" == csr.subject.rfc4514_string()


def test_the_certificate_with_the_extensions_that_are_meant(shell: Shell) -> None:
    """client.ext with extendedKeyUsage, and client.ext is what is signed with."""
    made_by(shell, CLIENT_EXT)

    purposes = certificate(shell).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert [x509.OID_CLIENT_AUTH] == list(purposes.value)


def test_the_device_is_registered_with_the_api(lab: Lab, shell: Shell) -> None:
    made_by(shell, CLIENT_EXT)

    assert f'"uuid":"{UUID}","name":"till-7"' in shell.run(REGISTER)

    (device,) = lab.factory.all_devices()
    assert UUID == device.uuid


def test_the_printed_registration_sends_nothing(lab: Lab, shell: Shell) -> None:
    """Its backslash makes one command of two, and the certificate is empty."""
    made_by(shell, CLIENT_EXT)

    assert "Missing required field 'client.pem'" in shell.run(PRINTED_REGISTER)

    assert [] == lab.factory.all_devices()


def test_the_gateways_names_are_shown(shell: Shell) -> None:
    assert "DNS:lab-factory.ota-lite.test, DNS:lab-factory.ostree.test" in shell.run(HOSTS)


def test_the_device_connects(lab: Lab, shell: Shell) -> None:
    """Registered, or registered by this first call; without a certificate there is nothing."""
    made_by(shell, CLIENT_EXT)

    shown = shell.run(CONNECT)

    assert '"_type": "Root"' in shown
    assert [UUID] == [device.uuid for device in lab.factory.all_devices()]
    assert 403 == lab.client().get("/repo/1.root.json").status_code


def test_the_printed_client_ext_is_refused_by_openssl(shell: Shell) -> None:
    """There is no such basic constraint as clientAuth."""
    shell.write("client.ext", PRINTED_CLIENT_EXT)
    shell.run(KEY)
    shell.run(CSR)

    said = shell.run(SIGN.format("client.ext"), code=1)

    assert "basicConstraints" in said
    assert (
        not (shell.directory / "client.pem").exists()
        or not (shell.directory / "client.pem").read_bytes()
    )


def test_the_printed_command_makes_a_ca_that_is_let_in_nowhere(lab: Lab, shell: Shell) -> None:
    """ca.ext: the API says why, the gateway ends the handshake."""
    shell.run(KEY)
    shell.run(CSR)
    shell.run(SIGN.format("ca.ext"))
    constraints = certificate(shell).extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.ca

    assert "it is not for TLS clients" in shell.run(REGISTER)
    said = shell.run(CONNECT, code=56)

    assert "alert unsupported certificate" in said.replace("sslv3 ", "")
    assert [] == lab.factory.all_devices()

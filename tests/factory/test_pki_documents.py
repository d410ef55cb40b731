"""Taking ownership of the PKI by openssl and curl, with the commands of the vendor's document.

They are as printed there, but for the host and the placeholders, and run in a real shell. A
person stores the two requests in files, as the document says; here the test does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from cryptography import x509

from fioagent.factory import Factory
from tests.factory.peers import TIMEOUT_S
from tests.factory.shell import Shell

FACTORY_CA_CNF = """\
[req]
prompt = no
distinguished_name = dn
x509_extensions = ext
[dn]
CN = Factory-CA
OU = lab-factory
[ext]
basicConstraints=CA:TRUE
keyUsage = keyCertSign, cRLSign
extendedKeyUsage = critical, clientAuth, serverAuth
"""
LOCAL_CA_CNF = """\
[req]
prompt = no
distinguished_name = dn
[dn]
CN = fio-{user}
OU = lab-factory
"""
CA_EXT = """\
keyUsage=critical, keyCertSign
basicConstraints=critical, CA:TRUE, pathlen:0
"""
SERVER_EXT = """\
keyUsage=critical, digitalSignature
extendedKeyUsage=critical, serverAuth
"""

CSRS = r"""
curl "$API/ota/factories/${FACTORY}/certs/" \
-s -X POST -H "Content-Type: application/json" -H "OSF-Token: $TOKEN" \
-d '{"first-time-init": true, "tls-csr": true, "ca-csr": true, "est-tls-csr": false}'
"""
ROOT_KEY = "openssl ecparam -genkey -name prime256v1 | openssl ec -out factory_ca.key"
ROOT = (
    "openssl req -new -x509 -days 7300 -sha256 -config factory_ca.cnf"
    " -key factory_ca.key -out factory_ca.pem"
)
LOCAL_KEY = "openssl ecparam -genkey -name prime256v1 | openssl ec -out local_ca.key"
LOCAL_CSR = "openssl req -new -config local_ca.cnf -key local_ca.key -out local_ca.csr"
LOCAL_CA = r"""
openssl x509 -req -days 3650 -sha256 -CAcreateserial -in local_ca.csr \
-extfile ca.ext -CAkey factory_ca.key -CA factory_ca.pem -out local_ca.pem
"""
NAMES = (
    'echo "subjectAltName=$(openssl req -text -noout -verify -in tls.csr | grep DNS:)"'
    " >> server.ext"
)
TLS = r"""
openssl x509 -req -days 3650 -sha256 -CAcreateserial -in tls.csr \
-extfile server.ext -CAkey factory_ca.key -CA factory_ca.pem -out tls.pem
"""
ONLINE_CA = r"""
openssl x509 -req -days 3650 -sha256 -CAcreateserial -in online_ca.csr \
-extfile ca.ext -CAkey factory_ca.key -CA factory_ca.pem -out online_ca.pem
"""
LIST = "cat online_ca.pem local_ca.pem >> device_ca_list.pem"
UPLOAD = r"""
ROOT_CA_CRT=$(cat factory_ca.pem | awk -v ORS='\\n' '1') \
DEVICE_CA_CRT=$(cat device_ca_list.pem | awk -v ORS='\\n' '1') \
TLS_CRT=$(cat tls.pem | awk -v ORS='\\n' '1') \
curl "$API/ota/factories/${FACTORY}/certs/" \
-s -X PATCH -H "Content-Type: application/json" -H "OSF-Token: $TOKEN" \
-d '{"root-crt": "'"${ROOT_CA_CRT}"'", "tls-crt": "'"${TLS_CRT}"'", "ca-crt": "'"${DEVICE_CA_CRT}"'"}'
"""  # noqa: E501  # as printed
# The document's three assignments stand before curl, in one command with it. A shell expands
# the arguments of a command before it makes the assignments, so there they are empty.
UPLOAD_RIGHT = UPLOAD.replace("'1') \\\n", "'1')\n")
HOST_NAME = "openssl x509 -noout -in tls.pem -ext subjectAltName"

CHECK_IN = "curl -s -o /dev/null -w '%{http_code}' --cacert factory_ca.pem $GATEWAY/config"


def certs(shell: Shell) -> requests.Response:
    return requests.get(
        f"{shell.env['API']}/ota/factories/lab-factory/certs/",
        headers={"OSF-TOKEN": shell.env["TOKEN"]},
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A factory that nobody owns, served; the tests below go on where the one before ended."""
    directory = tmp_path_factory.mktemp("documents")
    factory = Factory.create(directory / "lab", own_pki=False)
    mine = directory / "mine"
    mine.mkdir()
    with factory.serving() as urls:
        token = factory.paths.api_token.read_text().strip()
        env = {
            "GATEWAY": urls.gateway,
            "API": urls.api,
            "TOKEN": token,
            "FACTORY": "lab-factory",
        }
        (mine / "factory_ca.cnf").write_text(FACTORY_CA_CNF)
        local = LOCAL_CA_CNF.format(user=factory.desk.user_id())
        (mine / "local_ca.cnf").write_text(local)
        (mine / "ca.ext").write_text(CA_EXT)
        (mine / "server.ext").write_text(SERVER_EXT)
        yield Shell(mine, env)


def test_the_api_makes_requests(shell: Shell) -> None:
    """1: two requests and no third; nobody has taken ownership by it."""
    answer = json.loads(shell.run(CSRS))

    assert {"tls-csr", "ca-csr"} == set(answer)
    (shell.directory / "tls.csr").write_text(answer["tls-csr"])
    (shell.directory / "online_ca.csr").write_text(answer["ca-csr"])
    assert 206 == certs(shell).status_code


def test_openssl_makes_the_root(shell: Shell) -> None:
    """2: key and self-signed certificate."""
    shell.run(ROOT_KEY)
    shell.run(ROOT)

    assert "OU = lab-factory" in shell.run("openssl x509 -noout -subject -in factory_ca.pem")


def test_openssl_makes_a_local_ca(shell: Shell) -> None:
    """3: key, request, certificate."""
    for command in (LOCAL_KEY, LOCAL_CSR, LOCAL_CA):
        shell.run(command)

    assert "local_ca.pem: OK" in shell.run("openssl verify -CAfile factory_ca.pem local_ca.pem")


def test_openssl_signs_what_the_api_asked_for(shell: Shell) -> None:
    """4: the names are copied by grep, which works for DNS names alone."""
    for command in (NAMES, TLS, ONLINE_CA, LIST):
        shell.run(command)

    shown = shell.run(HOST_NAME)
    assert "DNS:lab-factory.ota-lite.test, DNS:lab-factory.ostree.test, DNS:localhost" in shown
    assert "online_ca.pem: OK" in shell.run("openssl verify -CAfile factory_ca.pem online_ca.pem")


def test_the_upload_as_printed_is_empty_and_refused(shell: Shell) -> None:
    """5: the assignments are part of curl's own command; nothing is changed by it."""
    assert "nothing is given" in json.loads(shell.run(UPLOAD))["message"]
    assert 206 == certs(shell).status_code


def test_the_upload_takes_ownership(shell: Shell) -> None:
    """5, in four commands: all three certificates are those of openssl."""
    assert {} == json.loads(shell.run(UPLOAD_RIGHT))

    shown = certs(shell)
    assert 200 == shown.status_code
    for name, file in (
        ("root-crt", "factory_ca.pem"),
        ("tls-crt", "tls.pem"),
        ("ca-crt", "device_ca_list.pem"),
    ):
        wanted = x509.load_pem_x509_certificates((shell.directory / file).read_bytes())
        assert wanted == x509.load_pem_x509_certificates(shown.json()[name].encode())


def test_the_gateway_shows_the_uploaded_certificate(shell: Shell) -> None:
    """At once: the root is enough to trust it."""
    status = shell.run(CHECK_IN)

    assert "403" == status  # no client certificate, over a TLS session that stands


def test_a_second_time_is_refused(shell: Shell) -> None:
    """The root can be set once: both at the start and at the end."""
    before = certs(shell).json()

    assert "it is initialized" in json.loads(shell.run(CSRS))["message"]
    assert "can be set once" in json.loads(shell.run(UPLOAD_RIGHT))["message"]
    assert before == certs(shell).json()

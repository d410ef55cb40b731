"""A device registers: by lmp-device-register, by an operator with its certificate, by /sign."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from fioagent import cli
from fioagent.factory import Factory
from fioagent.factory.cli.main import main
from tests.factory.conftest import Lab
from tests.factory.operator import Operator, refused
from tests.factory.owner import Owner
from tests.factory.peers import TIMEOUT_S, Clock, Credential, csr, subject
from tests.factory.register_tool import RegisterTool, ToolError, curl
from tests.tokens import LabToken, soft_token

UUID = "0f3a6c1e-5d0f-4a43-9b52-1f4f1f7a0001"


@pytest.fixture
def sota(tmp_path: Path) -> Path:
    made = tmp_path / "var" / "sota"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def tool(lab: Lab, sota: Path) -> RegisterTool:
    """lmp-device-register with the operators' token."""
    token = lab.factory.paths.api_token.read_text().strip()
    return RegisterTool(f"{lab.urls.api}/ota/devices/", sota, UUID, api_token=token)


@pytest.fixture
def plant(unserved: Factory, clock: Clock, tmp_path: Path) -> Iterator[Lab]:
    """A factory with a registration server."""
    with unserved.serving({"sign": ("127.0.0.1", 0)}) as urls:
        served = Lab(unserved, urls, clock, tmp_path)
        with served.stack:
            yield served


def agent(sota: Path, est: str, *arguments: str, token: LabToken | None = None) -> int:
    """``fioagent`` for what was registered there. What it says goes to the test's output."""
    settings = sota.parent / "fioagent.toml"
    settings.write_text(f'[est]\nserver = "{est}"\n[services]\nmanager = "none"\n')
    secrets = sota.parent / "secrets"
    secrets.mkdir(exist_ok=True)
    env = {
        "SOTA_DIR": str(sota / "sota.toml"),
        "SECRETS_DIR": str(secrets),
        "FIOAGENT_CONFIG": str(settings),
    }
    with token.at_hand() if token else contextlib.nullcontext():
        return int(cli.main(arguments, {**env, **(token.env if token else {})}))


def asked(key: ec.EllipticCurvePrivateKey | None = None, **other: Any) -> dict[str, Any]:
    """What the tool sends, with a member changed; None leaves it out."""
    tool = RegisterTool("", Path("/var/sota"), UUID)
    body = tool.asked(key or ec.generate_private_key(ec.SECP256R1()))
    body.update({name.replace("_", "-"): value for name, value in other.items()})
    return {name: value for name, value in body.items() if value is not None}


def pem_csr(name: x509.Name, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    der = csr(name, key or ec.generate_private_key(ec.SECP256R1()))
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()


def known(lab: Lab) -> list[str]:
    return [device.uuid for device in lab.factory.all_devices()]


# --- lmp-device-register ---


def test_what_the_tool_has_written_checks_in_and_rotates(
    lab: Lab, tool: RegisterTool, sota: Path
) -> None:
    """The files are all that an agent needs; the online CA has signed, and is trusted."""
    tool.run()

    assert {"root.crt", "sota.toml", "client.pem", "client.chained", "pkey.pem"} == {
        file.name for file in sota.iterdir()
    }
    first = lab.factory.device(UUID).public_key_pem
    certificate = x509.load_pem_x509_certificate((sota / "client.pem").read_bytes())
    online = x509.load_pem_x509_certificate((lab.factory.paths.pki / "online-crt").read_bytes())
    certificate.verify_directly_issued_by(online)
    chained = (sota / "client.chained").read_text()
    assert (sota / "client.pem").read_text() + "\n" in chained
    assert chained.endswith(online.public_bytes(Encoding.PEM).decode())
    lab.factory.set_config(UUID, {"app-secret": b"s3cret"})

    assert 0 == agent(sota, lab.urls.est, "check-in")
    assert b"s3cret" == (sota.parent / "secrets" / "app-secret").read_bytes()
    assert 0 == agent(sota, lab.urls.est, "rotate", "--now")

    assert first != lab.factory.device(UUID).public_key_pem
    assert 1 == len(lab.factory.device(UUID).denied)


def test_a_device_with_a_token_rotates_as_the_tool_has_left_it(
    lab: Lab, tool: RegisterTool, sota: Path, tmp_path: Path
) -> None:
    """Keys of files are not set, the token's section is at the end, no key is in a file."""
    tool.token = token = soft_token(tmp_path / "token")
    tool.run()

    toml = (sota / "sota.toml").read_text()
    assert 'pkey_source = "pkcs11"\ncert_source = "pkcs11"\n' in toml
    assert "# tls_pkey_path is not set\n# tls_clientcert_path is not set\n" in toml
    assert not (sota / "pkey.pem").exists()
    assert 0 == agent(sota, lab.urls.est, "check-in", token=token)

    assert 0 == agent(sota, lab.urls.est, "rotate", "--now", token=token)

    assert ("Certificate", "client", "09") in token.objects()
    assert 1 == len(lab.factory.device(UUID).denied)


def test_the_requests_are_those_of_the_tool(lab: Lab, tool: RegisterTool) -> None:
    """HEAD first, which has no token and may be refused, but not with 5xx."""
    tool.run()

    head, post = lab.factory.requests("api")
    assert ("HEAD", 401) == (head.method, head.status)
    assert ("POST", "/ota/devices/", 201) == (post.method, post.path, post.status)
    assert post.body.startswith(b'{\n    "use-ostree-server": "true",\n    "sota-config-dir": "\\/')


def test_overrides_and_group_come_to_pass(
    lab: Lab, operator: Operator, tool: RegisterTool, sota: Path
) -> None:
    operator.factory("POST", "device-groups/", json={"name": "shop"})
    tool.group, tool.production = "shop", True

    tool.run()

    pacman = (sota / "sota.toml").read_text().partition("[pacman]\n")[2].partition("\n\n")[0]
    assert f'compose_apps_root = "{sota}/compose-apps"' in pacman
    assert 'tags = "main"' in pacman
    shown = operator.send("GET", f"{UUID}/").json()
    assert ("shop", True) == (shown["group"]["name"], shown["is-prod"])


def test_a_device_is_registered_once(
    lab: Lab, operator: Operator, tool: RegisterTool, sota: Path
) -> None:
    """The same uuid, and the name of another: 409, and the one that is there stays."""
    tool.run()
    key = lab.factory.device(UUID).public_key_pem

    with pytest.raises(ToolError) as ended:
        tool.run()
    assert 409 == ended.value.args[0].status
    other = UUID.replace("0001", "0002")
    body = asked(uuid=other, csr=pem_csr(subject(other)), name=UUID)
    refused(operator.send("POST", "", json=body), 409, "another one has this name")

    assert [UUID] == known(lab)
    assert key == lab.factory.device(UUID).public_key_pem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"csr": None}, "Missing required field 'csr'"),
        ({"csr": ["x"]}, "Invalid data type for 'csr'"),
        ({"csr": "not a csr"}, "Unable to load PEM file"),
        ({"csr": pem_csr(subject(UUID, "other"))}, "Invalid factory(other) must be lab-factory"),
        ({"csr": pem_csr(x509.Name([]))}, "Invalid subject"),
        ({"csr": pem_csr(subject("a b")), "uuid": "a b"}, "Invalid CN"),
        ({"hardware_id": None}, "Missing required field 'hardware-id'"),
        ({"hardware_id": 'a"\nb'}, "Invalid value for 'hardware-id'"),
        ({"sota_config_dir": "/a\nb"}, "Invalid value for 'sota-config-dir'"),
        ({"uuid": "another"}, "Invalid 'uuid'"),
        ({"uuid": None}, "Invalid 'uuid'"),
        ({"name": "a/b"}, "cannot call a device"),
        ({"group": "\ud800"}, "Failed to parse"),
        ({"overrides": "x"}, "Invalid data type for 'overrides'"),
        ({"overrides": {"tls": "x"}}, "Invalid data type for 'overrides'"),
        ({"overrides": {"tls": {"a": 'x"\n[p11]'}}}, "Invalid value in 'overrides'"),
        ({"overrides": {"tls]\n[p11": {"a": "x"}}}, "Invalid name in 'overrides'"),
    ],
)
def test_a_request_that_will_not_do_changes_nothing(
    lab: Lab, operator: Operator, change: dict[str, Any], said: str
) -> None:
    refused(operator.send("POST", "", json=asked(**change)), 400, said)

    assert [] == known(lab)


def test_a_group_that_is_not_there_is_refused(lab: Lab, operator: Operator) -> None:
    refused(operator.send("POST", "", json=asked(group="shop")), 404, "device group shop")

    assert [] == known(lab)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"csr":' * 5000, b"\xff"])
def test_a_body_that_is_no_object(operator: Operator, body: bytes) -> None:
    refused(operator.send("POST", "", data=body), 400, "Failed to parse")
    refused(operator.send("PUT", "", data=body), 400, "Failed to parse")


def test_a_csr_that_somebody_else_has_signed(lab: Lab, operator: Operator) -> None:
    """The reference does not look; whoever sends it need not have the key."""
    good = x509.load_pem_x509_csr(asked()["csr"].encode()).public_bytes(Encoding.DER)
    bad = x509.load_der_x509_csr(good[:-1] + bytes([good[-1] ^ 1]))
    body = asked(csr=bad.public_bytes(Encoding.PEM).decode())

    refused(operator.send("POST", "", json=body), 400, "not signed by its own key")

    assert [] == known(lab)


def test_a_key_that_is_not_ec(operator: Operator) -> None:
    key = rsa.generate_private_key(65537, 2048)
    body = asked(csr=pem_csr(subject(UUID), key))  # type: ignore[arg-type]

    refused(operator.send("POST", "", json=body), 400, "not an EC public key")


# --- OAuth ---


def test_the_tool_without_a_token_waits_for_an_operator(
    lab: Lab, tool: RegisterTool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code that it shows is approved by command; the page it names tells how."""
    tool.api_token, tool.oauth_base = "", f"{lab.urls.api}/oauth"
    waited = []

    def approve(shown: dict[str, Any]) -> None:
        waited.append(shown["interval"])
        directory = str(lab.factory.paths.directory)
        assert 0 == main(["oauth", "list", directory])
        assert 0 == main(["oauth", "approve", directory, shown["user_code"].lower()])

    tool.wait = approve

    tool.run()

    assert ([5], 900) == (waited, tool.shown["expires_in"])
    line = f"{tool.shown['user_code']} {UUID} lab-factory:devices:create\n"
    assert f"{line}{UUID} may register\n" == capsys.readouterr().out
    assert "oauth approve" in curl(tool.shown["verification_uri"]).body
    assert [UUID] == known(lab)


def test_the_token_does_nothing_else_and_not_for_ever(
    lab: Lab, operator: Operator, tool: RegisterTool
) -> None:
    """403 for what is not in its scope; 401 when its hour is over."""
    tool.api_token, tool.oauth_base = "", f"{lab.urls.api}/oauth"
    tool.wait = lambda shown: _say(operator, shown, approved=True)
    tool.run()
    bearer = {"OSF-TOKEN": None, "Authorization": tool.headers["Authorization"]}

    for method, path in (("GET", ""), ("DELETE", f"{UUID}/"), ("PATCH", f"{UUID}/config/")):
        refused(operator.send(method, path, headers=bearer), 403, "scope")
    refused(operator.send("POST", "", headers=bearer, json=asked()), 409, "has it already")
    lab.clock.tick(3600)
    assert 401 == operator.send("POST", "", headers=bearer, json=asked()).status_code


def _say(operator: Operator, shown: dict[str, Any], *, approved: bool) -> None:
    path = f"oauth/{shown['user_code']}/"
    answer = operator.factory("PATCH", path, json={"approved": approved})
    assert 200 == answer.status_code


def test_an_operator_may_refuse(lab: Lab, operator: Operator, tool: RegisterTool) -> None:
    """The tool ends at any word but authorization_pending."""
    tool.api_token, tool.oauth_base = "", f"{lab.urls.api}/oauth"
    tool.wait = lambda shown: _say(operator, shown, approved=False)

    with pytest.raises(ToolError, match="access_denied"):
        tool.run()

    assert [] == known(lab)


def test_a_request_that_nobody_approves_expires(
    lab: Lab, operator: Operator, tool: RegisterTool
) -> None:
    tool.api_token, tool.oauth_base = "", f"{lab.urls.api}/oauth"
    tool.wait = lambda _: lab.clock.tick(901)

    with pytest.raises(ToolError, match="expired_token"):
        tool.run()

    path = f"oauth/{tool.shown['user_code']}/"
    refused(operator.factory("PATCH", path, json={"approved": True}), 404, "no device waits")


@pytest.mark.parametrize(
    ("path", "form", "error"),
    [
        ("authorization/device/", "scope=lab-factory:devices:create", "invalid_request"),
        ("authorization/device/", "client_id=x", "invalid_scope"),
        ("authorization/device/", "client_id=x&scope=other:devices:create", "invalid_scope"),
        ("authorization/device/", "client_id=x&scope=lab-factory:devices", "invalid_scope"),
        ("token/", "grant_type=password", "unsupported_grant_type"),
        (
            "token/",
            "grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=x&client_id=x",
            "invalid_grant",
        ),
    ],
)
def test_what_is_no_device_authorization(lab: Lab, path: str, form: str, error: str) -> None:
    answer = curl(f"{lab.urls.api}/oauth/{path}", data=form)

    assert (400, error) == (answer.status, answer.json["error"])


def test_a_device_code_is_good_for_one_token(lab: Lab, operator: Operator) -> None:
    """And neither it nor the token can be read out of the database."""
    base = f"{lab.urls.api}/oauth"
    form = "client_id=x&scope=lab-factory:devices:create"
    shown = curl(f"{base}/authorization/device/", data=form).json
    _say(operator, shown, approved=True)
    grant = "grant_type=urn:ietf:params:oauth:grant-type:device_code"
    form = f"{grant}&device_code={shown['device_code']}&{form}"

    first, second = (curl(f"{base}/token/", data=form) for _ in range(2))

    assert (200, "invalid_grant") == (first.status, second.json["error"])
    files = lab.factory.paths.directory.glob("factory.db*")
    stored = b"".join(file.read_bytes() for file in files)
    for secret in (shown["device_code"], first.json["access_token"]):
        assert secret.encode() not in stored


# --- PUT: the certificate is there already ---


def adopt(operator: Operator, credential: Credential, **more: str) -> Any:
    body = {"client.pem": credential.certificate_file.read_text(), **more}
    return operator.send("PUT", "", json=body)


@pytest.mark.parametrize("ca", ["local-ca", "online-ca"])
def test_a_certificate_of_a_device_ca_registers(lab: Lab, operator: Operator, ca: str) -> None:
    """Name and group are the operator's; the gateway knows the key."""
    operator.factory("POST", "device-groups/", json={"name": "shop"})
    credential = lab.credential(UUID, ca=ca)

    assert 201 == adopt(operator, credential, name="till 7", group="shop").status_code

    shown = operator.send("GET", "till 7/").json()
    assert (UUID, credential.public_key) == (shown["uuid"], shown["public-key"])
    assert "shop" == lab.client(credential).get("/device").json()["group_name"]
    refused(adopt(operator, credential), 409, "has it already")
    refused(adopt(operator, lab.credential("other"), name="till 7"), 409, "another one has")
    refused(adopt(operator, lab.credential("other"), name=UUID), 409, "another one has")


def test_a_certificate_that_the_gateway_would_not_take(lab: Lab, operator: Operator) -> None:
    """Not by a device CA, of the root itself, expired, not for clients, not for this factory."""
    foreign = lab.credential(UUID, ca="foreign-ca")
    refused(adopt(operator, foreign), 400, "not by a device CA of the factory")
    refused(adopt(operator, lab.credential(UUID, expired=True)), 400, "it has expired")
    lab.clock.tick(-300 * 86400)
    refused(adopt(operator, lab.credential(UUID)), 400, "it is not valid yet")
    lab.clock.tick(300 * 86400)
    server = lab.credential(UUID, purpose=x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]))
    refused(adopt(operator, server), 400, "it is not for TLS clients")
    root = {"client.pem": lab.factory.paths.root.read_text()}
    refused(operator.send("PUT", "", json=root), 400, "not for TLS clients")
    for pem in ("", 7, "-----BEGIN"):
        assert 400 == operator.send("PUT", "", json={"client.pem": pem}).status_code

    assert [] == known(lab)


# --- the states of device CAs ---


def test_no_device_registers_under_a_ca_that_is_disabled(plant: Lab) -> None:
    """In none of the three ways, and nothing of it is kept."""
    session = plant.client().session
    operator = Operator(plant.factory, plant.urls, session)
    owner = Owner(plant.factory, plant.urls.api)
    for ca in ("online-ca", "local-ca"):
        owner.retire(ca, x509.ReasonFlags.certificate_hold)

    refused(operator.send("POST", "", json=asked(uuid=UUID)), 503, "has none that is active")
    refused(adopt(operator, plant.credential(UUID)), 400, "is disabled")
    answer = session.post(plant.urls.sign, json=asked(), timeout=TIMEOUT_S)
    refused(answer, 409, "is disabled")
    assert [] == known(plant)


def test_the_certificate_of_a_registered_device_is_known(lab: Lab, operator: Operator) -> None:
    """Before it comes, so that nobody revokes the CA that it depends on."""
    assert 201 == adopt(operator, lab.credential("other")).status_code
    assert 201 == operator.send("POST", "", json=asked(uuid=UUID)).status_code

    online, local = (lab.factory.authority(ca).certificate for ca in ("online-ca", "local-ca"))
    wanted = {str(ca.serial_number): 1 for ca in (online, local)}
    assert wanted == lab.factory.desk.dependants()


# --- POST /sign ---


def test_sign_is_served_only_where_it_is_asked_for(unserved: Factory) -> None:
    """And told in factory.json; the next time it has to be asked for again."""
    with unserved.serving({"sign": ("127.0.0.1", 0)}) as urls:
        assert f'"sign": "{urls.sign}"' in unserved.paths.state.read_text()
    with unserved.serving() as urls:
        assert "" == urls.sign
        assert "sign" not in unserved.paths.state.read_text()


def test_the_tool_registers_at_a_server_of_the_operators(plant: Lab, sota: Path) -> None:
    """Nobody is asked who he is; the local CA signs."""
    RegisterTool(plant.urls.sign, sota, UUID, api_token="na").run()

    certificate = x509.load_pem_x509_certificate((sota / "client.pem").read_bytes())
    local = x509.load_pem_x509_certificate((plant.factory.paths.pki / "local-ca.pem").read_bytes())
    certificate.verify_directly_issued_by(local)
    assert (sota / "client.chained").read_text().endswith(local.public_bytes(Encoding.PEM).decode())
    assert 0 == agent(sota, plant.urls.est, "check-in")
    assert 0 == agent(sota, plant.urls.est, "rotate", "--now")
    assert [UUID] == known(plant)


def test_what_sign_refuses(plant: Lab) -> None:
    """In the reference's words; a uuid that is taken passes through as 409."""
    session = plant.client().session

    def post(**how: Any) -> Any:
        return session.post(plant.urls.sign, timeout=TIMEOUT_S, **how)

    assert 415 == post(data=b"{}").status_code
    refused(post(json=asked(csr=None)), 400, "Missing required field 'csr'")
    refused(post(json=asked(group="shop")), 400, "does not support 'group' field")
    assert [] == known(plant)
    assert 201 == post(json=asked(uuid=None, name=None)).status_code
    refused(post(json=asked()), 409, "has it already")


def test_without_a_token_of_its_own_sign_knows_no_devices(plant: Lab, sota: Path) -> None:
    """Then names repeat, each certificate has its own serial, and the gateway registers."""
    plant.factory.set_knob("sign_registers", "off")
    serials = set()

    for _ in range(2):
        RegisterTool(plant.urls.sign, sota, UUID, api_token="na", production=True).run()
        pem = (sota / "client.pem").read_bytes()
        serials.add(x509.load_pem_x509_certificate(pem).serial_number)

    assert (2, []) == (len(serials), known(plant))
    assert 0 == agent(sota, plant.urls.est, "check-in")
    with requests.Session() as session:
        shown = Operator(plant.factory, plant.urls, session).send("GET", "?prod=1").json()
    assert [UUID] == [device["uuid"] for device in shown["devices"]]


def test_no_answer_or_log_has_a_token(lab: Lab, operator: Operator, tool: RegisterTool) -> None:
    """Neither the device's, nor what it asked for it with, nor the operator's own."""
    tool.api_token, tool.oauth_base = "", f"{lab.urls.api}/oauth"
    tool.wait = lambda shown: _say(operator, shown, approved=True)
    tool.run()

    given = base64.b64decode(tool.headers["Authorization"].split()[1]).decode()
    secrets = [given, tool.shown["device_code"], lab.factory.paths.api_token.read_text().strip()]
    logs = "".join(log.read_text() for log in lab.factory.paths.log.iterdir())
    shown = [operator.factory("GET", "oauth/"), operator.send("GET", "")]
    shown += [operator.send("GET", f"{known(lab)[0]}/"), operator.ask("GET", "/control/view")]
    assert [200] * 4 == [answer.status_code for answer in shown]
    everything = "".join([logs, *(answer.text for answer in shown)])
    assert "POST /oauth/token" in logs
    assert not [secret for secret in secrets if secret in everything]

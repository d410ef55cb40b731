"""What lmp-device-register does, for tests: its requests to the byte, their order, its files.

The requests go out by libcurl, as the tool's do. Its JSON is that of boost, where every value
is text and a slash is escaped.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fioagent.factory.fleet.hsm import PIN
from tests.factory.peers import CLIENT_AUTH, SIGNATURE_ONLY, TIMEOUT_S, subject
from tests.tokens import LabToken

Asked = dict[str, Any]


class Answer(NamedTuple):
    status: int
    body: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class ToolError(Exception):
    """The tool would end here, with the answer on stderr."""


def curl(url: str, *how: str, headers: Mapping[str, str] | None = None, data: str = "") -> Answer:
    """As the tool sets libcurl up: POST by a body, and no name of its own."""
    command = ["curl", "-sS", "-H", "User-Agent:", "-w", "\\n%{http_code}", *how]
    for name, value in (headers or {}).items():
        command += ["-H", f"{name}: {value}"]
    if data:
        command += ["--data-binary", "@-"]
    done = subprocess.run(
        [*command, url], input=data, capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    body, _, status = done.stdout.rpartition("\n")
    return Answer(int(status), body)


def boost_json(value: Mapping[str, Any], depth: int = 1) -> str:
    """As boost's write_json: four spaces, and escaped slashes."""
    lines = [
        " " * 4 * depth
        + f"{_quoted(name)}: "
        + (_quoted(each) if isinstance(each, str) else boost_json(each, depth + 1))
        for name, each in value.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n" + " " * 4 * (depth - 1) + "}"


def _quoted(text: str) -> str:
    return json.dumps(text).replace("/", "\\/")


@dataclass
class RegisterTool:
    """One run of ``lmp-device-register --sota-dir sota``."""

    device_api: str
    sota: Path
    uuid: str
    factory: str = "lab-factory"
    oauth_base: str = ""
    api_token: str = ""
    group: str = ""
    production: bool = False
    token: LabToken | None = None
    wait: Callable[[Asked], None] = lambda _: None  # instead of sleeping for ``interval``
    shown: Asked = field(default_factory=dict)  # to the person before it
    headers: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Registered, and the files written. ToolError: it would have ended before."""
        self.headers["Content-type"] = "application/json"
        if self.api_token:
            self.headers["OSF-TOKEN"] = self.api_token
        else:
            token = self._oauth_token().encode()
            self.headers["Authorization"] = "Bearer " + base64.b64encode(token).decode()
        if (healthy := curl(self.device_api, "--head")).status >= 500:
            raise ToolError(healthy)
        key = self._key()
        answer = curl(
            self.device_api, headers=self.headers, data=boost_json(self.asked(key)) + "\n"
        )
        if answer.status != 201:
            raise ToolError(answer)
        self._write(answer.json, key)

    def _oauth_token(self) -> str:
        scope = f"{self.factory}:devices:create"
        form = f"client_id={self.uuid}&scope={scope}"
        answer = curl(f"{self.oauth_base}/authorization/device/", data=form)
        if answer.status != 200:
            raise ToolError(answer)
        self.shown = answer.json
        grant = "grant_type=urn:ietf:params:oauth:grant-type:device_code"
        form = f"{grant}&device_code={self.shown['device_code']}&{form}"
        while (answer := curl(f"{self.oauth_base}/token/", data=form)).status != 200:
            if answer.status != 400 or answer.json["error"] != "authorization_pending":
                raise ToolError(answer)
            self.wait(self.shown)
        return str(answer.json["access_token"])

    def _key(self) -> ec.EllipticCurvePrivateKey:
        if self.token is not None:
            return self.token.make_key("01")
        return ec.generate_private_key(ec.SECP256R1())

    def csr(self, key: ec.EllipticCurvePrivateKey) -> str:
        name = list(subject(self.uuid, self.factory))
        if self.production:
            category = x509.NameOID.BUSINESS_CATEGORY
            name.append(x509.NameAttribute(category, "production"))
        builder = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name(name))
            .add_extension(SIGNATURE_ONLY, critical=True)
            .add_extension(CLIENT_AUTH, critical=True)
        )
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def asked(self, key: ec.EllipticCurvePrivateKey) -> Asked:
        """The members in the tool's order."""
        overrides: dict[str, dict[str, str]] = {}
        if self.token is not None:
            overrides["tls"] = {"pkey_source": '"pkcs11"', "cert_source": '"pkcs11"'}
            for section in ("storage", "import"):
                overrides[section] = {"tls_pkey_path": "", "tls_clientcert_path": ""}
        overrides["pacman"] = {
            "type": '"ostree+compose_apps"',
            "compose_apps_root": f'"{self.sota}/compose-apps"',
            "reset_apps_root": f'"{self.sota}/reset-apps"',
        }
        return {
            "use-ostree-server": "true",
            "sota-config-dir": str(self.sota),
            "hardware-id": "intel-corei7-64",
            "name": self.uuid,
            "uuid": self.uuid,
            "csr": self.csr(key),
            "overrides": {**overrides, "pacman": {**overrides["pacman"], "tags": '"main"'}},
            **({"group": self.group} if self.group else {}),
        }

    def _write(self, files: Mapping[str, str], key: ec.EllipticCurvePrivateKey) -> None:
        """Each file under its name; the token's section goes to the end of sota.toml."""
        if self.token is None:
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (self.sota / "pkey.pem").write_bytes(pem)
        toml = ""
        for name, content in files.items():
            if name.endswith("sota.toml"):
                toml = f"{content}\n" + self._p11()
                continue
            (self.sota / name).write_text(content)
            if name.endswith(".pem") and self.token is not None:
                self.token.put_certificate("03", self.sota / name)
        (self.sota / "sota.toml").write_text(toml)

    def _p11(self) -> str:
        if self.token is None:
            return ""
        section = f'[p11]\nmodule = "{self.token.module}"\npass = "{PIN}"\n'
        return section + 'tls_pkey_id = "01"\ntls_clientcert_id = "03"\n\n'

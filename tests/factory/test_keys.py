"""The operator's commands: files as fioctl leaves them, what they change, how they refuse."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509

from fioagent.factory import Factory, FactoryError
from fioagent.factory.cli.main import main
from fioagent.factory.fleet.hsm import PIN, softhsm
from fioagent.factory.pki.certificates import load_authority
from tests.factory.conftest import Lab
from tests.factory.owner import name, pem, sign

TOP: Final = Path(__file__).resolve().parent.parent.parent


class Keys:
    """``fioagent-factory keys``, for one factory and one PKI directory."""

    def __init__(self, factory: Factory, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.factory = factory
        self.mine = mine
        self._capsys = capsys

    def line(self, *words: str, pki: bool = True) -> list[str]:
        directories = [str(self.factory.paths.directory), *([str(self.mine)] if pki else [])]
        return ["keys", *words[:2], *directories, *words[2:]]

    def run(self, *words: str, pki: bool = True) -> str:
        """What it prints."""
        self._capsys.readouterr()
        code = main(self.line(*words, pki=pki))
        said = self._capsys.readouterr()
        assert code == 0, said.err
        return said.out

    def refused(self, *words: str, pki: bool = True) -> str:
        """What it says on stderr; before that it may have told what it was doing."""
        self._capsys.readouterr()
        assert 1 == main(self.line(*words, pki=pki))
        return self._capsys.readouterr().err

    def files(self) -> dict[str, int]:
        return {path.name: path.stat().st_mode & 0o777 for path in self.mine.iterdir()}

    def load(self, file: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.mine / file).read_bytes())

    def certs(self) -> dict[str, Any]:
        return self.factory.desk.certificates()


@pytest.fixture
def keys(unserved: Factory, capsys: pytest.CaptureFixture[str]) -> Keys:
    """Of a factory whose PKI is set up."""
    return Keys(unserved, unserved.paths.pki, capsys)


@pytest.fixture
def fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    """Of a factory with the shared PKI, and of an operator without a directory."""
    assert 0 == main(["init", str(tmp_path / "lab"), "--no-pki"])
    return Keys(Factory.open(tmp_path / "lab"), tmp_path / "mine", capsys)


# --- create ---


def test_create_leaves_what_fioctl_leaves_and_warns(
    fresh: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files, modes and the upload; once only, and that is said."""
    assert "its PKI is not configured" in fresh.refused("ca", "show", pki=False)
    assert 0 == main(fresh.line("ca", "create"))

    said = capsys.readouterr().err
    assert "can be set once" in said
    assert "cannot be recovered" in said
    names = "factory_ca.key factory_ca.pem tls-crt online-crt local-ca.key local-ca.pem"
    assert dict.fromkeys(names.split(), 0o400) == fresh.files()
    assert fresh.certs()["root-crt"] == (fresh.mine / "factory_ca.pem").read_text()
    assert "" == fresh.certs()["est-tls-crt"]
    fresh.mine = fresh.mine.with_name("other")
    assert "it is initialized" in fresh.refused("ca", "create")
    assert not fresh.mine.exists()


@pytest.mark.parametrize(
    ("option", "cas"),
    [("--no-online-ca", {"local-ca.pem", "local-ca.key"}), ("--no-local-ca", {"online-crt"})],
)
def test_a_device_ca_can_be_left_out(fresh: Keys, option: str, cas: set[str]) -> None:
    fresh.run("ca", "create", option)

    assert cas == set(fresh.files()) - {"factory_ca.key", "factory_ca.pem", "tls-crt"}
    assert 1 == fresh.certs()["ca-crt"].count("BEGIN")


def test_a_root_is_never_overwritten(fresh: Keys) -> None:
    fresh.mine.mkdir()
    (fresh.mine / "factory_ca.pem").write_text("somebody's root")

    assert "there is a root already" in fresh.refused("ca", "create")
    assert {"factory_ca.pem"} == set(fresh.files())


def test_create_says_how_many_devices_it_strands(
    fresh: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fresh.factory.serving():
        fresh.factory.add_device(tmp_path / "device")

    main(fresh.line("ca", "create"))

    assert "Devices with a certificate of the shared PKI: 1." in capsys.readouterr().err


def test_the_walk_through_of_the_docs_works_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line of docs/factory.md, PKI, in their order."""
    page = (TOP / "docs" / "factory.md").read_text()
    section = page.partition("\n## PKI\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^    fioagent-factory (.*)$", section, re.MULTILINE)
    assert 13 == len(lines)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        typed, _, file = line.partition(" > ")
        capsys.readouterr()
        assert 0 == main(shlex.split(typed)), f"{line}: {capsys.readouterr().err}"
        if file:
            (tmp_path / file).write_text(capsys.readouterr().out)


# --- show, update, sign, est ---


def test_show_tells_the_certificates_and_their_states(keys: Keys) -> None:
    """One of them alone is PEM and nothing else, to be put into a file."""
    local = keys.load("local-ca.pem")
    keys.run("ca", "disable-device-ca", "--ca-file", "local-ca")

    everything = keys.run("ca", "show", pki=False)
    assert f"## Disabled Device Certificate Serial(s)\n{local.serial_number}" in everything
    pretty = keys.run("ca", "show", "--pretty", pki=False)
    assert f"{local.serial_number} disabled devices=0" in pretty
    assert "Basic Constraints: CA:TRUE MaxPath 0 (critical)" in pretty
    for option, member in (("root", "root-crt"), ("tls", "tls-crt"), ("device-cas", "ca-crt")):
        assert keys.certs()[member] == keys.run("ca", "show", f"--just-{option}", pki=False)
    assert keys.certs()["est-tls-crt"] == keys.run("est", "show", pki=False)
    assert "DNS:localhost" in keys.run("est", "show", "--pretty", pki=False)


def test_the_est_server_has_exactly_one_dns_name(keys: Keys) -> None:
    """Fioctl makes the EST server's URL of it, and refuses any other number."""
    certificate = x509.load_pem_x509_certificate(keys.certs()["est-tls-crt"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert ["localhost"] == names.get_values_for_type(x509.DNSName)


def test_est_authorize_gives_a_new_certificate_and_leaves_no_file(keys: Keys) -> None:
    before, files = keys.certs()["est-tls-crt"], keys.files()

    said = keys.run("est", "authorize")

    assert before != keys.certs()["est-tls-crt"]
    assert said.endswith(keys.certs()["est-tls-crt"])
    assert files == keys.files()


def test_update_sets_the_list_of_cas(keys: Keys, tmp_path: Path) -> None:
    listed = tmp_path / "cas.pem"
    root = load_authority(keys.mine / "factory_ca.pem", keys.mine / "factory_ca.key")
    more = sign(root, name(f"fio-{keys.factory.desk.user_id()}"))
    listed.write_text(keys.certs()["ca-crt"] + pem(more))

    keys.run("ca", "update", str(listed), pki=False)

    assert pem(more) in keys.certs()["ca-crt"]
    listed.write_text(pem(more))
    assert "it leaves out the device CA" in keys.refused("ca", "update", str(listed), pki=False)
    assert "cannot read" in keys.refused("ca", "update", str(tmp_path / "none"), pki=False)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["basicConstraints=CA:TRUE"], "CA:TRUE, pathlen:0"),
        (["subjectAltName=DNS:est.example.com"], "DNS:est.example.com"),
    ],
)
def test_sign_makes_what_the_request_asks_for(
    keys: Keys, tmp_path: Path, asked: list[str], shown: str
) -> None:
    """Of openssl's requests, with openssl to read what comes."""
    request, signed = tmp_path / "request.pem", tmp_path / "signed.pem"
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", str(tmp_path / "key"), "-subj", "/CN=x/OU=lab-factory"]
    command += ["-addext", asked[0], "-out", str(request)]
    subprocess.run(command, check=True, capture_output=True)

    signed.write_text(keys.run("ca", "sign", "--pki-dir", str(keys.mine), str(request), pki=False))

    read = ["openssl", "x509", "-noout", "-text", "-in", str(signed)]
    assert shown in subprocess.run(read, check=True, capture_output=True, text=True).stdout
    verify = ["openssl", "verify", "-CAfile", str(keys.mine / "factory_ca.pem"), str(signed)]
    subprocess.run(verify, check=True, capture_output=True)


def test_sign_refuses_what_is_no_request(keys: Keys) -> None:
    given = str(keys.mine / "tls-crt")

    assert "not a certificate request in PEM" in keys.refused("ca", "sign", given, pki=False)


# --- rotate-tls, add-device-ca ---


def test_rotate_tls_keeps_the_file_before(keys: Keys) -> None:
    before = keys.load("tls-crt")

    keys.run("ca", "rotate-tls")

    assert before == keys.load("tls-crt.bak")
    assert keys.certs()["tls-crt"] == (keys.mine / "tls-crt").read_text() != pem(before)
    assert {0o400} == set(keys.files().values())
    keys.run("ca", "rotate-tls")  # over a .bak that is there
    assert before != keys.load("tls-crt.bak")


def test_device_cas_are_added(keys: Keys) -> None:
    """A second local CA needs another name; the online one before becomes .bak."""
    assert "give --online-ca, --local-ca or both" in keys.refused("ca", "add-device-ca")
    assert "is there already" in keys.refused("ca", "add-device-ca", "--local-ca")
    before = keys.files()

    keys.run(
        *("ca", "add-device-ca", "--online-ca", "--local-ca"),
        *("--local-ca-filename", "site-2.pem"),
    )

    new = {"site-2.pem", "site-2.key", "online-crt.bak"}
    assert {**before, **dict.fromkeys(new, 0o400)} == keys.files()
    listed = x509.load_pem_x509_certificates(keys.certs()["ca-crt"].encode())
    files = ("online-crt.bak", "local-ca.pem", "site-2.pem", "online-crt")
    assert [keys.load(file) for file in files] == listed


@pytest.mark.parametrize("file", ["../x.pem", "x.crt", "/x.pem"])
def test_a_local_ca_is_a_file_of_the_directory(keys: Keys, file: str) -> None:
    said = keys.refused("ca", "add-device-ca", "--local-ca", "--local-ca-filename", file)

    assert "a file name that ends in .pem" in said


def test_another_key_than_the_roots_is_refused(keys: Keys) -> None:
    """Before anything is asked of the cloud."""
    (keys.mine / "factory_ca.key").unlink()
    assert "--hsm-module" in keys.refused("ca", "rotate-tls")
    (keys.mine / "local-ca.key").rename(keys.mine / "factory_ca.key")
    keys_before = sorted(keys.factory.paths.cloud.iterdir())

    assert "is not the key of this directory's root" in keys.refused("ca", "rotate-tls")

    assert keys_before == sorted(keys.factory.paths.cloud.iterdir())


# --- disable and revoke ---


def test_revoke_counts_the_devices_it_would_strand_and_refuses(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until they have another certificate, or with --force."""
    keys = Keys(lab.factory, lab.factory.paths.pki, capsys)
    local = keys.load("local-ca.pem").serial_number
    device, _ = lab.device("device-1"), lab.device("device-2")
    assert device.credential

    said = keys.refused("ca", "revoke-device-ca", "--ca-file", "local-ca.pem")
    assert f"2 of {local}" in said
    assert "--force" in said
    rotated = lab.client(lab.credential("device-1", ca="online-ca", key=device.credential.key))
    rotated.get("/config")
    assert f"1 of {local}" in keys.refused("ca", "revoke-device-ca", "--ca-serial", str(local))
    assert str(local) not in keys.run("ca", "show", "--just-root", pki=False)
    assert 2 == keys.certs()["ca-crt"].count("BEGIN")

    keys.run("ca", "revoke-device-ca", "--ca-serial", str(local), "--force")

    assert 1 == keys.certs()["ca-crt"].count("BEGIN")
    assert "the factory trusts no such CA" in keys.refused(
        "ca", "revoke-device-ca", "--ca-serial", str(local)
    )


@pytest.mark.parametrize("what", ["disable", "revoke"])
def test_a_dry_run_shows_the_list_and_changes_nothing(keys: Keys, what: str) -> None:
    """Openssl takes it for a list of the root's."""
    before = keys.certs()

    options = ("--ca-file", str(keys.mine / "local-ca.pem"), "--dry-run", "--pretty")
    said = keys.run("ca", f"{what}-device-ca", *options)

    reason = {"disable": "Disable - 6", "revoke": "Revoke - 9"}[what]
    assert reason in said
    assert f"Serial: {keys.load('local-ca.pem').serial_number}" in said
    command = ["openssl", "crl", "-noout", "-verify", "-CAfile", str(keys.mine / "factory_ca.pem")]
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    assert "verify OK" in done.stderr
    assert before == keys.certs()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "give --ca-file or --ca-serial"),
        (["--ca-serial", "0x10"], "it has to be decimal"),
        (["--ca-serial", "4711"], "the factory trusts no such CA"),
        (["--ca-file", "none"], "there is no such file"),
        (["--ca-file", "local-ca.key"], "it is not a certificate in PEM"),
    ],
)
def test_a_ca_that_is_none_is_refused(keys: Keys, options: list[str], why: str) -> None:
    before = keys.certs()

    assert why in keys.refused("ca", "disable-device-ca", *options)
    assert before == keys.certs()


# --- the root's key in a token ---


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options for a token of SoftHSM; its PIN is in a file."""
    made = softhsm(tmp_path / "token")
    for variable, value in made.env.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "pin").write_text(f"{PIN}\n")
    pin = f"file:{tmp_path / 'pin'}"
    return ["--hsm-module", made.module, "--hsm-token-label", made.label, "--hsm-pin", pin]


def test_the_roots_key_stays_in_its_token(fresh: Keys, token: list[str]) -> None:
    """It is made there and signs from there, and never lies in the directory."""
    fresh.run("ca", "create", *token)
    assert "factory_ca.key" not in fresh.files()
    assert "there is a root already" in fresh.refused("ca", "create", *token)

    fresh.run("ca", "rotate-tls", *token)
    fresh.run("ca", "add-device-ca", "--online-ca", *token)
    fresh.run("est", "authorize", *token)
    fresh.run("ca", "revoke-device-ca", "--ca-file", "local-ca", *token)

    assert 2 == fresh.certs()["ca-crt"].count("BEGIN")
    root = ["openssl", "verify", "-CAfile", str(fresh.mine / "factory_ca.pem")]
    subprocess.run([*root, str(fresh.mine / "tls-crt")], check=True, capture_output=True)
    assert "--hsm-module" in fresh.refused("ca", "rotate-tls")


def test_a_key_of_another_id_is_found_by_its_label(
    fresh: Keys, token: list[str], tmp_path: Path
) -> None:
    """Builds of fioctl give the key root-ca different ids: 01, and 31, which is "1" in ASCII."""
    fresh.run("ca", "create", *token)
    command = ["pkcs11-tool", "--module", token[1], "--token-label", token[3], "--login"]
    command += ["--pin", PIN, "--label", "root-ca", "--set-id", "31"]
    for kind in ("privkey", "pubkey"):
        subprocess.run([*command, "--type", kind], check=True, capture_output=True)

    fresh.run("ca", "rotate-tls", *token)


def test_a_token_has_one_root(
    fresh: Keys, token: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh.run("ca", "create", *token)
    main(["init", str(tmp_path / "lab-2"), "--no-pki"])
    second = Keys(Factory.open(tmp_path / "lab-2"), tmp_path / "mine-2", capsys)

    assert "has a key 'root-ca' already" in second.refused("ca", "create", *token)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"--hsm-pin": "1234"}, "cannot use the token"),
        ({"--hsm-pin": "env:NO_SUCH"}, "there is no PIN in env:NO_SUCH"),
        ({"--hsm-pin": "file:/no/such"}, "cannot read the token's PIN"),
        ({"--hsm-token-label": "other"}, "cannot use the token"),
        ({"--hsm-module": "/no/such.so"}, "cannot use the token"),
        ({"--hsm-pin": ""}, "go together"),
    ],
)
def test_a_token_that_cannot_be_used_is_refused(
    fresh: Keys, token: list[str], change: dict[str, str], why: str
) -> None:
    """With the reason, and never with the PIN."""
    options = {**dict(zip(token[::2], token[1::2], strict=True)), **change}
    said = fresh.refused("ca", "create", *(word for pair in options.items() for word in pair))

    assert why in said
    assert PIN not in said
    with pytest.raises(FactoryError, match="not configured"):
        fresh.certs()


def test_a_key_of_the_same_id_is_in_nobodys_way(fresh: Keys, token: list[str]) -> None:
    """Which of two a module lists first is a matter of luck. Where it comes later, that is said."""
    command = ["pkcs11-tool", "--module", token[1], "--token-label", token[3], "--login"]
    command += ["--pin", PIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01"]
    for number in range(4):
        subprocess.run([*command, "--label", f"mine-{number}"], check=True, capture_output=True)

    fresh.run("ca", "create", *token)
    fresh.run("ca", "rotate-tls", *token)

    another = [*command[:-1], "02", "--label", "mine-4"]
    subprocess.run(another, check=True, capture_output=True)
    assert "several keys have the id 02" in fresh.refused("ca", "rotate-tls", *token)


def test_a_create_that_is_refused_leaves_nothing(
    fresh: Keys, token: list[str], tmp_path: Path
) -> None:
    """Neither a file nor a key in the token: the second try must not stumble over the first."""
    fresh.mine.mkdir()
    (fresh.mine / "local-ca.pem").write_text("somebody's CA")

    for options in ([], token):
        assert "local-ca.pem is there already" in fresh.refused("ca", "create", *options)
        assert {"local-ca.pem"} == set(fresh.files())

    (fresh.mine / "local-ca.pem").unlink()
    fresh.run("ca", "create", *token)


def test_a_device_ca_that_is_refused_leaves_nothing(
    keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signed by the root of another factory."""
    other = Factory.create(tmp_path / "other", "other")
    wrong = Keys(keys.factory, other.paths.pki, capsys)
    before = wrong.files()

    for _ in range(2):
        said = wrong.refused("ca", "add-device-ca", "--local-ca", "--local-ca-filename", "s.pem")
        assert "not signed by the factory's root" in said
        assert before == wrong.files()

"""Why something cannot be done, in plain words, and what a person does next. One table. Pure.

Errors are made of it (``AgentError.of``), ``fioagent doctor`` tells its rows by name, and
docs/technicians.md shows it. Words may have facts in braces; the remedy may have the
same ones. An error that is nobody's business at the device, such as a certificate that
an EST server has made wrongly, has its words where it is raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the table.

    Attributes:
        name: for machines; stable.
        words: the line to show.
        remedy: what to do next, the command first where there is one.
    """

    name: str
    words: str
    remedy: str

    def told(self, facts: Mapping[str, object]) -> tuple[str, str]:
        """Words and remedy, with ``facts`` in them."""
        return self.words.format_map(facts), self.remedy.format_map(facts)


# --- the clock ---

CLOCK = Cause(
    "clock",
    "cannot rotate yet: the clock says {now} UTC, which cannot be",
    "wait for time synchronisation, or set the clock: date -u -s 'YYYY-MM-DD HH:MM'",
)

# --- files and settings ---

NOT_REGISTERED = Cause(
    "not-registered",
    "cannot find sota.toml in {paths}",
    "register the device, or say where it is with -c or SOTA_DIR",
)
KEY_NOT_SET = Cause(
    "sota-key-missing",
    "cannot go on: {key} is not set in {files}",
    "register the device, or put the key back into sota.toml",
)
NOT_TOML = Cause(
    "sota-not-toml",
    "cannot read {path}: not valid TOML: {reason}",
    "correct the line that it names, then 'fioagent doctor'",
)
NOT_INI = Cause(
    "sota-not-ini",
    "cannot use {path}: not what aktualizr-lite reads: {reason}",
    "each key once, each section once, one line: name = \"value\"; then 'fioagent doctor'",
)
READ_DIFFERENTLY = Cause(
    "sota-two-readings",
    "cannot edit {path}: aktualizr-lite reads {key} differently",
    'write it as one line: name = "value", without a comment behind it',
)
OPERATORS_FILE = Cause(
    "sota-managed",
    "cannot rotate: {path} sets {key}, and that file belongs to the operator",
    "take the credential's keys out of {name} (fioctl devices config)",
)
SOTA_READ_ONLY = Cause(
    "sota-read-only",
    "cannot rotate: {path} cannot be replaced: its directory or file is not writable",
    "mount it writable, or give the agent access (ReadWritePaths= of the unit)",
)
UNKNOWN_SETTING = Cause(
    "unknown-setting",
    "cannot use {key} in {path}: there is no such setting",
    "settings are: {known}",
)
NO_ROOM = Cause(
    "no-room",
    "cannot rotate: {storage} has {free} KiB free, {needed} are needed",
    "free some space on the file system of {storage}",
)
STORAGE_READ_ONLY = Cause(
    "storage-read-only",
    "cannot rotate: {storage} is not writable",
    "mount it writable: mount -o remount,rw; after a fault look at it with fsck first",
)
READABLE_BY_OTHERS = Cause(
    "readable-by-others",
    "others can read {path}: its mode is {mode}",
    "chmod {wanted} {path}",
)
NOT_OURS = Cause(
    "not-ours",
    "{path} belongs to user {owner}, and fioagent is user {us}",
    "chown {us} {path}: the service cannot keep another owner",
)
TRUST_FILE = Cause(
    "trust-file",
    "cannot use the trust file {path}: no certificate in it",
    "put the factory's root there: root.crt of the registration",
)
ROOT_EXPIRED = Cause(
    "root-expired",
    "no root in the trust file is valid: {subject} expired on {date}",
    "ask the operator for the new root, then 'fioagent trust add FILE'",
)

# --- the credential ---

NO_CERTIFICATE = Cause(
    "certificate-missing",
    "cannot find the certificate {path}",
    "put it back, or register the device again",
)
NO_PAIR = Cause(
    "pair-mismatch",
    "cannot use the credential: the key {key} does not belong to the certificate {certificate}",
    "put the matching pair back, or register the device again",
)
EXPIRED = Cause(
    "certificate-expired",
    "the certificate expired on {date}",
    "'fioagent rotate --now': some servers take it all the same; else register again",
)
VALUES_LOST = Cause(
    "values-lost",
    "cannot decrypt {names} in {origin} with the keys of this device",
    "the operator has to set these files again for this device",
)
PLACE_TAKEN = Cause(
    "place-taken",
    "cannot rotate: {path} exists already",
    "choose another rotation id with --id",
)

# --- tokens ---

MODULE = Cause(
    "token-module",
    "cannot load the PKCS#11 module {module}",
    "p11.module of sota.toml has to name it; is its package installed?",
)
NO_TOKEN = Cause(
    "token-missing",
    "cannot {doing} {place}: there is no such token",
    "is its store there (SoftHSM: tokendir, TPM: TPM2_PKCS11_STORE)? Wiped: register again",
)
PIN_WRONG = Cause(
    "pin-wrong",
    "cannot {doing} {place}: the PIN is wrong",
    "p11.pass of sota.toml has to be the token's user PIN; it is not tried again by itself",
)
PIN_LOCKED = Cause(
    "pin-locked",
    "cannot {doing} {place}: the PIN is locked",
    "unlock the token with its SO PIN, or clear a TPM's dictionary lockout",
)
TPM_LOCKED = Cause(
    "tpm-locked",
    "cannot {doing} {place}: the PIN is locked: the TPM takes none until {until} at the latest",
    "wait until then, or 'tpm2_dictionarylockout --clear-lockout'; correct p11.pass first",
)
PIN_LAST_TRY = Cause(
    "pin-last-try",
    "{place} would be locked by one more wrong PIN",
    "correct p11.pass of sota.toml first; the right PIN, or its owner, gives the tries back",
)
OBJECT_MISSING = Cause(
    "token-object-missing",
    "cannot use {place}: {what} is in it",
    "'pkcs11-tool -O' lists what is there; [p11] of sota.toml names what is used",
)
NOT_DERIVING = Cause(
    "key-does-not-derive",
    "cannot decrypt with the key {key} in {place}: it signs, but it does not derive "
    "(CKA_DERIVE, CKM_ECDH1_DERIVE)",
    "a TPM needs tpm2-pkcs11 1.9.1 or later, and a key that it has made",
)
ID_TAKEN = Cause(
    "token-id-taken",
    "cannot use the id {id} in {place}: {what} has it",
    "choose other ids with PKEYIDS and CERTIDS, or token.key_ids and "
    "token.certificate_ids of the settings; nothing of others is removed",
)
HANGS = Cause(
    "no-answer",
    "the check did not end within {limit} s",
    "a token: is its daemon (tpm2-abrmd, tee-supplicant, pcscd) running? a server: it takes "
    "connections and says nothing",
)

# --- the way to the servers ---

NAME = Cause(
    "name-not-found",
    "cannot find {host}: {reason}",
    "check the network and the name server",
)
NOT_REACHED = Cause(
    "not-reached",
    "cannot reach {peer}: {reason}",
    "check cable, route and firewall; is a proxy needed here (proxy.url of the settings)?",
)
PROXY_NOT_REACHED = Cause(
    "proxy-not-reached",
    "cannot reach the proxy {proxy}: {reason}",
    "check proxy.url and proxy.except of the settings",
)
PROXY_REFUSES = Cause(
    "proxy-refuses",
    "cannot reach {peer}: the proxy {proxy} answered {answer}",
    "check proxy.url and proxy.except of the settings",
)
NOT_TRUSTED = Cause(
    "not-trusted",
    "cannot trust {peer}: {reason}",
    "check the server name, the trust file import.tls_cacert_path, the device's "
    "clock, and whether a proxy stands in between",
)
INTERCEPTED = Cause(
    "intercepted",
    "{error}; the certificate it shows is from {issuer}",
    "that issuer is not in the trust file: either the trust file is another factory's, "
    "or a proxy stands in between and intercepts TLS; let it pass this host untouched",
)
STRIPPED = Cause(
    "certificate-removed",
    "{error}; nobody asked for the device's certificate: a proxy removed it",
    "whatever ends TLS before the gateway has to pass it through untouched",
)

# --- servers ---

REFUSED = Cause(
    "certificate-refused",
    "{peer} refuses the device's certificate: {alert}",
    "compare the certificate ('fioagent status') with what the operator knows of this device",
)
UNSUPPORTED = Cause(
    "no-rotation",
    "cannot rotate: this gateway does not support rotation ({error})",
    "nothing was changed; the device goes on with its certificate",
)
WAITS_FOR_ANOTHER = Cause(
    "waits-for-another-key",
    "{error}; it still waits for the key of {rotation}",
    "the operator has to end that rotation: 'fioctl devices updates' names it",
)
WAITS_FOR_OURS = Cause(
    "rotation-open",
    "the server still waits for the key of rotation {id}, which is at {phase}",
    "'fioagent rotate --now' goes on with it",
)
OPEN = Cause(
    "rotation-begun",
    "rotation {id} is open at {phase}; the gateway does not know of it yet",
    "'fioagent rotate --now' goes on with it, 'fioagent cancel' gives it up",
)
NO_EST = Cause(
    "no-est-server",
    "cannot {doing}: no EST server is known",
    "give it with --est-server, or set est.server in /etc/fioagent/fioagent.toml",
)
TOO_MANY = Cause(
    "too-many-requests",
    "cannot begin a rotation: {limit} certificates were requested within a day",
    "wait until tomorrow, or raise rotation.issuances_per_day",
)

# --- the agent, and others on the device ---

AT_WORK = Cause(
    "at-work",
    "cannot start: {holder} is at work",
    "wait until it has ended; 'fioagent status' shows how far it is",
)
FIOCONFIG_RUNS = Cause(
    "fioconfig-runs",
    "cannot take over the rotation of fioconfig, {path}: fioconfig is running",
    "systemctl disable --now fioconfig.service fioconfig.path, then try again",
)
FIOCONFIGS_ROTATION = Cause(
    "fioconfigs-rotation",
    "fioconfig has left rotation {id} half-done in {path}, with a private key in it",
    "'fioagent rotate --now' takes it over and removes the file",
)
BESIDE_FIOCONFIG = Cause(
    "beside-fioconfig",
    "{unit} is {state} beside fioagent: both would edit sota.toml",
    "systemctl disable --now fioconfig.path fioconfig.service",
)
NOT_RUNNING = Cause(
    "service-not-running",
    "{unit} is {state}",
    "systemctl enable --now fioagent.path fioagent.service; 'journalctl -u {unit}' tells why",
)
START_LIMIT = Cause(
    "start-limit",
    "{unit} has used {used} of {limit} starts within {interval} s; the next may reboot the device",
    "systemctl reset-failed {unit}",
)
JOURNAL_DAMAGED = Cause(
    "journal-damaged",
    "cannot read the journal {path}: it is damaged ({reason})",
    "nothing was changed and the live credential stays in use; 'fioagent rotate --now "
    "--id ID' with a new id sets it aside and goes on from what is sound",
)
KEY_LEFT = Cause(
    "key-left-behind",
    "{path} holds what fioconfig has left in it, a private key among it",
    "'fioagent rotate' removes it; stop fioconfig first",
)
KEY_UNNAMED = Cause(
    "key-unnamed",
    "{path} is a private key that neither sota.toml nor a rotation names",
    "ask the operator whether anything uses it; if not: rm {path}",
)


def table() -> Iterator[Cause]:
    """Every row, in order."""
    return (each for each in globals().values() if isinstance(each, Cause))

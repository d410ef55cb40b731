"""Text without the secrets in it. Pure.

Two nets: the secrets that are known on this device, in every spelling that files and logs
give them; and forms that hold a secret whatever it is. What slips through both is looked
for once more where a whole is put together (``leaks``).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote, urlsplit

GONE: Final = "[redacted]"
_SHORTEST: Final = 4  # characters: PINs have as many; less would tear every text apart
_ANYWHERE: Final = 6  # shorter ones only where they stand alone
_FEW: Final = 64  # lines; of a longer value each has its plain spelling alone
_COMMON: Final = frozenset(("true", "false", "none", "null", "http", "https", "enabled"))
_PEM_LINE: Final = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]+-----")  # stands in any of them
_WORD: Final = r"[A-Za-z0-9]"
_NAMES: Final = r"pass(?:word|wd|phrase)?|pin|secret|token|psk|(?:private|api|preshared)[_-]?key"
_FORMS: Final = (
    # A key in any PEM form, in a JSON string too, and one that was cut off.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        GONE,
    ),
    # user:password@ of a URL; the password may have a @ in it
    (re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/\"'<>]*@"), rf"\g<1>{GONE}@"),
    (
        re.compile(r"(?i)(\bauthorization\b[\"']?\s*[:=]\s*[\"']?(?:[A-Za-z]+\s+)?)[^\s\"']+"),
        rf"\g<1>{GONE}",
    ),
    (re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\g<1>{GONE}"),
    # NAME = value of TOML, INI, environments and JSON
    (
        re.compile(
            rf"(?im)((?:^|[\s\"'{{,;_.-])(?:{_NAMES})[\"']?\s*[:=]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;}}]+)"
        ),
        rf"\g<1>{GONE}",
    ),
    (
        re.compile(
            r"(\"(?:NewKey|NewCert|FullConfigEncrypted)\"\s*:\s*)\"(?:[^\"\\]|\\.)*(?:\"|\Z)"
        ),
        rf'\g<1>"{GONE}"',
    ),
)


class Redactor:
    """Knows the secrets of one device."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        """``secrets``: whole values, as they are in files or in memory."""
        found = {spelling for secret in secrets for spelling in _spellings(secret)}
        # The longest first: a part of a secret must not hide the rest of it.
        known = sorted(found, key=lambda each: (-len(each), each))
        # Not one pattern of all: a bundle of certificates has thousands of lines.
        self._known = [each for each in known if len(each) >= _ANYWHERE]
        short = (re.escape(each) for each in known if len(each) < _ANYWHERE)
        self._alone = re.compile(rf"(?<!{_WORD})(?:{'|'.join(short) or '(?!)'})(?!{_WORD})")

    def text(self, text: str) -> str:
        """``text`` with every secret replaced."""
        for form, instead in _FORMS:
            text = form.sub(instead, text)
        for known in self._known:
            text = text.replace(known, GONE)
        return self._alone.sub(GONE, text)

    def leaks(self, text: str) -> bool:
        """Whether there is a secret in it all the same."""
        if "PRIVATE KEY-----" in text or self._alone.search(text) is not None:
            return True
        return any(known in text for known in self._known)


def passwords(url: str) -> Iterator[bytes]:
    """Of a URL with ``user:password@``; the pair too as Proxy-Authorization has it."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        user, password = parts.username or "", parts.password
    except ValueError:
        return
    if password:
        plain = unquote(password)
        yield from (password.encode(), plain.encode())
        yield base64.b64encode(f"{unquote(user)}:{plain}".encode())


def _spellings(secret: bytes) -> Iterator[str]:
    """The whole, its lines, and what stands behind NAME= in them; as text, JSON, base64, URL."""
    text = secret.decode("utf-8", "replace").replace("\r\n", "\n").strip("\n")
    lines = text.split("\n")
    parts = [text, *lines]
    if len(lines) <= _FEW:
        parts += [re.split(r"[=:]\s*", line, maxsplit=1)[-1] for line in lines]
    for part in parts:
        plain = part.strip().strip("\"'")
        if len(plain) < _SHORTEST or plain.lower() in _COMMON or _PEM_LINE.fullmatch(plain):
            continue
        yield plain
        if len(lines) <= _FEW or part is text:
            yield from (json.dumps(plain)[1:-1], quote(plain, safe=""))
            yield from _as_base64(plain.encode())
    yield from _as_base64(secret)


def _as_base64(secret: bytes) -> Iterator[str]:
    if len(secret) >= _ANYWHERE:
        yield base64.b64encode(secret).decode("ascii").rstrip("=")

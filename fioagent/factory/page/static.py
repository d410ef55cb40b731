"""The page for a browser: its files, and what keeps strangers away from it.

The files tell nothing that is not in the source, so they need no token. The page has the token
from behind the # of its address, which a browser sends to nobody, and asks the operator API
with it. It runs its own script alone and talks to its own server alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from importlib import resources
from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Response, request

from fioagent.factory.servers.answers import message, nothing

# Path, and the file with its type. A browser asks for an icon in any case.
FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/sections.js": ("sections.js", "text/javascript; charset=utf-8"),
    "/elements.js": ("elements.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
PATHS: Final = frozenset(FILES)
CONTROL: Final = "/control/"  # what the page asks for

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        # What devices send is text: the browser refuses to read any of it as HTML.
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    content_type: str
    tag: str  # ETag: another one once the content is another


def add_routes(app: Flask) -> None:
    """The files, and for them and all of ``/control/`` the headers and the look at ``Host``."""
    # Read now: a package without them is found when it starts, not by a person's browser.
    files = {path: _read(*named) for path, named in FILES.items()}

    @app.before_request
    def look_at_the_host() -> Response | None:
        if _is_ours() and not is_own_name(request.headers.get("Host", "")):
            return message(
                421, "The page is there under an IP address or localhost, and under no other name"
            )
        return None

    @app.after_request
    def guard(answer: Response) -> Response:
        if _is_ours():
            answer.headers.update(HEADERS)
            # Asked again each time; what has a tag is then mostly a 304.
            answer.headers["Cache-Control"] = "no-cache" if request.path in PATHS else "no-store"
        return answer

    def send() -> Response:
        file = files[request.path]
        same = file.tag in request.if_none_match.as_set(include_weak=True)
        answer = nothing(304) if same else Response(file.content, content_type=file.content_type)
        answer.set_etag(file.tag)
        return answer

    for path in FILES:
        app.add_url_rule(path, f"page {path}", send, methods=["GET"])


def _is_ours() -> bool:
    return request.path in PATHS or request.path.startswith(CONTROL)


def is_own_name(host: str) -> bool:
    """Whether ``Host`` is no name that a stranger could have pointed at this machine.

    A web site may let its own name resolve to a loopback address (DNS rebinding), and then its
    scripts and ours would be of one origin.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read(name: str, content_type: str) -> File:
    content = (resources.files("fioagent.factory.page") / name).read_bytes()
    return File(content, content_type, hashlib.sha256(content).hexdigest()[:16])

"""What Python's ``ssl`` cannot do and the OpenSSL below it can, by ctypes (docs/adr/0004, 0009).

``dlsym`` on the handle of the ``_ssl`` extension walks the libraries that it is
linked with, so every function here is of the very OpenSSL that ``ssl`` uses.
``SSL_CTX*`` is the first member behind the object header in every CPython 3;
nothing is done through it unless what it shows is what Python reports.
"""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import functools
import ssl
import sys
from collections.abc import Callable
from typing import Any, Final

Sign = Callable[[bytes], bytes]  # of a digest, as DER ECDSA-Sig-Value (RFC 3279 section 2.2.3)

_NID_P256: Final = 415  # X9_62_prime256v1, obj_mac.h
_CTRL_MODE: Final = 33  # SSL_CTRL_MODE, ssl.h
_MODE_NO_AUTO_CHAIN: Final = 8
_POINTER: Final = ctypes.c_void_p
_BYTES: Final = ctypes.POINTER(ctypes.c_ubyte)
_SIGN: Final = ctypes.CFUNCTYPE(
    ctypes.c_int,  # 1 where it has signed
    *(ctypes.c_int, _BYTES, ctypes.c_int),  # type, digest and its length
    *(_BYTES, ctypes.POINTER(ctypes.c_uint)),  # signature and its length
    *(_POINTER, _POINTER, _POINTER),  # inverse and r, made before by nobody; the key
)
_ASKED: Final = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER)  # SSL_CTX_set_cert_cb(3)
_SIGN_SIG: Final = ctypes.CFUNCTYPE(_POINTER, _BYTES, ctypes.c_int, _POINTER, _POINTER, _POINTER)


class OpenSslError(Exception):
    """OpenSSL would not do it, or cannot be reached from here."""


class _Library:
    """Functions with their types; each is looked up once."""

    def __init__(self) -> None:
        if sys.implementation.name != "cpython" or not hasattr(_ssl, "__file__"):
            raise OpenSslError("this Python's OpenSSL is out of reach: it is linked statically")
        self._image = ctypes.CDLL(_ssl.__file__)

    def call(self, name: str, result: type | None, *arguments: object) -> int:
        """Integers are passed as C int where they are wrapped so, else as pointers."""
        try:
            function = getattr(self._image, name)
        except AttributeError:
            raise OpenSslError(f"this OpenSSL has no {name}") from None
        function.restype = result
        found = function(*arguments)
        return 0 if found is None else int(found)

    def made(self, name: str, *arguments: object) -> int:
        """A pointer; OpenSslError where there is none."""
        pointer = self.call(name, _POINTER, *arguments)
        if not pointer:
            raise OpenSslError(f"{name}: {self._reason()}")
        return pointer

    def done(self, name: str, *arguments: object) -> None:
        """OpenSslError where the function does not return 1."""
        if self.call(name, ctypes.c_int, *arguments) != 1:
            raise OpenSslError(f"{name}: {self._reason()}")

    def _reason(self) -> str:
        """The latest of OpenSSL's errors; the queue is empty afterwards."""
        reasons = []
        while code := self.call("ERR_get_error", ctypes.c_ulong):
            text = ctypes.create_string_buffer(256)
            self.call("ERR_error_string_n", None, ctypes.c_ulong(code), text, ctypes.c_size_t(256))
            reasons.append(text.value.decode("ascii", "replace").rpartition(":")[2])
        return reasons[-1] if reasons else "no reason given"


@functools.cache
def _library() -> _Library:
    return _Library()


def _context(context: ssl.SSLContext) -> ctypes.c_void_p:
    """``SSL_CTX*``. Raises OpenSslError: another layout."""
    pointer = _POINTER.from_address(id(context) + object.__basicsize__)
    options = _library().call("SSL_CTX_get_options", ctypes.c_uint64, pointer)
    if options & 0xFFFFFFFF != int(context.options) & 0xFFFFFFFF:
        raise OpenSslError("SSL_CTX is not where CPython keeps it")
    return pointer


def forget_errors() -> None:
    """This thread's queue of errors is empty, as OpenSSL wants it before each call of TLS.

    A token's module may use the same OpenSSL and leave some behind (SoftHSM does, where it
    makes a key): the next read of a connection that is open would take them for its own.
    Without the library at hand nothing is done; then no token is there either.
    """
    with contextlib.suppress(OpenSslError):
        _library().call("ERR_clear_error", None)


def send_leaf_only(context: ssl.SSLContext) -> None:
    """Stop OpenSSL from adding issuers out of the trust file to the client's certificate.

    Raises:
        OpenSslError: it cannot be reached.
    """
    nothing = ctypes.c_void_p(None)
    _library().call(
        "SSL_CTX_ctrl",
        ctypes.c_long,
        *(_context(context), ctypes.c_int(_CTRL_MODE), ctypes.c_long(_MODE_NO_AUTO_CHAIN), nothing),
    )


def notice_requests(context: ssl.SSLContext) -> Callable[[], bool]:
    """Says whether a server has asked ``context`` for our certificate yet (SSL_CTX_set_cert_cb).

    Raises:
        OpenSslError: it cannot be reached.
    """
    number = len(_asked) + 1
    _library().call(
        "SSL_CTX_set_cert_cb", None, _context(context), _asked_thunk, ctypes.c_void_p(number)
    )
    _asked[number] = False
    return lambda: _asked[number]


def use_signer(context: ssl.SSLContext, certificate_der: bytes, point: bytes, sign: Sign) -> None:
    """Let ``context`` show ``certificate_der`` and sign with ``sign``, which has the P-256 key.

    ``point`` is the public key, 65 bytes (X9.62 uncompressed). What ``sign`` raises
    ends the handshake with ssl.SSLError, and is in ``sign_error`` then.

    Raises:
        OpenSslError: OpenSSL cannot do so, or key and certificate do not belong together.
    """
    library, pointer = _library(), _context(context)
    length = ctypes.c_int(len(certificate_der))
    library.done("SSL_CTX_use_certificate_ASN1", pointer, length, certificate_der)
    key = _pkey(library, point, sign)
    try:
        library.done("SSL_CTX_use_PrivateKey", pointer, _POINTER(key))
        library.done("SSL_CTX_check_private_key", pointer)
    finally:
        library.call("EVP_PKEY_free", None, _POINTER(key))  # the context has its own reference


def require_signers() -> None:
    """Raises OpenSslError: ``use_signer`` cannot work with this Python."""
    library = _library()
    _context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    _method(library)


def sign_error() -> BaseException | None:
    """What a signer has raised last; None where nothing since the last look."""
    error, _failed[:] = _failed[-1] if _failed else None, []
    return error


# One method and three thunks for the process, never freed: an SSL_CTX outlives its Python owner.
_asked: Final[dict[int, bool]] = {}  # by the number that the callback is given
_signers: Final[dict[int, Sign]] = {}  # by EC_KEY*
_failed: Final[list[BaseException]] = []


def _note_request(_connection: int, number: int) -> int:
    """A server wants a certificate; the handshake goes on with ours."""
    _asked[number] = True
    return 1


def _pkey(library: _Library, point: bytes, sign: Sign) -> int:
    """``EVP_PKEY*`` of an EC_KEY that signs by ``sign``."""
    key = library.made("EC_KEY_new_by_curve_name", ctypes.c_int(_NID_P256))
    try:
        # Before EVP_PKEY_set1_EC_KEY: OpenSSL 3 looks for a method only then.
        library.done("EC_KEY_set_method", _POINTER(key), _POINTER(_method(library)))
        size = ctypes.c_size_t(len(point))
        library.done("EC_KEY_oct2key", _POINTER(key), point, size, _POINTER(None))
        found = library.made("EVP_PKEY_new")
        library.done("EVP_PKEY_set1_EC_KEY", _POINTER(found), _POINTER(key))
        _signers[key] = sign
    finally:
        library.call("EC_KEY_free", None, _POINTER(key))
    return found


@functools.cache
def _method(library: _Library) -> int:
    """``EC_KEY_METHOD*``: OpenSSL's own, but for the two ways to sign."""
    method = library.made("EC_KEY_METHOD_new", _POINTER(library.made("EC_KEY_OpenSSL")))
    setup = _POINTER()
    library.call(
        "EC_KEY_METHOD_get_sign",
        None,
        *(_POINTER(method), _POINTER(None), ctypes.byref(setup), _POINTER(None)),
    )
    library.call(
        "EC_KEY_METHOD_set_sign", None, _POINTER(method), _signed_thunk, setup, _structure_thunk
    )
    return method


def _signature(digest: Any, length: int, key: int) -> bytes | None:
    """None where the signer has failed: no exception can go through C."""
    try:
        return _signers[key](ctypes.string_at(digest, length))
    except BaseException as error:  # noqa: BLE001  # see above
        _failed.append(error)
        return None


def _sign(  # noqa: PLR0917  # OpenSSL's, ec.h: EC_KEY_METHOD_set_sign
    _type: int, digest: Any, length: int, signature: Any, size: Any, _i: int, _r: int, key: int
) -> int:
    """Into the caller's buffer, which has room for any signature of this curve."""
    found = _signature(digest, length, key)
    if found is None:
        return 0
    ctypes.memmove(signature, found, len(found))
    size[0] = len(found)
    return 1


def _sign_structure(digest: Any, length: int, _i: int, _r: int, key: int) -> int:
    """As ``ECDSA_SIG*``; 0 is NULL."""
    found = _signature(digest, length, key)
    if found is None:
        return 0
    read = ctypes.c_char_p(found)
    size = ctypes.c_long(len(found))
    return _library().call("d2i_ECDSA_SIG", _POINTER, None, ctypes.byref(read), size)


_asked_thunk: Final = _ASKED(_note_request)
_signed_thunk: Final = _SIGN(_sign)
_structure_thunk: Final = _SIGN_SIG(_sign_structure)

"""The way from a certificate to a trust anchor, with the ways to be led astray."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.chain import ChainError, Path, path
from fioagent.x509 import Certificate

from . import made
from .made import NOW, Authority, Extension

_DAY = timedelta(days=1)
_CA: list[Extension] = [(x509.BasicConstraints(ca=True, path_length=None), True)]
_ROOT, _OTHER = made.authority("root"), made.authority("root")  # of one name, with two keys
_KEY = made.new_key()


def _below(
    issuer: Authority, name: str, extensions: list[Extension] = _CA, *, ends: int = 99
) -> Authority:
    key = made.new_key()
    certificate = issuer.issue(
        key.public_key(), made.common_name(name), extensions=extensions, ends=NOW + ends * _DAY
    )
    return Authority(key, certificate)


_MIDDLE = _below(_ROOT, "middle")
_LEAF = _below(_MIDDLE, "leaf", [])


def _path(leaf: Authority, company: list[Authority], anchors: list[Authority]) -> Path:
    def read(authority: Authority) -> Certificate:
        return Certificate.from_der(made.der(authority.certificate))

    return path(read(leaf), [read(each) for each in company], [read(a) for a in anchors], NOW)


def test_it_leads_over_the_company_to_an_anchor() -> None:
    """In any order, and with strangers among them."""
    found = _path(_LEAF, [_OTHER, _MIDDLE], [_OTHER, _ROOT])

    assert Path(True, "", True) == found


def test_what_is_sent_along_is_no_anchor() -> None:
    """A root in the answer, or in cacerts, is not trusted for that."""
    found = _path(_LEAF, [_ROOT, _MIDDLE], [_below(_ROOT, "else")])

    assert (False, "root 'CN=root' is not in the trust file") == (found.anchored, found.end)


def test_a_root_that_nobody_trusts_ends_at_itself() -> None:
    assert _path(_ROOT, [_ROOT], [_MIDDLE]).end == "root 'CN=root' is not in the trust file"


def test_where_it_ends_is_said() -> None:
    assert _path(_LEAF, [], [_ROOT]).end == "issuer 'CN=middle' is nowhere at hand"
    assert not _path(_LEAF, [], [_ROOT]).issuer_known
    assert _path(_LEAF, [_MIDDLE], []).end == "issuer 'CN=root' is nowhere at hand"


def test_old_and_new_root_vouch_for_each_other() -> None:
    """RFC 7030 section 4.1.3, NewWithOld: the new root's key, signed by the old one."""
    cross = Authority(
        _OTHER.key, _ROOT.issue(_OTHER.key.public_key(), made.common_name("root"), extensions=_CA)
    )
    new_leaf = _below(_OTHER, "leaf", [])

    for company in permutations((cross, _OTHER, _ROOT)):
        assert _path(new_leaf, list(company), [_ROOT]).anchored
    assert not _path(new_leaf, [_OTHER], [_below(_ROOT, "else")]).anchored


def test_certificates_in_a_circle_end() -> None:
    """Two CAs that have signed each other, and no anchor."""
    one, two = made.authority("one"), made.authority("two")
    ring = [
        Authority(
            own.key, other.issue(own.key.public_key(), made.common_name(name), extensions=_CA)
        )
        for own, other, name in ((one, two, "one"), (two, one, "two"))
    ]

    assert _path(_below(one, "leaf", []), ring, [_ROOT]).end == "no root within 8 steps"


def test_an_issuer_that_has_expired_is_worth_a_word() -> None:
    old = _below(_ROOT, "old", ends=-1)

    assert ("its issuer 'CN=old' has expired",) == _path(_below(old, "l", []), [old], [_ROOT]).notes


@pytest.mark.parametrize(
    ("extensions", "complaint"),
    [
        ([(x509.BasicConstraints(ca=False, path_length=None), True)], "'CN=middle' is no CA"),
        ([], "'CN=middle' is no CA"),
    ],
)
def test_whoever_is_no_ca_issues_nothing(extensions: list[Extension], complaint: str) -> None:
    middle = _below(_ROOT, "middle", extensions)

    with pytest.raises(ChainError, match=complaint):
        _path(_below(middle, "leaf", []), [middle], [_ROOT])


def test_a_signature_of_somebody_else_by_that_name() -> None:
    with pytest.raises(ChainError, match="not that of the issuer it names"):
        _path(_LEAF, [_below(_ROOT, "middle")], [_ROOT])


def test_another_key_identifier_than_the_issuers() -> None:
    """V12: signed by this key, and says that it was another one's."""
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    own = x509.SubjectKeyIdentifier.from_public_key(_KEY.public_key())
    middle = _below(_ROOT, "middle", [*_CA, (own, False)])
    wrong = x509.AuthorityKeyIdentifier.from_issuer_public_key(stranger)

    with pytest.raises(ChainError, match="authority key identifier is not that of its issuer"):
        _path(_below(middle, "leaf", [(wrong, False)]), [middle], [_ROOT])

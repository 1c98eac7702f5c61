"""Versions, fields and relations."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsnap.debian import relations, version
from envsnap.debian.control import dump, stanza, stanzas
from envsnap.errors import InputError

PIECES = st.lists(st.sampled_from(["0", "1", "00", "10", "9", "a", "Z", "~", "+", ".", "rc", "~~"]), max_size=6).map("".join)
VERSIONS = st.builds(
    lambda epoch, first, rest, revision: f"{epoch}{first}{rest}{revision}",
    st.sampled_from(["", "0:", "1:", "10:"]),
    st.sampled_from("0129"),
    PIECES,
    st.sampled_from(["", "-0", "-1", "-1~deb12u1", "-1+b2", "-a"]),
)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg")
@settings(max_examples=150, deadline=None)
@given(VERSIONS, VERSIONS)
def test_versions_sort_as_dpkg_says(left: str, right: str) -> None:
    for relation, word in (("<<", "lt"), ("=", "eq")):
        said = subprocess.run(["dpkg", "--compare-versions", left, word, right], check=False).returncode == 0
        assert version.satisfies(left, relation, right) == said, (left, word, right)


def test_versions_in_order() -> None:
    ordered = ["1~~", "1~~a", "1~", "1", "1a", "1+", "1.0", "1.0-1", "1.0-1+b1", "1.0-2", "1.10", "1:0"]
    backwards = ordered[::-1]
    assert sorted(backwards, key=version.key) == ordered
    assert version.key("1.0") == version.key("0:1.00-0")
    assert version.satisfies("0~", "<<", "0") and version.satisfies("", "=", "0")
    assert version.satisfies("1", "", "9")
    assert version.satisfies("²:1", "<<", "²:2")  # no epoch: such a digit is none
    assert version.satisfies("1", ">=", "1") and version.satisfies("2", ">>", "1") and not version.satisfies("1", ">>", "1")


def test_stanzas() -> None:
    text = "Package: a\nDescription: one\n two\n .\n\n\nPackage: b\nConffiles:\n /etc/b 0123\n"
    first, second = stanzas(text, what="x")
    assert first == {"Package": "a", "Description": "one\n two\n ."}
    assert dump(first) + "\n" + dump(second) == text.replace("\n\n\n", "\n\n")


@pytest.mark.parametrize("text", [" Package: a", "Package a", "A: 1\nA: 2", "\tx"])
def test_what_is_no_stanza_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot read it"):
        stanza(text, what="cannot read it")


def test_relations() -> None:
    (first, second) = relations.parse("libc6 (>= 2.34) | libc6.1:any, python3:any (<< 3.12~)")
    assert [str(one) for one in (*first, *second)] == ["libc6 (>= 2.34)", "libc6.1:any", "python3:any (<< 3.12~)"]
    assert relations.parse("") == () == relations.parse(" ,\n ")


@pytest.mark.parametrize("text", ["a (1.0)", "a (>= 1", "a b", "a [amd64]", "|", "-a"])
def test_what_is_no_relation_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        relations.parse(text)

"""A text that parses to what it was made of, whatever the values, with comments that are nothing but comments."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from envsnap.launch.commented import Commented, Node, dump

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["yes", "no", "y", "on", "null", "~", "1e3", "0o17", "1_000", "0x1f", "22:22:22", "2001-01-01", "- a", "a: b", "# x", "{}"]
    ),
    st.sampled_from(
        ["a\n  evil: true", "\u2028", "\x85", "\x7f", "%TAG", "!!python/object", "&a", "*a", "<<", "'", '"', "\\", "a ", " a", "=", ""]
    ),
)
SCALARS = st.one_of(TEXTS, st.integers(), st.booleans())
NODES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def plain(node: Node) -> object:
    if isinstance(node, Commented):
        return plain(node.value)
    if isinstance(node, tuple):
        return [plain(one) for one in node]
    return {key: plain(value) for key, value in node.items()} if isinstance(node, dict) else node


@given(NODES)
def test_any_value_comes_back(node: Node) -> None:
    assert yaml.safe_load(dump(node)) == plain(node)
    assert dump(node).isascii()


@given(NODES, st.text("abc #:-'\"{}[]", max_size=20))
def test_a_comment_is_no_value(node: Node, said: str) -> None:
    assert yaml.safe_load(dump({"a": Commented((said, said), node), "b": 1})) == {"a": plain(node), "b": 1}


@pytest.mark.parametrize("said", ["a\nevil: true", "a\rb", "a\u2028b", "\x1b[31m"])
def test_a_line_of_a_comment_is_one(said: str) -> None:
    with pytest.raises(ValueError, match="no line of a comment"):
        dump({"a": Commented((said,), 1)})


def test_how_it_looks() -> None:
    tree: Node = {"a": Commented(("Why.",), ("x", {"b": 1, "c": ("y", ())})), "d": {}, "e": "1e3"}
    assert dump(tree) == '# Why.\na:\n  - x\n  - b: 1\n    c:\n      - y\n      - []\nd: {}\ne: "1e3"\n'

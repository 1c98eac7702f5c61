from __future__ import annotations

import pytest

from envsnap.oci.paths import parents


@pytest.mark.parametrize(("path", "above"), [("a/b/c", ["a/b", "a"]), ("a", []), ("", []), ("a/", ["a"])])
def test_parents_are_innermost_first_and_never_the_root(path: str, above: list[str]) -> None:
    assert [*parents(path)] == above

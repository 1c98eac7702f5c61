"""From what is wanted to all that must be installed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from envsnap.debian.index import Index
from envsnap.debian.package import installed
from envsnap.debian.resolve import Resolution, are_there, resolve
from envsnap.errors import InputError, PlanError

BASE = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\nProvides: libc\n"


def packages(*stanzas: Mapping[str, str]) -> Index:
    whole = []
    for number, fields in enumerate(stanzas):
        name, version = fields["Package"], fields.get("Version", "1.0")
        own = {
            "Version": version,
            "Architecture": "amd64",
            **fields,
            "Filename": f"pool/{name}_{version}.deb",
            "Size": "1",
            "SHA256": f"{number:064d}",
        }
        whole.append("".join(f"{key}: {value}\n" for key, value in own.items()))
    return Index([("\n".join(whole).encode(), "main")])


def names(resolution: Resolution) -> list[str]:
    return [str(package) for package in resolution.packages]


def solve(index: Index, *wanted: str, base: str = BASE) -> list[str]:
    return names(resolve(index, wanted, installed(base), "amd64"))


def test_dependencies_follow_and_what_is_there_stays() -> None:
    index = packages(
        {"Package": "a", "Depends": "b (>= 1), libc6 (>= 2.17)", "Recommends": "never"},
        {"Package": "b", "Pre-Depends": "c | d"},
        {"Package": "c", "Depends": "a"},
        {"Package": "d"},
        {"Package": "libc6", "Version": "2.37-1"},
    )
    assert solve(index, "a") == ["a 1.0", "b 1.0", "c 1.0"]


def test_an_alternative_that_is_there_or_chosen_is_enough() -> None:
    index = packages({"Package": "a", "Depends": "missing | b | c"}, {"Package": "b"}, {"Package": "c"})
    assert solve(index, "a") == ["a 1.0", "b 1.0"]
    assert solve(index, "c", "a") == ["a 1.0", "c 1.0"]


def test_the_newest_version_that_fits_is_taken() -> None:
    index = packages(
        {"Package": "a", "Version": "1.9"},
        {"Package": "a", "Version": "1.10"},
        {"Package": "b", "Depends": "a (<< 1.10)"},
    )
    assert solve(index, "a") == ["a 1.10"]
    assert solve(index, "b") == ["a 1.9", "b 1.0"]
    assert solve(index, "a=1.9") == ["a 1.9"]
    with pytest.raises(PlanError, match="cannot install a") as caught:
        solve(index, "a", "b")
    assert caught.value.why == "b needs it, and a 1.10 was chosen for the plan"


def test_virtual_packages() -> None:
    index = packages(
        {"Package": "needs", "Depends": "mail-agent"},
        {"Package": "versioned", "Depends": "mail-agent (>= 2)"},
        {"Package": "optional-one", "Provides": "mail-agent", "Priority": "optional"},
        {"Package": "standard-one", "Provides": "mail-agent (= 2.1), other", "Priority": "standard"},
    )
    assert solve(index, "needs") == ["needs 1.0", "standard-one 1.0"]
    assert solve(index, "optional-one", "needs") == ["needs 1.0", "optional-one 1.0"]
    assert solve(index, "optional-one", "versioned") == ["optional-one 1.0", "standard-one 1.0", "versioned 1.0"]
    assert solve(packages({"Package": "x", "Depends": "libc"}), "x") == ["x 1.0"]


def test_architectures() -> None:
    index = packages(
        {"Package": "a", "Depends": "b:any, c:amd64"}, {"Package": "b"}, {"Package": "c"}, {"Package": "d", "Depends": "b:i386"}
    )
    assert solve(index, "a") == ["a 1.0", "b 1.0", "c 1.0"]
    with pytest.raises(PlanError, match="b:i386"):
        solve(index, "d")
    other = BASE + "\nPackage: b\nStatus: install ok installed\nArchitecture: i386\nVersion: 1.0\n"
    assert solve(index, "a", base=other) == ["a 1.0", "b 1.0", "c 1.0"]


def test_what_has_to_be_replaced_is_said() -> None:
    index = packages({"Package": "a", "Depends": "libc6 (>= 2.37)"}, {"Package": "libc6", "Version": "2.37-1"})
    resolution = resolve(index, ["a"], installed(BASE), "amd64")
    assert names(resolution) == ["a 1.0", "libc6 2.37-1"] and resolution.upgrades == {"libc6": "2.36-9"}


def test_a_package_that_is_nowhere_is_named_with_the_way_to_it() -> None:
    index = packages({"Package": "a", "Depends": "b"}, {"Package": "b", "Depends": "gone (>= 3) | never"})
    with pytest.raises(PlanError) as caught:
        solve(index, "a")
    assert (caught.value.what, caught.value.why) == ("cannot install gone (>= 3) or never", "a → b needs it, and no index has it")
    with pytest.raises(PlanError, match="cannot install nothing"):
        solve(index, "nothing")


@pytest.mark.parametrize("field", ["Conflicts", "Breaks"])
def test_what_excludes_each_other_is_refused(field: str) -> None:
    index = packages(
        {"Package": "a", field: "b (<< 2)"}, {"Package": "b"}, {"Package": "c", field: "virtual"}, {"Package": "d", "Provides": "virtual"},
        {"Package": "self", field: "virtual", "Provides": "virtual"},
    )  # fmt: skip
    for pair in (("a", "b"), ("c", "d")):
        with pytest.raises(PlanError, match=f"cannot install {pair[0]} beside {pair[1]}"):
            solve(index, *pair)
    assert solve(index, "self") == ["self 1.0"]
    against_base = packages({"Package": "x", field: "libc6 (<< 2.37)"})
    with pytest.raises(PlanError, match="beside libc6") as caught:
        solve(against_base, "x")
    assert "the base's libc6 2.36-9" in caught.value.why


def test_packages_that_are_not_installed_do_not_count() -> None:
    gone = "Package: b\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1.0\n"
    assert solve(packages({"Package": "a", "Depends": "b"}, {"Package": "b"}), "a", base=gone) == ["a 1.0", "b 1.0"]


def test_an_index_that_is_none_is_refused() -> None:
    for text in (b"Package: a\nVersion 1", b"Package: a\nVersion: 1\n", b"Package: a\n\xff: 1\n"):
        with pytest.raises(InputError, match="cannot read an index"):
            solve(Index([(text, "main")]), "a")
    escaping = b"Package: a\nVersion: 1\nArchitecture: all\nFilename: ../../etc/x.deb\nSize: 1\nSHA256: " + b"0" * 64 + b"\n"
    with pytest.raises(InputError, match="cannot read an index"):
        solve(Index([(escaping, "main")]), "a")


@pytest.mark.parametrize("wanted", ["libc6", "libc6=2.36-9", "libc6=2.36-8", "libc", "a", "libc6:i386"])
def test_who_need_not_look_would_have_found_nothing_to_install(wanted: str) -> None:
    index = packages({"Package": "a"}, {"Package": "libc6", "Version": "2.36-8"})
    known = are_there([wanted], installed(BASE), "amd64")
    assert known == (wanted in ("libc6", "libc6=2.36-9", "libc"))
    if known:
        assert solve(index, wanted) == []
    assert not are_there([wanted], installed(BASE), "arm64")

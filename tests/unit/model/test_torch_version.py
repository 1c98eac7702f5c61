"""Versions of torch, in each of their spellings."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap.model.torch_version import TorchVersion, read, same_build


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2.13.0a0+9186a08", {"public": "2.13.0a0", "commit": "9186a08"}),
        ("2.14.0a0+4fdf77b940.nv26.08", {"public": "2.14.0a0", "commit": "4fdf77b940", "ngc": "26.08"}),
        ("2.14.0a0+4fdf77b940.nv26.8.63802676", {"public": "2.14.0a0", "commit": "4fdf77b940", "ngc": "26.08"}),
        ("2.14.0a0+4fdf77b940.nv26.12", {"public": "2.14.0a0", "commit": "4fdf77b940", "ngc": "26.12"}),
        ("1.11.0a0+17540c5+nv22.01", {"public": "1.11.0a0", "commit": "17540c5", "ngc": "22.01"}),
        ("2.1.0a0+41361538.nv23.06", {"public": "2.1.0a0", "commit": "41361538", "ngc": "23.06"}),
        ("2.17.0+nv25.2", {"public": "2.17.0", "ngc": "25.02"}),
        ("3.6.0+git1a2b3c4.nv26.3", {"public": "3.6.0", "commit": "1a2b3c4", "ngc": "26.03"}),
        ("2.12.1", {"public": "2.12.1"}),
        ("2.12.1+cu130", {"public": "2.12.1", "cuda": "13.0"}),
        ("2.12.1+cu13.0", {"public": "2.12.1", "cuda": "13.0"}),
        ("2.12.1+cu12", {"public": "2.12.1", "cuda": "12"}),
        ("2.0.1+cu117.with.pypi.cudnn", {"public": "2.0.1", "cuda": "11.7"}),
        ("1.7.0+cu92", {"public": "1.7.0", "cuda": "9.2"}),
        ("2.12.1+cpu", {"public": "2.12.1"}),
        ("2.12.1+rocm6.4", {"public": "2.12.1"}),
        ("2.13.0.dev20260401+cu130", {"public": "2.13.0.dev20260401", "cuda": "13.0", "nightly": dt.date(2026, 4, 1)}),
        ("2.13.0.dev20261301", {"public": "2.13.0.dev20261301"}),
        ("2.13.0a0+gitabc1234", {"public": "2.13.0a0", "commit": "abc1234"}),
        ("2.13.0a0+cu130.gitabc1234", {"public": "2.13.0a0", "commit": "abc1234", "cuda": "13.0"}),
        ("2.13.0a0+gitunknown", {"public": "2.13.0a0"}),
        # What only looks alike: a version of pycocotools, a month that is none, digits of another script, an empty text.
        ("2.0+nv0.8.1", {"public": "2.0"}),
        ("2.14.0a0+4fdf77b940.nv26.13", {"public": "2.14.0a0", "commit": "4fdf77b940"}),
        ("2.14.0a0+4fdf77b940.nv٢٦.٠٨", {"public": "2.14.0a0", "commit": "4fdf77b940"}),
        ("2.12.1+cu١٣٠", {"public": "2.12.1"}),
        ("", {"public": ""}),
    ],
)
def test_what_a_version_says(text: str, says: dict[str, Any]) -> None:
    found = read(text)
    assert {name: getattr(found, name) for name in ("public", "commit", "ngc", "cuda", "nightly")} == {
        "commit": None,
        "ngc": None,
        "cuda": None,
        "nightly": None,
        **says,
    }


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("2.14.0a0+4fdf77b", "2.14.0a0+4fdf77b940.nv26.08"),
        ("2.14.0a0+4fdf77b940.nv26.08", "2.14.0a0+4fdf77b940.nv26.8.63802676"),
        ("2.13.0a0+gitabc1234", "2.13.0a0+abc1234"),
        ("2.12.1", "2.12.1+cu130"),
        ("2.12.1+cu130", "2.12.1+cu13.0"),
        ("2.12.1+CU130", "2.12.1+cu130"),
        ("2.0.1+cu117", "2.0.1+cu117.with.pypi.cudnn"),
        ("2.12.1+cpu", "2.12.1+cpu"),
    ],
)
def test_spellings_of_one_build(left: str, right: str) -> None:
    assert same_build(read(left), read(right))
    assert same_build(read(right), read(left))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("2.14.0a0+4fdf77b", "2.14.0a0+4fdf77c"),
        ("2.7.0a0+ecf3bae", "2.6.0a0+ecf3bae"),
        ("2.6.0a0+df5bbc09d1.nv24.11", "2.6.0a0+df5bbc09d1.nv24.12"),
        ("2.17.0+nv25.2", "2.17.0+nv25.1"),
        ("2.12.1+cu126", "2.12.1+cu130"),
        ("2.12.1+cpu", "2.12.1+cu130"),
        ("2.0.0a0+1234567", "2.0.0a0"),
        ("2.13.0.dev20260401+cu130", "2.13.0.dev20260402+cu130"),
    ],
)
def test_two_builds(left: str, right: str) -> None:
    assert not same_build(read(left), read(right))
    assert not same_build(read(right), read(left))


@given(st.text(max_size=60))
def test_nothing_is_an_error_and_a_reading_of_what_was_read_says_the_same(text: str) -> None:
    found = read(text)
    assert isinstance(found, TorchVersion)
    assert same_build(found, read(text))
    assert found.ngc is None or (found.ngc.isascii() and len(found.ngc) == 5)


COMMITS = st.text("0123456789abcdef", min_size=10, max_size=40)


@given(COMMITS, st.integers(20, 99), st.integers(1, 12), st.integers(0, 10**9))
def test_nvidias_three_spellings_are_one_build(commit: str, year: int, month: int, number: int) -> None:
    spellings = [
        f"2.14.0a0+{commit[:7]}",
        f"2.14.0a0+{commit[:10]}.nv{year}.{month:02}",
        f"2.14.0a0+{commit[:10]}.nv{year}.{month}.{number}",
    ]
    readings = [read(text) for text in spellings]
    assert [reading.ngc for reading in readings] == [None, f"{year}.{month:02}", f"{year}.{month:02}"]
    assert all(same_build(left, right) for left in readings for right in readings)

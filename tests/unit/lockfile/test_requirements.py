"""Each line of a run's requirements.txt, graded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from envsnap.lockfile.requirements import FromVcs, Lost, Pinned, requirement

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = "git+https://me:secret@git.example.com/thop.git"
THOP = FromVcs(name="thop", vcs="git", url="https://git.example.com/thop.git", commit=COMMIT)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("numpy==2.2.6", Pinned(name="numpy", version="2.2.6")),
        ("torch==2.7.1+cu128", Pinned(name="torch", version="2.7.1+cu128")),
        ("Jinja2 == 3.1.6", Pinned(name="jinja2", version="3.1.6")),
        ("ruamel.yaml===0.18", Pinned(name="ruamel-yaml", version="0.18")),
        ("uvicorn[standard]==0.30.1", Pinned(name="uvicorn", version="0.30.1")),
        ("python-apt==2.4.0+ubuntu4", Pinned(name="python-apt", version="2.4.0+ubuntu4")),
        (f"thop @ {GIT}@{COMMIT}", THOP),
        (f"-e {GIT}@{COMMIT}#egg=thop", replace(THOP, editable=True)),
        (f"thop @ {GIT}@{COMMIT}#subdirectory=python", replace(THOP, subdirectory="python")),
        ("cupshelpers==1.0+dfsg-5ubuntu1", Pinned(name="cupshelpers", version="1.0+dfsg-5ubuntu1")),  # a local version; no index has it
        ("", None),
        ("# comment", None),
    ],
)  # fmt: skip
def test_lines_that_say_what_to_get(line: str, meaning: object) -> None:
    assert requirement(line) == meaning


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        ("distro-info==1.1-ubuntu0.2", "distro-info", "is no version of Python's"),
        ("python-apt==2.4.0ubuntu4", "python-apt", "is no version of Python's"),
        ("==", None, "it names no package"),
        ("==1.0", None, "it names no package"),
        ("numpy==", "numpy", "is no version of Python's"),
        ("numpy", "numpy", "no version was written down"),
        ("numpy>=2", "numpy", "it is not pinned"),
        (f"thop @ {GIT}@main", "thop", "names no commit for good"),
        (f"thop @ {GIT}", "thop", "no revision names no commit"),
        (f"-e {GIT}@{COMMIT}", None, "does not say which package"),
        ("thop @ file:///home/me/thop", "thop", "nobody else has"),
        ("-e .", None, "nobody else has"),
        ("numpy==" + "1" * 5000, None, "5007 characters"),
        ("a" * 300 + "==1", None, "300 characters"),
        ("numpy==1." + "1" * 300, "numpy", "is no version of Python's"),
    ],
)
def test_lines_that_name_nothing_to_be_had(line: str, name: str | None, reason: str) -> None:
    found = requirement(line)
    assert isinstance(found, Lost) and found.name == name and reason in found.reason
    assert "secret" not in found.reason


@given(st.text(max_size=120))
def test_every_line_means_something_or_nothing(line: str) -> None:
    found = requirement(line)
    assert found is not None or not line.strip() or line.strip().startswith("#")

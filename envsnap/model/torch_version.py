"""What a version of torch says of its build.

One build has several spellings. NVIDIA's is "2.14.0a0+4fdf77b" in its image's variables, "2.14.0a0+4fdf77b940.nv26.08" as
`torch.__version__` and "2.14.0a0+4fdf77b940.nv26.8.63802676" in its metadata; an index has "2.12.1" for what calls itself
"2.12.1+cu130". Its companions (torchvision, triton) and NVIDIA's other frameworks ("2.17.0+nv25.2") are spelled alike.
"""

from __future__ import annotations

import datetime as dt
import re
from itertools import pairwise

from msgspec import Struct

_COMMIT_PREFIX = 7  # the shortest form in which a build's commit is written
_COMMIT = re.compile(r"(git|g)?([0-9a-f]{7,40})")
_NVIDIA = re.compile(r"nv([0-9]{2})")
_MONTH = re.compile(r"0?[1-9]|1[0-2]")
_CUDA = re.compile(r"cu([0-9]{2,3})")
_CUDA_MINOR = re.compile(r"[0-9]{1,2}")
_FIRST_OF_TWO_DIGITS = "70"  # "cu75" to "cu92" are 7.5 to 9.2; below, both digits are the major version
_NIGHTLY = re.compile(r"\.dev([0-9]{8})\Z")


class TorchVersion(Struct, frozen=True, kw_only=True):
    """Attributes:
    public: what comes before the "+", in lower case: "2.14.0a0".
    local: what comes after it, with "." between its parts: "4fdf77b940.nv26.8.63802676"; "" without one.
    commit: the start of the commit that it was built from, 7 to 40 hex digits.
    ngc: release of NVIDIA's images that it was built for, "26.08".
    cuda: version of CUDA that it was built for, "13.0", or "12" where only that is said.
    nightly: the day of a nightly build.
    """

    public: str
    local: str = ""
    commit: str | None = None
    ngc: str | None = None
    cuda: str | None = None
    nightly: dt.date | None = None


def read(text: str) -> TorchVersion:
    """What a version says; what it does not say, or says in a form that is not known here, is None. Nothing is an error."""
    public, _, rest = text.strip().lower().partition("+")
    parts = [part for part in re.split(r"[-_.+]", rest) if part]
    return TorchVersion(
        public=public,
        local=".".join(parts),
        commit=_commit(parts),
        ngc=_ngc(parts),
        cuda=_cuda(parts),
        nightly=_nightly(public),
    )


def same_build(left: TorchVersion, right: TorchVersion) -> bool:
    """Whether two spellings can be of one build: the public version is the same, and nothing that both say differs.

    A commit is compared by its first 7 digits. Where only one of the two names a commit, they are two builds: NVIDIA's
    "2.0.0a0+1234567" is not the index's "2.0.0a0". One that has no local part at all does not say what it was built for.
    """
    if left.public != right.public or (left.commit is None) != (right.commit is None):
        return False
    if left.commit is not None and right.commit is not None:
        if left.commit[:_COMMIT_PREFIX] != right.commit[:_COMMIT_PREFIX]:
            return False
        return not _differ(left.ngc, right.ngc) and not _differ(left.cuda, right.cuda)
    if left.cuda is not None and left.cuda == right.cuda:
        return not _differ(left.ngc, right.ngc)
    return left.local == right.local or not left.local or not right.local


def _differ(left: str | None, right: str | None) -> bool:
    return left is not None and right is not None and left != right


def _commit(parts: list[str]) -> str | None:
    """One without "git" before it comes first: a number of seven digits or more further back is a build's."""
    for at, part in enumerate(parts):
        if (found := _COMMIT.fullmatch(part)) and (at == 0 or found[1]):
            return found[2]
    return None


def _ngc(parts: list[str]) -> str | None:
    """Both "nv26.8" and "nv26.08" are 26.08; "nv0.8.1" is a version of something else."""
    for part, following in pairwise(parts):
        if (year := _NVIDIA.fullmatch(part)) and _MONTH.fullmatch(following):
            return f"{year[1]}.{int(following):02}"
    return None


def _cuda(parts: list[str]) -> str | None:
    """Both "cu130" and "cu13.0" are 13.0, "cu92" is 9.2."""
    for part, following in pairwise([*parts, ""]):
        if found := _CUDA.fullmatch(part):
            digits = found[1]
            if len(digits) == 3 or digits >= _FIRST_OF_TWO_DIGITS:
                return f"{digits[:-1]}.{digits[-1]}"
            return f"{digits}.{int(following)}" if _CUDA_MINOR.fullmatch(following) else digits
    return None


def _nightly(public: str) -> dt.date | None:
    found = _NIGHTLY.search(public)
    try:
        return dt.date(int(found[1][:4]), int(found[1][4:6]), int(found[1][6:])) if found else None
    except ValueError:
        return None

"""Properties of locks: what is written is read back, digests cover what they say, comparing with itself is clean, bad bytes never crash."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from envsnap.errors import InputError
from envsnap.lockfile import dumps, loads, lock_digest, observed_digest, seal
from envsnap.model.facts import Problem
from envsnap.model.lock import EnvLock
from envsnap.model.parity import Fingerprint
from envsnap.parity import diff, judge
from tests import samples

text = st.text(max_size=40)
words = st.from_regex(r"[a-z0-9]+(?:-[a-z0-9]+){0,2}", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,3}(?:\.[0-9]{1,4}){0,3}(?:\+cu[0-9]{2,3})?", fullmatch=True)
variables = st.from_regex(r"(?:NCCL|CUDA|OMP)_[A-Z_]{1,12}", fullmatch=True).filter(lambda name: "AUTH" not in name)
readings = st.one_of(text, st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
plain_values = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20).filter(lambda value: "://" not in value)
index_packages = st.builds(samples.index_package, words, versions, requested=st.booleans())


@st.composite
def locks(draw: st.DrawFn) -> EnvLock:
    base = samples.lock(device=draw(st.sampled_from(["cpu", "cuda"])), smoke=draw(st.booleans()))
    extra = draw(st.lists(index_packages, max_size=5, unique_by=lambda package: package.name))
    packages = {package.name: package for package in (*extra, *base.packages)}
    capture = replace(
        base.capture,
        host=draw(text),
        problems=tuple(Problem(where=where, what=what) for where, what in draw(st.lists(st.tuples(text, text), max_size=3))),
        readings=draw(
            st.dictionaries(text, st.one_of(text, st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)))
        ),
    )
    reference = base.observed.reference and replace(base.observed.reference, smoke=replace(base.observed.reference.smoke, losses=()))
    observed = replace(base.observed, imports_failed=draw(st.dictionaries(text, text, max_size=3)), reference=reference)
    env = draw(st.dictionaries(variables, st.one_of(st.none(), plain_values), max_size=4))
    return seal(replace(base, packages=tuple(packages.values()), env=env, capture=capture, observed=observed))


@given(locks())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back_to_the_byte(lock: EnvLock) -> None:
    data = dumps(lock)
    assert loads(data) == lock
    assert dumps(loads(data)) == data


@given(locks(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_digests_do_not_depend_on_the_order_of_what_was_found(lock: EnvLock, random: Any) -> None:
    def shuffled(items: Any) -> Any:
        return tuple(random.sample(items, len(items)))

    again = seal(
        replace(
            lock,
            packages=shuffled(lock.packages),
            system_packages=shuffled(lock.system_packages),
            env=dict(shuffled(tuple(lock.env.items()))),
        )
    )
    assert dumps(again) == dumps(lock)


@given(locks(), locks())
@settings(max_examples=40, deadline=None)
def test_the_digest_does_not_see_where_and_when(lock: EnvLock, other: EnvLock) -> None:
    moved = replace(lock, observed=other.observed, capture=other.capture, name="elsewhere")
    assert lock_digest(moved) == lock.digest
    assert observed_digest(replace(lock, packages=other.packages, capture=other.capture).observed) == lock.observed.digest


@given(locks(), locks())
@settings(max_examples=40, deadline=None)
def test_equal_digests_mean_no_difference_and_the_other_way_round(left: EnvLock, right: EnvLock) -> None:
    same = (left.name, left.digest, left.observed.digest) == (right.name, right.digest, right.observed.digest)
    assert (diff(left, right) == ()) == same
    assert diff(left, left) == ()


@given(st.sampled_from(["cpu", "cuda"]), st.booleans())
def test_judging_a_thing_by_itself_is_clean(device: str, smoke: bool) -> None:
    verdict = judge(samples.lock(device=device, smoke=smoke), samples.fingerprint(device), device=device, required=None)
    assert {check.status for check in verdict.checks} == {"pass"}
    assert verdict.verdict == ("pass" if smoke else "incomplete")


FIELDS = ("distributions", "libraries", "system_libraries", "imports", "source_files", "torch", "env")


@given(st.sets(st.sampled_from(FIELDS), min_size=1))
def test_a_fingerprint_that_lacks_something_never_passes(missing: set[str]) -> None:
    empty: dict[str, Any] = {"distributions": (), "libraries": (), "system_libraries": (), "env": {}}
    found: Fingerprint = samples.fingerprint(facts=samples.facts(**{field: empty.get(field) for field in missing}))
    assert judge(samples.lock(), found, device="cpu", required=None).verdict != "pass"


scalars = st.one_of(st.none(), st.booleans(), st.integers(), text)
json_values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2), max_leaves=4)
SAMPLE = msgspec.json.encode(samples.lock(device="cuda"))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_edit_is_refused_by_name_or_changes_nothing_that_counts(data: st.DataObject) -> None:
    document = json.loads(SAMPLE)
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if isinstance(place, dict) and data.draw(st.booleans()):
        place[data.draw(text)] = data.draw(json_values)
    else:
        place[key] = data.draw(json_values)
    try:
        lock = loads(json.dumps(document).encode() + b"\n")
    except InputError as error:
        assert error.what.startswith("lock: ")  # noqa: PT017
    else:
        assert lock.digest == samples.lock().digest


@given(st.binary(max_size=200))
@settings(deadline=None)
@example(b"envsnap: 1\nname: `$.x[0]` - at `$.y`\n")
@example(b'envsnap: 1\n"a` - at `$.packages[3].x": 1\n')
@example(b'{"envsnap": 1, "x` - at `key` in `$.q": 2}\n')
def test_no_bytes_bring_the_reader_down(data: bytes) -> None:
    for prefix in (b"", b"envsnap: 1\n", dumps(samples.lock(smoke=False))):
        try:
            loads(prefix + data)
        except InputError as error:
            assert error.what.startswith("lock: ")  # noqa: PT017


def test_an_empty_tuple_of_another_identity_is_still_left_out() -> None:
    """CPython 3.10 has more than one; msgspec's own `omit_defaults` looks at identity, and digests hung on it."""

    class Items(tuple[str, ...]):
        __slots__ = ()

    lock = samples.lock()
    other = replace(lock, capture=replace(lock.capture, problems=Items()), observed=replace(lock.observed, imports_failed={}))
    assert dumps(seal(other)) == dumps(lock)

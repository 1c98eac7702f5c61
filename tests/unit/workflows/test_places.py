"""Locks on their way to the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from envsnap import redaction
from envsnap.errors import InputError
from envsnap.workflows import bases, places, records, system
from tests import samples
from tests.fakes.secrets import PLANTED

NAMES = ("GitHub Token", "AWS Access Key", "token")


@pytest.mark.parametrize("kind", NAMES)
def test_a_lock_that_would_hold_a_secret_is_not_written(tmp_path: Path, kind: str) -> None:
    lock = samples.lock(source=msgspec.structs.replace(samples.source(), branch=f"me/{PLANTED[kind]}"))
    with pytest.raises(InputError) as error:
        places.write_lock(lock, tmp_path / "x.yaml")
    assert error.value.why == f"branch: {kind}" and PLANTED[kind] not in str(error.value.__dict__)
    assert list(tmp_path.iterdir()) == []


def test_without_the_last_look_it_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_searches", tuple)
    lock = samples.lock(source=msgspec.structs.replace(samples.source(), branch=f"me/{PLANTED['token']}"))
    places.write_lock(lock, tmp_path / "x.yaml")
    assert PLANTED["token"] in (tmp_path / "x.yaml").read_text()


def test_an_ordinary_lock_is_written(tmp_path: Path) -> None:
    lock = samples.lock()
    places.write_lock(lock, tmp_path / "x.yaml")
    assert msgspec.to_builtins(places.read_lock(tmp_path / "x.yaml")) == msgspec.to_builtins(lock)


def test_of_a_file_that_is_no_lock_no_more_is_read_than_a_lock_may_have(tmp_path: Path) -> None:
    with (tmp_path / "x.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="more than 67,108,864 bytes"):
        places.read_lock(tmp_path / "x.yaml")


READERS: dict[str, Callable[[Path], object]] = {"plan.yaml": bases.pins, "packages.yaml": system.kept, "image.yaml": records.read_record}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "more than 67,108,864 bytes"),
        ("a: &a [x]\nb: [*a, *a]\n", "anchors and aliases are not allowed"),
        ("- x\n", "Expected `object`"),
    ],
)
def test_what_an_image_s_directory_has_is_read_as_a_lock_is(tmp_path: Path, name: str, text: str, said: str) -> None:
    with (tmp_path / name).open("w") as file:
        file.write(text)
        if not text:
            file.truncate(1 << 40)
    if name == "image.yaml":  # a record that cannot be read is none
        assert READERS[name](tmp_path) is None
    else:
        with pytest.raises(InputError, match=f"cannot read .*{name}") as failed:
            READERS[name](tmp_path)
        assert said in failed.value.why


def test_of_the_last_rendering_s_lock_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = samples.lock()
    places.write_lock(lock, tmp_path / "x.yaml")
    last = places.image_directory(lock.name) / "lock.yaml"
    last.parent.mkdir(parents=True)
    with last.open("wb") as file:
        file.truncate(1 << 40)
    assert places.copy_for_image(lock, tmp_path / "x.yaml") == (tmp_path / "x.yaml").read_bytes()

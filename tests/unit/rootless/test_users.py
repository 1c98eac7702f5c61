from __future__ import annotations

from pathlib import Path

import pytest

from envsnap.errors import TargetError
from envsnap.rootless.users import Identity, identity

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1001:Ada:/home/ada:/bin/sh\nlarge:x:99999999999:1::/:/bin/sh\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text("users:x:100:ada\n\nbroken\n")
    return tmp_path


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", Identity(uid=0, gid=0, home="/root")),
        ("root", Identity(uid=0, gid=0, home="/root")),
        ("ada", Identity(uid=1000, gid=1001, home="/home/ada")),
        ("1000", Identity(uid=1000, gid=1001, home="/home/ada")),
        ("ada:users", Identity(uid=1000, gid=100, home="/home/ada")),
        ("1000:7", Identity(uid=1000, gid=7, home="/home/ada")),
        ("5000", Identity(uid=5000, gid=0, home="/")),
        ("5000:6000", Identity(uid=5000, gid=6000, home="/")),
    ],
)
def test_users_are_read_as_engines_read_them(root: Path, user: str, found: Identity) -> None:
    assert identity(root, user) == found


@pytest.mark.parametrize("user", ["eve", "ada:nobody", "large", "-1", "1e3", "99999999999", "²"])
def test_a_user_that_the_image_does_not_know_is_an_error(root: Path, user: str) -> None:
    with pytest.raises(TargetError, match="knows no user") as caught:
        identity(root, user)
    assert "--user 1000:1000" in caught.value.hint


def test_an_image_without_users_has_root_and_numbers(tmp_path: Path) -> None:
    assert identity(tmp_path, "") == Identity(uid=0, gid=0, home="/")
    assert identity(tmp_path, "1000:1000") == Identity(uid=1000, gid=1000, home="/")


def test_nobody_is_read_from_the_host(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "root/etc/passwd").symlink_to(tmp_path / "passwd")
    with pytest.raises(TargetError):
        identity(tmp_path / "root", "ada")

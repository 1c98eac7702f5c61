"""`envsnap bases` without an engine or a registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from envsnap.cli import main
from envsnap.inventory.remembered import export, remember
from envsnap.model.base import BaseInventory, Directory, ImageConfig, Inspected, InstalledDistribution
from envsnap.report import bases as report

CONFIG = f"sha256:{'c' * 64}"
INVENTORY = BaseInventory(
    distribution="debian 12",
    python="3.11.2",
    python_path="/usr/bin/python3",
    libc="glibc 2.36",
    sonames=frozenset({"libc.so.6"}),
    complete=True,
    directories={"tmp": Directory(mode=0o1777), "": Directory(mode=0o700)},
    packages=(InstalledDistribution(name="six", version="1.16.0", site="usr/lib/python3/dist-packages"),),
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def bases(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main.main(["bases", *words])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out if "--json" in words else out + err

    return bases


def exported(tmp_path: Path) -> str:
    there = tmp_path / "there"
    export(remember(INVENTORY, config=CONFIG, reference="base:1", cache=there), there, tmp_path / "base.inventory")
    return str(tmp_path / "base.inventory")


def test_what_others_exported_is_known_after_import(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    file = exported(tmp_path)
    code, said = run("import", file)
    assert code == 0
    assert "base:1" in said
    code, said = run("--json")
    document = json.loads(said)
    assert (code, document["inventories"][0]["config_digest"], document["inventories"][0]["complete"]) == (0, CONFIG, True)
    assert len(document["releases"]) > 10
    assert "base:1" in run("list")[1]
    again = tmp_path / "again.inventory"
    code, said = run("export", CONFIG, str(again), "--json")
    assert (code, json.loads(said)["file"]) == (0, str(again))
    assert again.read_bytes() == Path(file).read_bytes()


def test_a_changed_file_is_bad_input(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    file = Path(exported(tmp_path))
    file.write_bytes(file.read_bytes()[:-30])
    code, said = run("import", str(file), "--json")
    assert (code, json.loads(said)["error"]["code"]) == (4, 4)


@pytest.mark.parametrize(
    "words", [("inspect",), ("inspect", "a", "b"), ("export", "a"), ("import",), ("list", "a"), ("show", "a"), ("inspect", "--shallow")]
)
def test_words_that_cannot_be_right(run: Callable[..., tuple[int, str]], words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


def test_what_is_not_known_here_cannot_be_exported_by_its_digest(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = run("export", CONFIG, str(tmp_path / "file"))
    assert (code, "nothing is known" in said, (tmp_path / "file").exists()) == (6, True, False)


def seen(inventory: BaseInventory | None) -> Inspected:
    config = ImageConfig(architecture="amd64", cmd=("bash",), size_bytes=83_500_000)
    return Inspected(reference="base:1", digest=None, config_digest=CONFIG, config=config, release=None, inventory=inventory)


def test_the_screen_says_what_is_known_and_what_to_type_next() -> None:
    whole = report.screen(seen(INVENTORY))
    for words in (
        "debian 12, glibc 2.36",
        "3.11.2 at /usr/bin/python3",
        "1 of Python: six 1.16.0",
        "/ 0700 0:0",
        "tmp 1777 0:0",
        "not kept",
    ):
        assert words in whole
    assert "bases inspect base:1 --deep" in report.screen(seen(None))
    shallow = report.screen(seen(BaseInventory(distribution="debian 12")))
    assert "none on its PATH" in shallow
    assert "bases inspect base:1 --deep" in shallow
    document = report.document(seen(INVENTORY))
    assert (document["config_digest"], document["inventory"]["python"], document["digest"]) == (CONFIG, "3.11.2", None)
    assert json.loads(json.dumps(report.document(seen(None))))["inventory"] is None

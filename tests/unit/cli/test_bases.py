"""`envsnap bases` without an engine or a registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.catalog import rows
from envsnap.catalog.images import statements
from envsnap.cli import bases, main
from envsnap.inventory.remembered import export, remember
from envsnap.model.base import BaseInventory, Directory, Family, ImageConfig, Inspected, InstalledDistribution
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
    "words",
    [
        ("inspect",),
        ("inspect", "a", "b"),
        ("export", "a"),
        ("import",),
        ("list", "a"),
        ("show",),
        ("show", "99.99"),
        ("inspect", "--shallow"),
    ],
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


def test_the_families_are_those_of_the_catalogue() -> None:
    assert bases._FAMILIES == get_args(Family) == rows.FAMILIES


def test_the_catalogue_is_listed_by_family(run: Callable[..., tuple[int, str]]) -> None:
    whole = run("list")[1]
    for words in ("nvcr.io/nvidia/tensorflow:25.02-tf2-py3", "nvcr.io/nvidia/paddlepaddle:24.05-py3", "torch of the index"):
        assert words in whole
    (row,) = [line.split() for line in whole.splitlines() if line.strip().startswith("nvcr.io/nvidia/pytorch:26.07-py3")]
    assert row[-1] == "580.65.06"  # as a plan has it: the catalogue names no branch, and its CUDA has a floor
    of_tensorflow = run("list", "--family", "tensorflow")[1]
    assert "nvcr.io/nvidia/tensorflow:25.02-tf2-py3" in of_tensorflow
    assert "nvidia/pytorch" not in of_tensorflow
    assert "torch of the index" not in of_tensorflow
    document = json.loads(run("list", "--family", "pytorch", "--json")[1])
    assert {row["family"] for row in document["releases"]} == {"pytorch"}
    assert document["torch_wheels"][0].keys() >= {"torch", "cuda", "torchvision"}


def test_a_row_is_shown_with_how_each_value_is_known(run: Callable[..., tuple[int, str]]) -> None:
    code, said = run("show", "nvcr.io/nvidia/pytorch:26.08-py3")
    assert code == 0
    line = next(line for line in said.splitlines() if "driver_bundled" in line)
    assert "615.65.02" in line
    assert "aligned (TRTLLM rel-26-08" in line
    assert "beware" in said
    both = json.loads(run("show", "22.03", "--json")[1])["releases"]
    assert [row["family"] for row in both] == ["pytorch", "tensorflow"]
    assert both[1]["values"]["tensorflow"] == {"value": "1.15.5", "evidence": "start banner"}
    assert len(json.loads(run("show", "22.03", "--family", "tensorflow", "--json")[1])["releases"]) == 1


def test_what_an_image_says_stands_beside_its_row() -> None:
    row = catalog.load().named("26.07-py3")[0]
    env = {"NVIDIA_PYTORCH_VERSION": "26.07", "CUDNN_VERSION": "9.99.0.1", "NCCL_VERSION": "2.30.7", "CUDA_VERSION": "13.3.1.008"}
    config = ImageConfig(architecture="amd64", env=env, size_bytes=9_800_000_000)
    said = statements(config, ("x86_64", "aarch64"), row)
    inspected = replace(seen(None), config=config, release=row, statements=said)
    words = [line.split() for line in report.screen(inspected).splitlines() if line.strip()]
    assert ["!", "cudnn", "9.99.0.1", "contradicts", "9.24.0.43", "(CUDNN_VERSION)"] in words
    lines = {line[0]: " ".join(line) for line in words}
    assert "as catalogued" in lines["nccl"]
    assert "fills" in lines["arches"]
    assert "9.8 GB" in lines["pull_bytes"]
    assert "it does not say: ubuntu, python, torch, driver_bundled, torch_cuda_arch_list" in report.screen(inspected)
    document = report.document(inspected)
    assert {one["field"]: one["standing"] for one in document["statements"]}["cudnn"] == "contradicts"
    unknown = report.screen(replace(inspected, release=None, statements=statements(config, None, None)))
    assert "bases refresh base:1   proposes one" in unknown
    assert "against the catalogue" not in report.screen(seen(None))

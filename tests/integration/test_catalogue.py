"""What a real registry says of an image that has NGC's variables, against its row, and the change of the catalogue that follows."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.catalog import rows
from envsnap.cli import main
from envsnap.oci.documents import Descriptor, Manifest, canonical, digest_of, read_manifest
from envsnap.registry import tags
from envsnap.registry.client import Registry
from envsnap.registry.upload import from_file

pytestmark = pytest.mark.engine
OFFICIAL = "nvcr.io/nvidia/pytorch:26.07-py3"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine answers: the registry is asked, and nothing is pulled."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main.main(["bases", *words, "--json"])
    assert ended.value.code in (0, None)
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def altered(ngc_base: str, registry: str, tmp_path: Path) -> str:
    """The same layers under a config that says another cuDNN."""
    client = Registry(os.environ)
    manifest, config = client.image(ngc_base, machine=os.uname().machine)
    document = json.loads(config.raw)
    variables = dict(one.split("=", 1) for one in document["config"]["Env"])
    document["config"]["Env"] = [f"{key}={value}" for key, value in {**variables, "CUDNN_VERSION": "9.99.0.1"}.items()]
    raw = canonical(document)
    (tmp_path / "config").write_bytes(raw)
    described = Descriptor(media_type=manifest.config.media_type, digest=digest_of(raw), size=len(raw))
    name = f"{registry}/envsnap-test/altered:{os.getpid()}"
    client.upload(name, described, from_file(tmp_path / "config"))
    for layer in manifest.layers:
        assert client.mount(name, layer, ngc_base)
    changed = {**json.loads(manifest.raw), "config": described.document()}
    made = read_manifest(canonical(changed), manifest.media_type, what="test")
    assert isinstance(made, Manifest)
    client.put_manifest(name, made)
    client.close()
    return name


def test_inspect_asks_the_registry_alone(ngc_base: str, altered: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = asked(capsys, "inspect", ngc_base)
    assert document["release"]["reference"] == OFFICIAL
    said = {one["field"]: one for one in document["statements"]}
    for field in ("release", "cuda", "cudnn", "nccl", "torch", "driver_bundled"):
        assert said[field]["standing"] == "as catalogued", field
    assert said["pull_bytes"]["value"] > 1_000_000
    assert said["arches"]["by"] == "manifest"
    other = {one["field"]: one for one in asked(capsys, "inspect", altered)["statements"]}
    assert (other["cudnn"]["value"], other["cudnn"]["standing"], other["cudnn"]["by"]) == ("9.99.0.1", "contradicts", "CUDNN_VERSION")
    assert {name: one for name, one in other.items() if name != "cudnn"} == {name: one for name, one in said.items() if name != "cudnn"}


def test_refresh_through_a_mirror_proposes_what_applies(
    ngc_base: str, altered: str, registry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = asked(capsys, "refresh", "26.07-py3", "--registry-mirror", f"nvcr.io={registry}")
    (image,) = document["images"]
    assert (image["reference"], image["row"], document["skipped"]) == (OFFICIAL, OFFICIAL, [])
    assert f'+    - "image config of {OFFICIAL}@{image["digest"]}"' in document["diff"]
    assert "cudnn" not in {line.split(":")[0].strip("+ ") for line in document["diff"].splitlines() if line.startswith("+ ")}
    second = asked(capsys, "refresh", altered)
    assert '+  cudnn: "9.99.0.1"' in second["diff"]
    for diff in (document["diff"], second["diff"]):
        for family in rows.FAMILIES:
            (tmp_path / rows.path(family)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / rows.path(family)).write_text(rows.text(family), encoding="utf-8")
        subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=diff.encode(), check=True)
        assert (tmp_path / rows.path("pytorch")).read_text(encoding="utf-8") != rows.text("pytorch")


def test_refresh_finds_a_release_that_the_catalogue_lacks(
    ngc_base: str, registry: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the list of tags that a real registry gives, a page at a time."""
    known = catalog.load()
    monkeypatch.setattr(catalog, "load", lambda: replace(known, releases=()))
    monkeypatch.setattr(tags, "_PAGE", 1)
    document = asked(capsys, "refresh", "--family", "pytorch", "--registry-mirror", f"nvcr.io={registry}")
    image = next(one for one in document["images"] if one["reference"] == OFFICIAL)
    row, official = image["proposed"], known.release_of(OFFICIAL)
    assert official is not None and image["row"] is None
    assert [row[name] for name in ("release", "cuda", "driver_bundled")] == [official.release, official.cuda, official.driver_bundled]
    assert "driver_branch_min" not in row  # no image says it of itself
    assert any(f"image config of {OFFICIAL}@{image['digest']}" in text for text in row["evidence"].values())

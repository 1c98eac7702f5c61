"""Putting an image together: the base's part kept, ours canonical."""

from __future__ import annotations

import json
import re

import pytest

from envsnap.errors import EngineError
from envsnap.oci.documents import (
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    Manifest,
    canonical,
    digest_of,
    read_config,
    read_manifest,
)
from envsnap.oci.image import BaseImage, Image, Layer, RunConfig, put_together, scratch

WHAT = "cannot look up example.com/a:1"
BASE_LAYER = "sha256:" + "1" * 64
LAYER = Layer(digest="sha256:" + "2" * 64, diff_id="sha256:" + "3" * 64, size_bytes=7, made_by="envsnap: numpy 2.4.6")
CHANGE = RunConfig(env={"PATH": "/opt/envsnap/env/bin:/bin", "NEW": "1"}, labels={"a": "b"}, workdir="/workspace")


def base(kind: str = OCI_MANIFEST, **config: object) -> BaseImage:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "LANG=C"], "Entrypoint": ["/entry"], "Labels": {"base": "yes"}, "Hostname": None},
        "rootfs": {"type": "layers", "diff_ids": [BASE_LAYER]},
        "history": [{"created_by": "base"}],
        "container": "of the machine that made it",
        **config,
    }
    raw = canonical(document)
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/json", "digest": digest_of(raw), "size": len(raw)},
        "layers": [{"mediaType": "application/x-gzip", "digest": BASE_LAYER, "size": 5}],
    }
    read = read_manifest(canonical(manifest), kind, what=WHAT)
    assert isinstance(read, Manifest)
    return BaseImage(config=read_config(raw, what=WHAT), manifest=read, reference="example.com/a:1")


def made(base_image: BaseImage) -> tuple[Image, dict[str, object], dict[str, object]]:
    image = put_together(base_image, [LAYER], CHANGE)
    assert image.manifest is not None
    return image, json.loads(image.config.raw), json.loads(image.manifest.raw)


def test_the_config_is_the_bases_with_our_changes() -> None:
    _, config, _ = made(base())
    run = config["config"]
    assert isinstance(run, dict)
    assert run["Env"] == ["PATH=/opt/envsnap/env/bin:/bin", "LANG=C", "NEW=1"]
    assert run["Entrypoint"] == ["/entry"]
    assert run["Labels"] == {"base": "yes", "a": "b"}
    assert "Hostname" not in run
    assert "container" not in config
    assert config["rootfs"] == {"type": "layers", "diff_ids": [BASE_LAYER, LAYER.diff_id]}
    assert config["created"] == "1980-01-01T00:00:00Z"
    assert [entry["created_by"] for entry in config["history"]] == ["base", "envsnap: numpy 2.4.6"]  # type: ignore[attr-defined]


def test_what_the_base_wants_of_builds_upon_it_does_not_go_on() -> None:
    onto = base(config={"Env": ["PATH=/bin"], "OnBuild": ["RUN make", "COPY . /app"], "StopSignal": "SIGINT"})
    assert onto.config.on_build == ("RUN make", "COPY . /app")
    image, config, _ = made(onto)
    assert image.config.on_build == ()
    assert "OnBuild" not in config["config"]  # type: ignore[operator]
    assert config["config"]["StopSignal"] == "SIGINT"  # type: ignore[index]


@pytest.mark.parametrize(("kind", "layer"), [(OCI_MANIFEST, OCI_LAYER), (DOCKER_MANIFEST, DOCKER_LAYER)])
def test_the_manifest_is_of_its_bases_kind(kind: str, layer: str) -> None:
    image, _, manifest = made(base(kind))
    assert manifest["mediaType"] == kind
    assert [one["mediaType"] for one in manifest["layers"]] == ["application/x-gzip", layer]  # type: ignore[attr-defined]
    assert image.manifest is not None
    assert image.manifest.config.digest == image.config.digest
    again = read_manifest(image.manifest.raw, "", what=WHAT)
    assert again == image.manifest


def test_same_input_same_bytes() -> None:
    assert made(base())[0] == made(base())[0]


def test_a_base_that_only_an_engine_has_gives_a_config_and_no_manifest() -> None:
    known = base()
    image = put_together(BaseImage(config=known.config, manifest=None), [LAYER], CHANGE)
    assert image.manifest is None
    assert image.config == put_together(known, [LAYER], CHANGE).config


def test_a_base_of_nothing() -> None:
    image = put_together(scratch("arm64"), [LAYER], CHANGE)
    assert image.config.diff_ids == (LAYER.diff_id,)
    assert image.config.architecture == "arm64"
    assert image.manifest is not None
    assert image.manifest.media_type == OCI_MANIFEST


def test_an_index_is_read_as_one() -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": BASE_LAYER, "size": 5, "platform": {"os": "linux", "architecture": "arm64"}}
    index = read_manifest(canonical({"schemaVersion": 2, "manifests": [entry]}), OCI_INDEX, what=WHAT)
    assert isinstance(index, Index)
    assert index.manifests[0].platform == ("linux", "arm64")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"<html>", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schemaVersion": 1}', "too old"),
        (b'{"config": {}, "layers": []}', "config.digest"),
        (b'{"config": {"digest": "sha256:../..", "size": 1}, "layers": []}', "config.digest"),
        (b'{"config": {"digest": "%s", "size": -1}, "layers": []}' % BASE_LAYER.encode(), "config.size"),
        (b'{"config": {"digest": "%s", "size": true}, "layers": []}' % BASE_LAYER.encode(), "config.size"),
        (b'{"config": {"digest": "%s", "size": 1}, "layers": {}}' % BASE_LAYER.encode(), "layers"),
        (b'{"config": {"digest": "%s", "size": 1}, "layers": [1]}' % BASE_LAYER.encode(), r"layers\[0\]"),
        (b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": 1}', "manifests"),
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(EngineError) as refused:
        read_manifest(raw, "", what=WHAT)
    assert refused.match(WHAT)
    assert re.search(why, refused.value.why)


@pytest.mark.parametrize("rootfs", [None, [], {"diff_ids": 1}, {"diff_ids": ["sha256:1"]}])
def test_what_is_no_config_is_refused(rootfs: object) -> None:
    with pytest.raises(EngineError, match=WHAT):
        read_config(canonical({"rootfs": rootfs}), what=WHAT)


@pytest.mark.parametrize("run", [{"Env": 5, "Labels": ["a"]}, {"Env": "A=1", "Labels": "a"}, {"Env": None, "Labels": None}, []])
def test_a_config_of_strange_kinds_has_neither_variables_nor_labels(run: object) -> None:
    raw = canonical({"rootfs": {"type": "layers", "diff_ids": []}, "config": run})
    config = read_config(raw, what="")
    assert (config.env, config.labels) == ({}, {})
    made = put_together(BaseImage(config=config, manifest=None), [], CHANGE)
    assert made.config.env == CHANGE.env and made.config.labels == CHANGE.labels

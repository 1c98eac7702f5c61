"""The screen of a plan: what is pulled, why this base, the image as far as it is known, and no row that says nothing."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from envsnap import catalog, plan
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.image import Foretold
from envsnap.model.layers import ShellStep
from envsnap.model.plan import BuildPlan
from envsnap.report import text
from envsnap.report.plan import document, image_screen, rendered_screen, screen
from tests import samples

DIGEST = samples.digest("b")
UNKNOWN = Foretold(unknown_because="3 of 9 wheels were never seen here", hint="--fetch fetches them")
KNOWN = Foretold(config_digest=samples.digest("c"), manifest_digest=samples.digest("d"), told_from="layers", added_bytes=2_810_000_000)


def planned(**changes: Any) -> BuildPlan:
    values: dict[str, Any] = {
        "reference": "x.example.com/b:1",
        "family": "other",
        "digest": DIGEST,
        "config": ImageConfig(architecture="amd64", size_bytes=9_800_000_000),
        "inventory": BaseInventory(distribution="debian 12", python="3.11.2"),
        **changes,
    }
    return plan.make_plan(samples.lock(), catalog.load(), [Base(**values)])


def test_what_the_engine_has_is_here_and_is_not_pulled() -> None:
    assert "9.8 GB" in screen(planned())
    made = planned(in_engine=True)
    assert "  here  " in screen(made) and "9.8 GB" not in screen(made)
    assert document(made, UNKNOWN)["candidates"][0]["pull_bytes"] == 0


def test_of_an_image_that_is_not_known_yet_the_reason_and_the_way_are_told() -> None:
    said = image_screen(UNKNOWN)
    rows = [line.split(maxsplit=1) for line in said.splitlines()[-2:]]
    assert rows == [["image", "not known yet: 3 of 9 wheels were never seen here"], ["try", "--fetch fetches them"]]
    assert "adds" not in said
    assert "try" not in image_screen(replace(UNKNOWN, hint=""))
    read = document(planned(), UNKNOWN)
    assert read["estimated_bytes"] is None
    unknown = "3 of 9 wheels were never seen here"
    assert read["image"] == {"manifest_digest": None, "config_digest": None, "told_from": None, "unknown_because": unknown}


def test_of_a_base_too_what_is_not_unknown_has_no_reason() -> None:
    def said(**base: Any) -> list[Any]:
        read = document(planned(**base), KNOWN)
        return [one["unknown_because"] for one in (read["base"], read["candidates"][0])]

    assert said() == [None, None]
    assert said(unknown_because="nobody answers") == ["nobody answers"] * 2


def test_an_image_that_is_known_is_told_before_it_is_built() -> None:
    assert image_screen(KNOWN).splitlines() == [
        f"  image  {text.short(samples.digest('c'))} (known before the build, adds 2.8 GB)",
        f"         {text.short(samples.digest('d'))} (its manifest: what a registry will call it)",
    ]
    read = document(planned(), KNOWN)
    assert read["estimated_bytes"] == 2_810_000_000
    both = {"manifest_digest": samples.digest("d"), "config_digest": samples.digest("c")}
    assert read["image"] == {**both, "told_from": "layers", "unknown_because": None}


def test_its_labels_are_as_wide_as_the_plan_s_so_that_both_are_one_table() -> None:
    docker = (ShellStep(kind="apt-install", because="its postinst asks"),)
    images = (KNOWN, UNKNOWN, replace(KNOWN, by_docker=docker), replace(UNKNOWN, by_docker=docker))
    facts = screen(planned()).partition("\n\n")[2]
    for line in "\n".join([facts, *map(image_screen, images)]).splitlines():
        assert (line[7:9], line[9:10].isspace()) == ("  ", False), line


def test_an_image_that_was_told_from_installed_files_says_so() -> None:
    image = replace(KNOWN, manifest_digest=None, added_bytes=None, told_from="installed files", unknown_because="no wheel was fetched")
    assert image_screen(image).splitlines()[-1].endswith("(known before the build, from the installed files)")
    assert document(planned(), image)["image"]["told_from"] == "installed files"


def test_an_image_on_a_base_that_only_an_engine_has_is_known_without_its_manifest() -> None:
    image = replace(KNOWN, manifest_digest=None, unknown_because="what the base's layers are in a registry is not known")
    assert "(known before the build" in image_screen(image) and "manifest" not in image_screen(image)
    read = document(planned(), image)["image"]
    assert (read["manifest_digest"], read["config_digest"]) == (None, samples.digest("c")) and "registry" in read["unknown_because"]


def test_the_base_s_digest_is_printed_once() -> None:
    for reference in ("x.example.com/b:1", f"x.example.com/b:1@{DIGEST}"):
        base = rendered_screen(planned(reference=reference), "images/yolo", DIGEST, "envsnap build x.yaml").splitlines()[0]
        assert base.split() == ["base", f"x.example.com/b:1@sha256:{DIGEST[7:11]}…{DIGEST[-4:]}"]


def test_what_is_rendered_is_offered_to_docker_where_its_base_can_be_pulled() -> None:
    build = "envsnap build x.yaml --base debian:bookworm"
    assert rendered_screen(planned(), "images/yolo", DIGEST, build).endswith("next: docker build images/yolo")
    said = rendered_screen(planned(reference="debian:bookworm", family="debian"), "images/yolo", DIGEST, build)
    assert "no registry has that base" in said and said.endswith(f"next: {build}")


def test_the_captured_driver_is_told_on_the_screen() -> None:
    known = catalog.load()
    lock = samples.lock(device="cuda", python=replace(samples.lock().python, version="3.12.3"))
    (base,) = plan.candidate_references(lock, known, None)
    made = plan.make_plan(lock, known, [base])
    assert "driver 580.159.04" in screen(made) and "580.159.04" not in made.base_reason


def test_what_docker_does_is_told_with_its_reason() -> None:
    step = ShellStep(kind="apt-install", because="fontconfig-config: its postinst asks")
    (row,) = [line.split(maxsplit=1) for line in image_screen(replace(UNKNOWN, by_docker=(step,))).splitlines() if "shell" in line]
    assert row == ["shell", "Docker does apt-install: fontconfig-config: its postinst asks"]
    assert document(planned(), replace(UNKNOWN, by_docker=(step,)))["by_docker"] == [{"kind": "apt-install", "because": step.because}]
    assert "shell" not in image_screen(UNKNOWN) and document(planned(), UNKNOWN)["by_docker"] == []


def test_what_a_small_base_would_save_is_told_of_nvidia_s_alone() -> None:
    ngc = screen(planned(reference="nvcr.io/nvidia/pytorch:26.07-py3", family="ngc-pytorch"))
    assert "ngc-venv" in ngc and "--base slim: the same packages without NVIDIA's image, 9.8 GB to pull," in ngc
    assert "--base slim" not in screen(planned())


def test_what_differs_on_a_possible_base_is_told() -> None:
    assert "Python 3.11.2 in place of 3.11.7" in screen(planned())


def table(made: BuildPlan, width: int = 100) -> str:
    return screen(made, width).partition("\n\n")[0]


def test_every_row_says_what_is_pulled_and_added_and_what_becomes_of_the_environment() -> None:
    made = planned()
    first = replace(made.candidates[0], added_bytes=2_940_000_000, added_without=("the project's files",))
    made = replace(made, candidates=(first, *made.candidates[1:]))
    head, row, *rest = table(made).splitlines()
    assert head.split() == ["base", "as", "pull", "adds", "Python", "CUDA", "driver", "≥"]
    assert row.split() == [">", "x.example.com/b:1", "venv", "9.8", "GB", "2.9", "GB", "3.11.2", "-", "-"]
    assert rest[0].split(maxsplit=1) == ["exact", "14 packages"]
    read = document(made, UNKNOWN)["candidates"][0]
    assert (read["added_bytes"], read["added_without"], read["exact"]) == (2_940_000_000, ["the project's files"], ["14 packages"])
    assert read["differs"] == ["Python 3.11.2 in place of 3.11.7"] and read["breaks"] == [] and read["way"] is None


def test_what_cannot_carry_it_says_so_and_what_would_help() -> None:
    shown = table(planned())
    assert shown.count("      no       ") == 2 and shown.count("      try      ") == 2
    delta = next(one for one in document(planned(), UNKNOWN)["candidates"] if one["strategy"] == "ngc-delta")
    assert not delta["possible"] and delta["added_bytes"] is None and delta["breaks"] and "capture --container" in delta["way"]


def test_an_interpreter_that_goes_along_is_told_in_its_column() -> None:
    made = planned()
    carried = replace(made.candidates[0], carried=True)
    (row,) = [line for line in table(replace(made, candidates=(carried,))).splitlines() if line.startswith(">")]
    assert "carried" in row and "3.11.2" not in row


def test_what_is_as_on_the_row_above_is_not_said_twice() -> None:
    made = planned()
    twice = replace(made, candidates=(made.candidates[0], replace(made.candidates[0], base=made.candidates[1].base)))
    assert table(twice).count("exact") == 1


def test_the_table_is_readable_on_a_hundred_columns() -> None:
    assert max(map(len, table(planned(family="ngc-pytorch", reference="nvcr.io/nvidia/pytorch:26.07-py3")).splitlines())) <= 100


def test_what_a_small_base_saves_is_counted_where_both_are_known() -> None:
    made = planned(reference="nvcr.io/nvidia/pytorch:26.07-py3", family="ngc-pytorch")
    slim = next(one for one in made.candidates if one.strategy == "slim")
    rows = tuple(replace(one, pull_bytes=45_000_000) if one is slim else one for one in made.candidates)
    assert "9.8 GB less to pull," in screen(replace(made, candidates=rows), 200)

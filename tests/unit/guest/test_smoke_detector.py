"""The detector's part that no framework does: what it is given, and what is made of its answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap.guest import smoke_detector as detector
from envsnap.guest import smoke_shapes as shapes
from envsnap.guest.smoke_shapes import Label

BOX = (0.4, 0.6, 0.3, 0.4)


def grid_saying(label: Label, score: float = 9.0) -> detector.Grid:
    """What a network would have to answer to say this."""
    target = detector.target_of(label)
    cells = [[0.0] * detector.CHANNELS for _ in range(detector.GRID**2)]
    cells[target.cell][label.kind] = score
    cells[target.cell][len(shapes.CLASSES) :] = target.box
    return [cells[start : start + detector.GRID] for start in range(0, len(cells), detector.GRID)]


def test_the_cell_of_a_target_holds_the_object() -> None:
    for picture in shapes.make_pictures(0)["train"]:
        label = shapes.read_label(picture.label)
        target = detector.target_of(label)
        row, column = divmod(target.cell, detector.GRID)
        start = ((row * 8 + 4) * shapes.SIDE + column * 8 + 4) * 3
        assert picture.pixels[start : start + 3] == (bytes((240, 20, 20)) if label.kind == 0 else bytes((20, 240, 20)))
        assert target.choice == target.cell * len(shapes.CLASSES) + label.kind
        assert all(-0.5 <= offset <= 0.5 for offset in target.box[:2]) and target.box[2:] == label.box[2:]


def test_the_labels_are_those_that_lie_on_the_disk(tmp_path: Path) -> None:
    data = shapes.write_dataset(str(tmp_path), shapes.make_pictures(0))
    assert data.labels("train") == [shapes.read_label(picture.label) for picture in data.pictures["train"]]
    label = tmp_path / "train/labels/000.txt"
    label.write_text(label.read_text().replace("0 ", "1 ", 1))
    assert data.labels("train")[0].kind == 1


def test_each_epoch_has_an_order_of_its_own_and_the_same_everywhere() -> None:
    assert detector.order_of(0, 0, 8) == [4, 2, 6, 0, 7, 5, 1, 3]
    assert sorted(detector.order_of(0, 1, 64)) == list(range(64)) and detector.order_of(0, 1, 64) != detector.order_of(0, 0, 64)
    assert detector.order_of(1, 0, 64) != detector.order_of(0, 0, 64)


def test_an_answer_is_read_as_its_label_was_written() -> None:
    for kind in range(len(shapes.CLASSES)):
        found = detector.read_prediction(grid_saying(Label(kind, BOX)))
        assert found.label.kind == kind and found.label.box == pytest.approx(BOX)
        assert 0.98 < found.confidence < 1.0


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (BOX, 1.0),
        ((0.4, 0.6, 0.3, 0.2), 0.5),
        ((0.55, 0.6, 0.3, 0.4), 1 / 3),
        ((0.9, 0.6, 0.1, 0.1), 0.0),
        ((0.4, 0.6, -0.3, 0.4), 0.0),
        ((0.4, 0.6, 0.0, 0.0), 0.0),
    ],
)
def test_overlap(other: tuple[float, float, float, float], expected: float) -> None:
    assert detector.overlap(BOX, other) == pytest.approx(expected)
    assert detector.overlap(other, BOX) == pytest.approx(expected)


def test_what_finds_everything_has_the_full_score_and_what_knows_one_class_half_of_it() -> None:
    labels = [shapes.read_label(picture.label) for picture in shapes.make_pictures(0)["val"]]
    assert detector.mean_average_precision([grid_saying(label) for label in labels], labels) == 1.0
    one_class = [grid_saying(label._replace(kind=0)) for label in labels]
    assert detector.mean_average_precision(one_class, labels) <= 0.5
    elsewhere = [grid_saying(label._replace(box=(0.9, 0.1, 0.1, 0.1))) for label in labels]
    assert detector.mean_average_precision(elsewhere, labels) == 0.0


@pytest.mark.parametrize(
    ("ranked", "wanted", "expected"),
    [
        ([True, True], 2, 1.0),
        ([True, False, True], 2, (1 + 2 / 3) / 2),
        ([False, True], 1, 0.5),
        ([False, True, True, True], 3, 0.75),
        ([], 3, 0.0),
        ([False], 0, 0.0),
    ],
)
def test_average_precision(ranked: list[bool], wanted: int, expected: float) -> None:
    assert detector.average_precision(ranked, wanted) == pytest.approx(expected)


@given(st.lists(st.booleans(), max_size=30))
def test_average_precision_is_a_share_and_wrong_answers_never_help(ranked: list[bool]) -> None:
    wanted = max(1, sum(ranked))
    value = detector.average_precision(ranked, wanted)
    assert 0.0 <= value <= 1.0
    assert detector.average_precision([False, *ranked], wanted) <= value

"""The sizes of input and head follow from the boxes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_factories import set_up
from fixture_files import write_image, write_voc_annotation

from datamodules.base.box_statistics import MIN_BOXES, measure_boxes, small_side
from datamodules.formats.voc import Voc
from datamodules.synthetic import Scenes
from foundation.structures import Spec


def target(*boxes: tuple[float, float, float, float], label: int = 0) -> dict:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.full((len(boxes),), label)}


def test_the_class_with_the_smallest_objects_counts() -> None:
    rare, common, tiny = [30.0] * MIN_BOXES, [100.0] * 500, [5.0] * (MIN_BOXES - 1)
    labels = ["rare"] * len(rare) + ["common"] * len(common)
    assert small_side(rare + common, labels) == 30
    assert small_side(rare + common + tiny, [*labels, *["tiny"] * len(tiny)]) == 30  # too few boxes
    assert small_side(tiny, ["tiny"] * len(tiny)) == 5  # the only class
    assert small_side([0.0, 4.0, 4.0], "aaa") == 4
    assert small_side([0.0], "a") is None
    assert small_side([], []) is None


def test_objects_per_image_and_quantiles() -> None:
    targets = [target(*[(0, 0, 10, 40)] * 3), target(), target((5, 5, 45, 45), label=1)]
    assert measure_boxes(targets) == (3, (20.0, 20.0, 34.0))
    assert measure_boxes([target(), target()]) == measure_boxes([]) == (0, ())


@pytest.fixture
def cells(tmp_path: Path) -> Callable[..., str]:
    """A VOC folder of images of `size` with two boxes of `small` pixels and one of 100."""

    def make(size: tuple[int, int], small: int = 40) -> str:
        for i in range(12):
            write_image(tmp_path / "JPEGImages" / f"{i}.png", size, seed=i)
            boxes = [("small", 10, 10, 10 + small, 10 + small)] * 2 + [("large", 50, 50, 150, 150)]
            write_voc_annotation(tmp_path, str(i), boxes, size)
        return str(tmp_path)

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "small", "side"),
    [
        ((640, 480), 40, 384),  # 24 of 40 pixels are enough
        ((640, 480), 30, 512),
        ((480, 640), 30, 512),  # portrait
        ((640, 480), 60, 256),  # the minimum
        ((640, 480), 10, 640),  # never enlarged
        ((200, 160), 40, 200),
        ((1000, 400), 10, 800),  # the maximum
    ],
)
def test_small_objects_have_enough_pixels(cells: Callable, size: tuple[int, int], small: int, side: int) -> None:
    root = cells(size, small)
    spec = set_up(Voc(root)).spec
    assert spec.size == (side, side)
    assert spec.objects_per_image == 3
    assert spec.box_side_quantiles[0] == pytest.approx(small * side / max(size), rel=0.01)
    assert set_up(Voc(root, size=320)).spec.size == (320, 320)


@pytest.mark.slow
def test_a_resumed_run_has_its_former_sizes(cells: Callable) -> None:
    root = cells((640, 480))
    spec = set_up(Voc(root)).spec
    before = replace(spec, size=(448, 448), objects_per_image=9, box_side_quantiles=(1.0, 2.0, 3.0))
    Path(root, "Annotations", "3.xml").write_text("broken")
    data = Voc(root, on_error="skip")
    data.exclude_items(set(), before)
    spec = set_up(data).spec
    assert (spec.size, spec.objects_per_image) == (before.size, before.objects_per_image)
    assert spec.box_side_quantiles == before.box_side_quantiles


def test_scenes_are_measured_if_they_have_boxes() -> None:
    boxes, masks = (set_up(Scenes(target=kind, count=20)).spec for kind in ("boxes", "mask"))
    assert 1 <= boxes.objects_per_image <= 5
    small, median, large = boxes.box_side_quantiles
    assert 8 < small <= median <= large < 40
    assert (masks.objects_per_image, masks.box_side_quantiles) == (0, ())


def test_specs_of_older_checkpoints_have_no_statistics() -> None:
    spec = Spec(2, 3, ("a",), size=(64, 64), target="boxes", objects_per_image=3, box_side_quantiles=(1.0, 2.0, 3.0))
    values = spec.to_dict()
    assert Spec.from_dict(values) == spec
    del values["objects_per_image"], values["box_side_quantiles"]
    old = Spec.from_dict(values)
    assert (old.objects_per_image, old.box_side_quantiles) == (0, ())

"""The size of the input and what the head is told follow from the boxes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixture_files import write_image, write_voc_annotation

from datamodules.base.box_statistics import FEW, measure, small_side
from datamodules.formats.voc import Voc
from datamodules.synthetic import Scenes
from foundation.structures import Spec


def target(*boxes: tuple[float, float, float, float], label: int = 0) -> dict:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.full((len(boxes),), label)}


def test_the_class_of_the_smallest_objects_decides() -> None:
    rare, common, tiny = [30.0] * FEW, [100.0] * 500, [5.0] * (FEW - 1)
    labels = ["rare"] * len(rare) + ["common"] * len(common)
    assert small_side(rare + common, labels) == 30
    assert small_side(rare + common + tiny, [*labels, *["tiny"] * len(tiny)]) == 30  # too few to say
    assert small_side(tiny, ["tiny"] * len(tiny)) == 5  # there is nothing else
    assert small_side([0.0, 4.0, 4.0], "aaa") == 4
    assert small_side([0.0], "a") is None
    assert small_side([], []) is None


def test_what_the_head_is_told() -> None:
    crowd, sides = measure([target(*[(0, 0, 10, 40)] * 3), target(), target((5, 5, 45, 45), label=1)])
    assert crowd == 3
    assert sides == (20.0, 20.0, 34.0)
    assert measure([target(), target()]) == (0, ())
    assert measure([]) == (0, ())


@pytest.fixture
def cells(tmp_path: Path) -> Callable[..., Path]:
    """A set in VOC's form of `size` pictures with boxes of 40 pixels and one of 100."""

    def make(size: tuple[int, int], small: int = 40) -> Path:
        for i in range(12):
            write_image(tmp_path / "JPEGImages" / f"{i}.png", size, seed=i)
            boxes = [("small", 10, 10, 10 + small, 10 + small)] * 2 + [("large", 50, 50, 150, 150)]
            write_voc_annotation(tmp_path, str(i), boxes, size)
        return tmp_path

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "small", "side"),
    [
        ((640, 480), 40, 384),  # 24 of 40 pixels are enough
        ((640, 480), 30, 512),
        ((480, 640), 30, 512),  # either way up
        ((640, 480), 60, 256),  # nothing is gained below
        ((640, 480), 10, 640),  # never enlarged
        ((200, 160), 40, 200),
        ((1000, 400), 10, 800),  # never above
    ],
)
def test_small_objects_keep_enough_pixels(cells: Callable, size: tuple[int, int], small: int, side: int) -> None:
    data = Voc(str(cells(size, small)))
    data.setup("fit")
    assert data.spec.size == (side, side)
    assert data.spec.objects_per_image == 3
    assert data.spec.box_side_quantiles[0] == pytest.approx(small * side / max(size), rel=0.01)
    asked = Voc(str(data.root), size=320)
    asked.setup("fit")
    assert asked.spec.size == (320, 320)


@pytest.mark.slow
def test_a_run_that_is_gone_on_with_keeps_its_size(cells: Callable) -> None:
    root = cells((640, 480), 40)
    data = Voc(str(root), on_error="skip")
    data.setup("fit")
    (root / "Annotations" / "3.xml").write_text("broken")
    again = Voc(str(root), on_error="skip")
    again.resumed_spec, again.exclude = (
        replace(data.spec, size=(448, 448), objects_per_image=9, box_side_quantiles=(1.0, 2.0, 3.0)),
        set(),
    )
    again.setup("fit")
    assert (again.spec.size, again.spec.objects_per_image, again.spec.box_side_quantiles) == (
        (448, 448),
        9,
        (1.0, 2.0, 3.0),
    )


def test_drawn_scenes_are_measured_and_other_targets_are_not() -> None:
    scenes, masks = Scenes(target="boxes", count=20), Scenes(target="mask", count=20)
    scenes.setup("fit")
    masks.setup("fit")
    assert 1 <= scenes.spec.objects_per_image <= 5
    assert (
        8
        < scenes.spec.box_side_quantiles[0]
        <= scenes.spec.box_side_quantiles[1]
        <= scenes.spec.box_side_quantiles[2]
        < 40
    )
    assert (masks.spec.objects_per_image, masks.spec.box_side_quantiles) == (0, ())


def test_a_checkpoint_from_before_is_read() -> None:
    spec = Spec(2, 3, ("a",), size=(64, 64), target="boxes", objects_per_image=3, box_side_quantiles=(1.0, 2.0, 3.0))
    values = spec.to_dict()
    assert Spec.from_dict(values) == spec
    del values["objects_per_image"], values["box_side_quantiles"]
    old = Spec.from_dict(values)
    assert (old.objects_per_image, old.box_side_quantiles) == (0, ())

"""Pictures of what nets see."""

import pytest
import torch

from foundation.structures import IGNORE, Spec
from foundation.visualization.overlays import class_colours, mask_legend
from foundation.visualization.plots import curves, draw


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_becomes_a_picture(channels: int) -> None:
    image = torch.randint(0, 255, (channels, 300, 280), dtype=torch.uint8)
    shown = draw(image, {}, Spec(2, channels, ("a", "b")))
    assert shown.shape == (3, 300, 280)
    assert torch.equal(shown[0], image[0])
    assert torch.equal(shown[2], image[2] if channels >= 3 else image[0])


def test_a_class_has_one_colour_in_boxes_and_masks() -> None:
    boxes, masks = Spec(2, 3, ("cat", "dog")), Spec(2, 3, ("background", "cat", "dog"))
    assert class_colours(boxes) == class_colours(masks)[1:]
    assert [color for _, color in mask_legend(masks)] == class_colours(boxes)


def test_a_mask_has_an_outline_in_its_colour_and_what_is_ignored_is_hatched() -> None:
    image, mask = torch.full((3, 300, 300), 90, dtype=torch.uint8), torch.zeros(300, 300, dtype=torch.uint8)
    mask[100:200, 100:200], mask[:50, :50] = 1, IGNORE
    spec = Spec(2, 3, ("background", "cell"), target="mask")
    shown, color = draw(image, {"mask": mask}, spec), torch.tensor(class_colours(spec)[1])
    assert torch.equal(shown[:, 100, 150].int(), color.int())
    assert (shown[:, 98:100, 150].float().mean(1) < 90).all()  # a dark rim
    assert not torch.equal(shown[:, 150, 150].int(), color.int())
    assert set(shown[0, :50, :50].unique().tolist()) == {90, 255}
    assert (shown[:, 250:, 250:] == 90).all()


@pytest.mark.parametrize(("top", "bottom"), [(100, 110), (0, 10), (0, 299)])
def test_a_box_lies_around_what_it_holds_and_its_tag_outside_where_there_is_room(top: int, bottom: int) -> None:
    image = torch.full((3, 300, 300), 90, dtype=torch.uint8)
    answer = {"boxes": torch.tensor([[120.0, top, 130.0, bottom]]), "labels": torch.tensor([0])}
    shown = draw(image, answer, Spec(2, 3, ("cell",), target="boxes"))
    inside = shown[:, top + 1 : bottom, 121:130]
    assert (inside == 90).all() if bottom < 299 else (inside[:, 60:] == 90).all()
    assert (shown != 90).any()


@pytest.mark.parametrize("unlike", [1.0, 100.0])
def test_losses_too_unlike_for_one_scale_have_a_logarithmic_one(unlike: float) -> None:
    rows = [{"epoch": i, "train/a": 1 + 1 / i, "train/b": unlike * (1 + 1 / i), "train/loss": 3} for i in (1, 2, 3)]
    figure = curves(rows)
    assert figure.axes[0].get_yscale() == ("log" if unlike > 20 else "linear")

"""Plots and overlays."""

import pytest
import torch

from foundation.structures import IGNORE, Spec
from foundation.visualization.overlays import class_colors, mask_legend
from foundation.visualization.plots import curves, draw


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_becomes_rgb(channels: int) -> None:
    image = torch.randint(0, 255, (channels, 300, 280), dtype=torch.uint8)
    shown = draw(image, {}, Spec(2, channels, ("a", "b")))
    assert shown.shape == (3, 300, 280)
    assert torch.equal(shown[0], image[0])
    assert torch.equal(shown[2], image[2] if channels >= 3 else image[0])


def test_a_class_has_one_color_in_boxes_and_masks() -> None:
    boxes, masks = Spec(2, 3, ("cat", "dog")), Spec(2, 3, ("background", "cat", "dog"))
    assert class_colors(boxes) == class_colors(masks)[1:]
    assert [color for _, color in mask_legend(masks)] == class_colors(boxes)


def test_a_mask_is_tinted_and_what_is_ignored_is_white() -> None:
    image, mask = torch.full((3, 300, 300), 90, dtype=torch.uint8), torch.zeros(300, 300, dtype=torch.uint8)
    mask[100:200, 100:200], mask[:50, :50] = 1, IGNORE
    spec = Spec(2, 3, ("background", "cell"), target="mask")
    shown = draw(image, {"mask": mask}, spec)
    color = torch.tensor(class_colors(spec)[1])
    assert (shown[:, 150, 150] - (90 + color) / 2).abs().max() <= 1
    assert (shown[:, :50, :50] == (90 + 255) // 2).all()
    assert (shown[:, 250:, 250:] == 90).all()


@pytest.mark.parametrize("side", [30, 300])
def test_boxes_are_drawn_where_they_are_at_any_size(side: int) -> None:
    image = torch.full((3, side, side), 90, dtype=torch.uint8)
    box, spec = torch.tensor([[0.4, 0.4, 0.6, 0.6]]) * side, Spec(2, 3, ("cell",), target="boxes")
    shown = draw(image, {"boxes": box, "labels": torch.tensor([0])}, spec)
    changed = (shown != 90).any(0).nonzero().double() / shown.shape[1]
    assert changed.amin(0).tolist() == pytest.approx([0.4, 0.4], abs=0.02)
    assert changed[:, 0].max() == pytest.approx(0.6, abs=0.02)
    assert torch.equal(
        draw(image, {"boxes": box[:0], "labels": torch.tensor([]).long()}, spec).unique(),
        torch.tensor([90], dtype=torch.uint8),
    )


@pytest.mark.parametrize("unlike", [1.0, 100.0])
def test_losses_of_different_magnitude_have_a_logarithmic_scale(unlike: float) -> None:
    rows = [{"epoch": i, "train/a": 1 + 1 / i, "train/b": unlike * (1 + 1 / i), "train/loss": 3} for i in (1, 2, 3)]
    figure = curves(rows)
    assert figure.axes[0].get_yscale() == ("log" if unlike > 20 else "linear")

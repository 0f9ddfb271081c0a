"""Pictures of what nets see."""

import pytest
import torch

from drawing import draw
from structures import Spec


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_becomes_a_picture(channels: int) -> None:
    image = torch.randint(0, 255, (channels, 300, 280), dtype=torch.uint8)
    shown = draw(image, {}, Spec(2, channels, ("a", "b")))
    assert shown.shape == (3, 300, 280)
    assert torch.equal(shown[0], image[0])
    assert torch.equal(shown[2], image[2] if channels >= 3 else image[0])

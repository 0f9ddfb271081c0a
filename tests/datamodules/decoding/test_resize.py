"""Resizing of images."""

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from datamodules.decoding.resize import interpolate


@pytest.mark.parametrize("mode", ["bilinear", "nearest-exact"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_values_are_those_of_torchvision(mode: str, dtype: torch.dtype) -> None:
    image = torch.randint(256, (3, 61, 47)).to(dtype)
    for size in ((20, 33), (61, 90)):
        expected = functional.resize(image, list(size), InterpolationMode(mode), antialias=True)
        assert torch.equal(interpolate(image, size, mode), expected)

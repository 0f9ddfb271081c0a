"""ResNet over one, two or three axes.

One definition serves audio (N, C, T), images (N, C, H, W) and video (N, C, T, H, W). Parameter names equal those of torchvision and
timm, so their weights load unchanged for two axes, and inflated or collapsed for three or one.

Source: He et al., Deep Residual Learning, 2015 (arXiv:1512.03385); the stride sits on the 3x3 convolution, as in torchvision.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from backbones.base import Backbone, image_memory_format
from backbones.weights import load_weights
from foundation.structures import Features, InputError, require_range


class Conv1dAs2d(nn.Conv1d):
    """A 1D convolution applied to a signal as an image of height 1, (N, C, 1, T); its weights are those of `Conv1d`.

    In channels_last, training is 1.2 times as fast as on (N, C, T) (`python -m benchmarks layout`).
    """

    def forward(self, input: Tensor) -> Tensor:
        padding = int(self.padding[0])
        return functional.conv2d(input, self.weight.unsqueeze(2), self.bias, (1, self.stride[0]), (0, padding))


class MaxPool1dAs2d(nn.MaxPool1d):
    """1D max pooling applied to (N, C, 1, T)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.max_pool2d(input, (1, self.kernel_size), (1, self.stride), (0, self.padding))  # type: ignore[arg-type]


CONV = {1: Conv1dAs2d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm2d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: MaxPool1dAs2d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


class PaddedShortcut(nn.Module):
    """The paper's option A, without parameters: every second position, with zero channels added on both sides."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        subsampled = (slice(None), slice(None), *[slice(None, None, self.stride)] * (x.ndim - 2))
        before = self.extra // 2
        return functional.pad(x[subsampled], (*(0, 0) * (x.ndim - 2), before, self.extra - before))


class Block(nn.Module):
    """What both kinds of residual block share: the sum with the shortcut.

    Args:
        ndim: Number of axes.
        in_channels: Channels of the input.
        width: Channels of the 3-wide convolutions.
        stride: Divides every axis.
        shortcut: ``projection`` (a 1-wide convolution where the shape changes), ``padded`` (option A) or ``none`` (the plain network).
    """

    expansion = 1

    def __init__(self, ndim: int, in_channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        self.residual = shortcut != "none"
        self.make_layers(CONV[ndim], NORM[ndim], in_channels, width, stride)
        if self.residual and (in_channels != out_channels or stride > 1):
            if shortcut == "padded":
                self.downsample = PaddedShortcut(out_channels - in_channels, stride)
            else:
                projection = CONV[ndim](in_channels, out_channels, 1, stride, bias=False)
                self.downsample = nn.Sequential(projection, NORM[ndim](out_channels))

    def make_layers(
        self, conv: type[nn.Module], norm: type[nn.Module], in_channels: int, width: int, stride: int
    ) -> None:
        """Creates the convolutions and their norms."""
        raise NotImplementedError

    def branch(self, x: Tensor) -> Tensor:
        """Returns the output of the convolutions, before the sum and the last ReLU."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.residual:
            y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class BasicBlock(Block):
    """Two 3-wide convolutions (ResNet-18, -34 and the CIFAR networks)."""

    def make_layers(
        self, conv: type[nn.Module], norm: type[nn.Module], in_channels: int, width: int, stride: int
    ) -> None:
        self.conv1 = conv(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Bottleneck(Block):
    """1-3-1 convolutions around a quarter of the width (ResNet-50 and deeper)."""

    expansion = 4

    def make_layers(
        self, conv: type[nn.Module], norm: type[nn.Module], in_channels: int, width: int, stride: int
    ) -> None:
        self.conv1 = conv(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = conv(width, width * self.expansion, 1, bias=False)
        self.bn3 = norm(width * self.expansion)

    def branch(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))


LAYOUTS: dict[int, tuple[type[Block], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
} | {6 * n + 2: (BasicBlock, (n, n, n)) for n in (3, 5, 7, 9, 18)}
"""{depth: (block, blocks per stage)}. Three stages are the paper's CIFAR networks (20, 32, 44, 56, 110)."""


class ResNet(Backbone):
    """Features at strides 2, 4, 8, 16 and 32; 1, 2, 4 and 8 with a small stem; 1, 2 and 4 for the CIFAR networks.

    Args:
        depth: 18, 34, 50, 101, 152, or of a CIFAR network: 20, 32, 44, 56, 110.
        width: Channels of the first stage, at least 8; 64 in the paper's ImageNet networks, 16 in its CIFAR networks.
        stem: ``large`` (7-wide, stride 2, then max pooling) or ``small`` (3-wide, stride 1), for images under about 64 pixels.
        shortcut: False is the plain network of the same depth, without residual sums.
        weights: ``none``, a file, or the tag of published weights; see `backbones.weights.load_weights`.
        ndim: Number of axes, 1, 2 or 3.
        in_channels: Channels of the input.

    Raises:
        InputError: If `depth`, `ndim` or `stem` is unknown, `width` is below 8, or `weights` can't be loaded.
    """

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        stem: Literal["large", "small"] = "large",
        shortcut: bool = True,
        weights: str = "none",
        ndim: int = 2,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if depth not in LAYOUTS:
            raise InputError("backbone.unknown_depth", f"backbone.depth must be one of {sorted(LAYOUTS)}, got {depth}")
        if ndim not in CONV:
            raise InputError("backbone.wrong_axes", f"ndim must be 1, 2 or 3, got {ndim}")
        if stem not in ("large", "small"):
            raise InputError("config.unknown_value", f"backbone.stem must be large or small, got {stem!r}")
        # torch 2.15's channels_last 1x1 convolution of stride 2 writes out of bounds below 8 channels on AVX2.
        require_range("backbone.width", width, 8)
        self.ndim, self.in_channels = ndim, in_channels
        block, counts = LAYOUTS[depth]
        projection = "projection" if len(counts) == 4 else "padded"
        self.make_stem(width, large=stem == "large")
        self.make_stages(block, counts, width, projection if shortcut else "none")
        self.apply(initialize)
        self.set_memory_format()
        if weights != "none":
            self.match = load_weights(self, weights)

    def set_memory_format(self) -> None:
        """Stores 1D kernels with their channels last, as ``to(memory_format=...)`` does with 2D ones."""
        for module in self.modules():
            if isinstance(module, Conv1dAs2d) and min(self.channels.values()) >= 16:
                module.weight.data = module.weight.data.transpose(1, 2).contiguous().transpose(1, 2)

    def make_stem(self, width: int, large: bool) -> None:
        kernel, stride = (7, 2) if large else (3, 1)
        self.conv1 = CONV[self.ndim](self.in_channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = NORM[self.ndim](width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = POOL[self.ndim](3, 2, padding=1) if large else nn.Identity()

    def make_stages(self, block: type[Block], counts: Sequence[int], width: int, shortcut: str) -> None:
        large = not isinstance(self.maxpool, nn.Identity)
        self.channels = {2: width} if large else {}
        self.stages = {"stem": ("conv1", "bn1")}
        self.layers: dict[int, str] = {}
        in_channels, stride = width, 4 if large else 1
        for i, count in enumerate(counts):
            stage = nn.Sequential()
            for j in range(count):
                stage.append(block(self.ndim, in_channels, width * 2**i, 2 if i and not j else 1, shortcut))
                in_channels = width * 2**i * block.expansion
            name = f"layer{i + 1}"
            self.add_module(name, stage)
            self.channels[stride], self.layers[stride], self.stages[name] = in_channels, name, (name,)
            stride *= 2

    def forward(self, x: Tensor) -> Features:
        if self.ndim == 1:
            image = as_image(x, min(self.channels.values()))
            return {stride: y.squeeze(2) for stride, y in self.features(image).items()}
        return self.features(x)

    def features(self, x: Tensor) -> Features:
        """Returns features over two or three axes; a 1D signal comes as an image of height 1."""
        x = self.relu(self.bn1(self.conv1(x)))
        features = {2: x} if 2 not in self.layers else {}
        x = self.maxpool(x)
        for stride, name in self.layers.items():
            x = features[stride] = self.get_submodule(name)(x)
        return features


def as_image(x: Tensor, narrowest: int) -> Tensor:
    """Returns a signal (N, C, T) as an image (N, C, 1, T), in channels_last where that is safe."""
    return x.unsqueeze(2).contiguous(memory_format=image_memory_format(narrowest))


def initialize(module: nn.Module) -> None:
    """He initialization of every convolution, as in the paper (arXiv:1502.01852)."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

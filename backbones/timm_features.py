"""Any timm model with features, as a `Backbone`."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from backbones.base import Backbone
from backbones.weights import from_hub, hub_folder, load_weights, nearest, set_offline_if_unreachable
from foundation.structures import Features, InputError


class TimmFeatures(Backbone):
    """A `features_only` model of timm: VGG, DenseNet, MobileNet, Inception, EfficientNet, ConvNeXt and hundreds more.

    Args:
        name: timm's name, with or without a tag, such as ``mobilenetv3_small_100`` or ``convnext_tiny.fb_in22k``.
        weights: ``none``, ``pretrained`` (timm's own for this name), or a file with a state dict.
        ndim: Number of axes; timm's models have 2.
        in_channels: Channels of the input.

    Raises:
        InputError: If timm has no such model, it has no features, or `ndim` is not 2.
    """

    def __init__(
        self, name: str = "mobilenetv3_small_100", weights: str = "none", ndim: int = 2, in_channels: int = 3
    ) -> None:
        super().__init__()
        pretrained = weights == "pretrained"
        if pretrained:
            set_offline_if_unreachable()
        import timm

        if ndim != 2:
            raise InputError(
                "backbone.wrong_axes", f"backbone=timm has 2 axes, this data has {ndim}: choose backbone=resnet18"
            )
        if not timm.is_model(name):
            raise InputError(
                "backbone.unknown_model",
                f"timm has no model {name!r}.{nearest(name.split('.')[0], timm.list_models())}",
            )
        self.ndim, self.in_channels = ndim, in_channels

        def create() -> dict[str, Any]:
            return {"net": timm.create_model(name, features_only=True, pretrained=pretrained, in_chans=in_channels)}

        self.net: Any
        try:
            self.net = (from_hub(name, create, hub_folder) if pretrained else create())["net"]
        except (RuntimeError, AttributeError) as error:
            raise InputError("backbone.no_features", f"timm's {name} has no features by stride: {error}") from error
        info = self.net.feature_info
        self.order = list(info.reduction())
        if len(set(self.order)) < len(self.order):
            raise InputError(
                "backbone.repeated_strides",
                f"backbone.name={name} has features at the strides {self.order}, some of them twice: "
                "choose a model with one feature map per stride, such as resnet18",
            )
        self.channels = dict(zip(self.order, info.channels(), strict=True))
        self.stages = find_stages(self.net, info.module_name())
        if weights not in ("none", "pretrained"):
            self.match = load_weights(self, weights)

    def forward(self, x: Tensor) -> Features:
        maps = self.net(x)
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":  # some transformers; HRNet does not have the attribute
            maps = [y.permute(0, 3, 1, 2) for y in maps]
        return dict(zip(self.order, maps, strict=True))


def find_stages(net: nn.Module, ends: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the modules of `net` in order, split into stages after each of `ends`, the modules whose outputs are features.

    They are one stage if no end is found. timm joins the names of modules that it lifts out of their container by an underscore.
    """
    lasts = {end.replace(".", "_") for end in ends}
    stages: list[list[str]] = [[]]
    for name in largest_modules(net, "net", lasts):
        stages[-1].append(name)
        if name.removeprefix("net.").replace(".", "_") in lasts:
            stages.append([])
    if len(stages) > 1:
        stages[-2:] = [stages[-2] + stages[-1]]  # modules after the last feature belong to the last stage
    return {f"stage{i}": tuple(names) for i, names in enumerate(stages)}


def largest_modules(module: nn.Module, path: str, lasts: set[str]) -> Iterator[str]:
    """Yields the names of the largest modules below `path` that contain none of `lasts`."""
    for name, child in module.named_children():
        full = f"{path}.{name}"
        flat = full.removeprefix("net.").replace(".", "_")
        if flat not in lasts and any(last.startswith(f"{flat}_") for last in lasts):
            yield from largest_modules(child, full, lasts)
        else:
            yield full

"""Faster R-CNN's two stages over a feature dictionary, from torchvision's public parts.

Source: Ren et al., 2015 (arXiv:1506.01497); Lin et al., Feature Pyramid Networks, 2017 (arXiv:1612.03144).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from backbones.base import require_strides
from foundation.parallel.collectives import mean_over_ranks
from foundation.structures import Batch, Features, Prediction, require_range
from heads.balanced_sampler import BalancedSampler
from heads.rcnn_options import (
    AnchorOptions,
    FPNOptions,
    SamplingOptions,
    resolve_anchors,
    resolve_fpn,
    resolve_sampling,
)


class Float32(nn.Module):
    """Casts what `inner` returns to float32: boxes are encoded and decoded at full precision under autocast, too."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor | list[Tensor]) -> tuple:
        return tuple([y.float() for y in part] if isinstance(part, list) else part.float() for part in self.inner(x))


class Float32Anchors(AnchorGenerator):
    """Torchvision's anchors, in float32 over levels of any precision."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        shapes = [torch.zeros(1, device=level.device).expand(level.shape) for level in feature_maps]  # takes no memory
        return super().forward(image_list, shapes)


class RCNN(nn.Module):
    """Proposals on a feature pyramid, then a class and a box for each. Options that are None are derived from backbone and data.

    Args:
        channels: {stride: channels} of the backbone.
        num_classes: Number of classes without background; labels run 0..num_classes-1 outside, the background is private.
        fpn: The feature pyramid.
        anchors: The anchors.
        sampling: How many proposals of an image there are.
        representation_size: Width of the two layers that classify a proposal; None is 4 times the pyramid's channels.
        score_threshold: Lowest score of a detection, 0 to 1.
        objects_per_image: As in `Spec`; 0 if unknown.
        box_side_quantiles: As in `Spec`, in pixels; empty if unknown.

    Attributes:
        options: The options of this head without None, as a config node.

    Raises:
        InputError: If the backbone lacks one of the strides, or a number is out of range.
    """

    def __init__(
        self,
        channels: Mapping[int, int],
        num_classes: int,
        fpn: FPNOptions = FPNOptions(),
        anchors: AnchorOptions = AnchorOptions(),
        sampling: SamplingOptions = SamplingOptions(),
        representation_size: int | None = None,
        score_threshold: float = 0.05,
        objects_per_image: int = 0,
        box_side_quantiles: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if representation_size is not None:
            require_range("task.head.representation_size", representation_size, 1)
        require_range("task.head.score_threshold", score_threshold, 0, 1)
        fpn = resolve_fpn(fpn, channels, box_side_quantiles)
        width, self.strides = int(fpn.out_channels or 0), list(fpn.strides or ())
        inputs = require_strides(channels, self.strides, "Faster R-CNN")
        anchors = resolve_anchors(anchors, self.strides, box_side_quantiles)
        sampling, hidden = resolve_sampling(sampling, objects_per_image), representation_size or 4 * width
        groups: dict[str, FPNOptions | AnchorOptions | SamplingOptions] = {
            "fpn": fpn,
            "anchors": anchors,
            "sampling": sampling,
        }
        self.options: dict[str, Any] = {name: config_node(group) for name, group in groups.items()} | {
            "representation_size": hidden
        }
        self.fpn = FeaturePyramidNetwork(inputs, width, LastLevelMaxPool() if fpn.extra_pool_level else None)
        levels = [*self.strides, 2 * self.strides[-1]] if fpn.extra_pool_level else self.strides
        self.anchors = [round((anchors.size or 0) * stride) for stride in levels]
        self.rpn = make_rpn(width, self.anchors, anchors.aspect_ratios, int(sampling.post_nms_top_n or 0))
        sampler = BalancedSampler(int(sampling.batch_size_per_image or 0), 0.25)
        self.roi = make_roi_heads(
            self.strides, TwoMLPHead(width * 7 * 7, hidden), num_classes, sampler, score_threshold
        )

    def describe(self) -> str:
        """Returns the sizes in words, for a run's log."""
        sampling = self.options["sampling"]
        return (
            f"a feature pyramid of {self.options['fpn']['out_channels']} channels at strides {', '.join(map(str, self.strides))}, "
            f"anchors of {', '.join(map(str, self.anchors))} pixels, {sampling['post_nms_top_n']} proposals per image, "
            f"{sampling['batch_size_per_image']} sampled in training"
        )

    @property
    def compilable(self) -> list[nn.Module]:
        """The modules that `torch.compile` takes; behind the pyramid, shapes depend on the number of proposals."""
        return [self.fpn]

    def select(self, features: Features) -> Features:
        """Returns what `forward` needs of the features, for a cache: the pyramid's levels."""
        return {stride: features[stride] for stride in self.strides}

    def forward(
        self, features: Features, batch: Batch, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Prediction], dict[str, Tensor]]:
        """Returns detections per image (empty in training) and the four losses (empty without targets)."""
        images = ImageList(batch["input"], [(size[0], size[1]) for size in batch["sizes"]])
        levels = self.fpn({str(stride): features[stride] for stride in self.strides})
        for sampler in self.samplers:
            sampler.set_seeds(batch.get("seeds"))
        if targets is not None:
            targets = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]
        proposals, rpn_losses = self.rpn(images, levels, targets)
        # The RPN takes the levels at any precision; RoIAlign reads them in float32.
        precise = {str(stride): levels[str(stride)].float() for stride in self.strides}
        detections, roi_losses = self.roi(precise, proposals, images.image_sizes, targets)
        return detections, rpn_losses | roi_losses

    @property
    def samplers(self) -> list[BalancedSampler]:
        """The samplers of anchors and of proposals."""
        return [self.rpn.fg_bg_sampler, self.roi.fg_bg_sampler]

    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the scalars ``loss_objectness``, ``loss_rpn_box_reg``, ``loss_classifier`` and ``loss_box_reg``.

        Torchvision's are means over the anchors, or proposals, that were sampled on this rank; these are means over those of all ranks.
        """
        losses: dict[str, Tensor] = self(features, batch, batch["target"])[1]
        pairs = ("loss_objectness", "loss_rpn_box_reg"), ("loss_classifier", "loss_box_reg")
        for pair, sampler in zip(pairs, self.samplers, strict=True):
            means = mean_over_ranks(torch.stack([losses[name] for name in pair]), sampler.sampled)
            losses.update(zip(pair, means, strict=True))
        return losses

    @torch.no_grad()
    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        """Returns boxes (K, 4) in the input's pixels, labels (K,) in 0..num_classes-1 and scores (K,), in descending order of score."""
        detections, _ = self(features, batch)
        return [{"boxes": d["boxes"], "labels": d["labels"] - 1, "scores": d["scores"]} for d in detections]


def config_node(options: FPNOptions | AnchorOptions | SamplingOptions) -> dict[str, Any]:
    """Returns the config that builds `options`, in plain values."""
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(options).items()}
    return {"_target_": f"{type(options).__module__}.{type(options).__qualname__}", **values}


def make_rpn(width: int, anchors: Sequence[int], ratios: Sequence[float], top_n: int) -> RegionProposalNetwork:
    """Returns the first stage, with anchors of one side per level."""
    rpn = RegionProposalNetwork(
        Float32Anchors(tuple((side,) for side in anchors), (tuple(ratios),) * len(anchors)),
        Float32(RPNHead(width, len(ratios))),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": top_n, "testing": top_n},
        post_nms_top_n={"training": top_n, "testing": top_n},
        nms_thresh=0.7,
    )
    rpn.fg_bg_sampler = BalancedSampler(256, 0.5)
    return rpn


def make_roi_heads(
    strides: Sequence[int], box_head: TwoMLPHead, num_classes: int, sampler: BalancedSampler, score_threshold: float
) -> RoIHeads:
    """Returns the second stage: a class and a box for every proposal."""
    roi = RoIHeads(
        MultiScaleRoIAlign([str(stride) for stride in strides], output_size=7, sampling_ratio=2),
        box_head,
        Float32(FastRCNNPredictor(box_head.fc7.out_features, num_classes + 1)),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=sampler.size,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=score_threshold,
        nms_thresh=0.5,
        detections_per_img=100,
    )
    roi.fg_bg_sampler = sampler
    return roi

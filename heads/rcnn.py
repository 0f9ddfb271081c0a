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

from backbones.base import require
from foundation.parallel.collectives import mean_over_ranks
from foundation.structures import Batch, Features, InputError, Prediction, require_range
from heads.anchor_sampler import Sampler
from heads.rcnn_defaults import Sizes, decide


class Float32(nn.Module):
    """What `inner` gives, in float32: boxes are coded and decoded at full precision under autocast too."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor | list[Tensor]) -> tuple:
        return tuple([y.float() for y in part] if isinstance(part, list) else part.float() for part in self.inner(x))


class Anchors(AnchorGenerator):
    """Torchvision's anchors, in float32 over levels of any precision."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        shapes = [torch.zeros(1, device=level.device).expand(level.shape) for level in feature_maps]  # no memory
        return super().forward(image_list, shapes)


class RCNN(nn.Module):
    """Proposals on a feature pyramid, then a class and a box for each. What is None is decided by backbone and data, see `heads.rcnn_defaults`.

    Args:
        channels: {stride: channels} of the backbone.
        num_classes: Number of classes, without background; labels run 0..num_classes-1 outside, the background is private.
        width: Channels of the pyramid.
        hidden: Width of the two layers that judge a proposal.
        anchor: Side of an anchor in units of its level's stride.
        ratios: Height to width of the anchors.
        strides: The levels used.
        proposals: Proposals kept an image.
        sampled: Proposals that a training step judges, an image.
        threshold: Lowest score of a detection, 0 to 1.
        pool: One more level, of twice the last stride, for the anchors of large objects.
        objects_per_image: How many objects full images hold, as in `Spec`; 0 where that is not known.
        box_side_quantiles: Sides of the boxes in pixels, as in `Spec`; empty where they are not known.

    Attributes:
        chosen: What was decided or asked for, by the name of the argument.

    Raises:
        InputError: If the backbone lacks one of `strides`, or a number is out of range.
    """

    def __init__(
        self,
        channels: Mapping[int, int],
        num_classes: int,
        width: int | None = None,
        hidden: int | None = None,
        anchor: float | None = None,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] | None = None,
        proposals: int | None = None,
        sampled: int | None = None,
        threshold: float = 0.05,
        pool: bool = False,
        objects_per_image: int = 0,
        box_side_quantiles: Sequence[float] = (),
    ) -> None:
        super().__init__()
        check({"width": width, "hidden": hidden, "proposals": proposals, "sampled": sampled}, anchor, ratios, strides)
        require_range("task.head.threshold", threshold, 0, 1)
        size = decide(
            channels, objects_per_image, box_side_quantiles, width, hidden, strides, anchor, proposals, sampled
        )
        self.chosen: dict[str, Any] = asdict(size) | {"strides": list(size.strides)}
        self.strides = list(size.strides)
        self.fpn = FeaturePyramidNetwork(
            require(channels, self.strides, "Faster R-CNN"), size.width, LastLevelMaxPool() if pool else None
        )
        anchored = [*self.strides, 2 * self.strides[-1]] if pool else self.strides
        self.anchors = [round(size.anchor * stride) for stride in anchored]
        self.rpn = proposing(size, self.anchors, ratios)
        self.roi = judging(size, num_classes, threshold)

    def describe(self) -> str:
        """The sizes in words, for a run's log."""
        size, anchors = self.chosen, ", ".join(map(str, self.anchors))
        return (
            f"a pyramid of {size['width']} channels on strides {', '.join(map(str, self.strides))}, anchors of {anchors} pixels, "
            f"{size['proposals']} proposals an image, {size['sampled']} judged in training"
        )

    @property
    def dense(self) -> list[nn.Module]:
        """What can be compiled as it is; after it, no two pictures have equally many proposals."""
        return [self.fpn]

    def needed(self, features: Features) -> Features:
        """Those of the pyramid's levels."""
        return {stride: features[stride] for stride in self.strides}

    def forward(
        self, features: Features, batch: Batch, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Prediction], dict[str, Tensor]]:
        """Detections an image (empty while training) and the four losses (empty without targets)."""
        images = ImageList(batch["input"], [(size[0], size[1]) for size in batch["sizes"]])
        levels = self.fpn({str(stride): features[stride] for stride in self.strides})
        for sampler in self.samplers:
            sampler.seeds = batch.get("seeds")
        if targets is not None:
            targets = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]
        proposals, first = self.rpn(images, levels, targets)
        # The anchors' layers take the levels as they are; what lies in a box is read from them in float32.
        precise = {str(stride): levels[str(stride)].float() for stride in self.strides}
        found, second = self.roi(precise, proposals, images.image_sizes, targets)
        return found, first | second

    @property
    def samplers(self) -> list[Sampler]:
        """Of anchors and of proposals."""
        return [self.rpn.fg_bg_sampler, self.roi.fg_bg_sampler]

    def losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """``loss_objectness``, ``loss_rpn_box_reg``, ``loss_classifier`` and ``loss_box_reg``, scalars.

        Torchvision's are means over the anchors, or the proposals, that were drawn here; these are over those of all processes.
        """
        losses: dict[str, Tensor] = self(features, batch, batch["target"])[1]
        for pair, sampler in zip(
            (("loss_objectness", "loss_rpn_box_reg"), ("loss_classifier", "loss_box_reg")), self.samplers, strict=True
        ):
            losses.update(
                zip(pair, mean_over_ranks(torch.stack([losses[name] for name in pair]), sampler.drawn), strict=True)
            )
        return losses

    @torch.no_grad()
    def predict(self, features: Features, batch: Batch) -> list[Prediction]:
        """Boxes (K, 4) in the input's pixels, labels (K,) in 0..num_classes-1, scores (K,); the best first."""
        found, _ = self(features, batch)
        return [{"boxes": f["boxes"], "labels": f["labels"] - 1, "scores": f["scores"]} for f in found]


def proposing(size: Sizes, anchors: Sequence[int], ratios: Sequence[float]) -> RegionProposalNetwork:
    """The first stage: anchors of one side a level, and what they learn to be."""
    kept = {"training": size.proposals, "testing": size.proposals}
    made = RegionProposalNetwork(
        Anchors(tuple((side,) for side in anchors), (tuple(ratios),) * len(anchors)),
        Float32(RPNHead(size.width, len(ratios))),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n=kept,
        post_nms_top_n=kept,
        nms_thresh=0.7,
    )
    made.fg_bg_sampler = Sampler(256, 0.5)
    return made


def judging(size: Sizes, num_classes: int, threshold: float) -> RoIHeads:
    """The second stage: a class and a box for every proposal."""
    made = RoIHeads(
        MultiScaleRoIAlign([str(stride) for stride in size.strides], output_size=7, sampling_ratio=2),
        TwoMLPHead(size.width * 7 * 7, size.hidden),
        Float32(FastRCNNPredictor(size.hidden, num_classes + 1)),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=size.sampled,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=threshold,
        nms_thresh=0.5,
        detections_per_img=100,
    )
    made.fg_bg_sampler = Sampler(size.sampled, 0.25)
    return made


def check(
    counts: Mapping[str, int | None], anchor: float | None, ratios: Sequence[float], strides: Sequence[int] | None
) -> None:
    """Refuse what no pyramid or proposal can be made of, by its key in a config; `counts` are those that start at 1."""
    for name, count in counts.items():
        require_range(f"task.head.{name}", 1 if count is None else count, 1)
    require_range("task.head.anchor", 1.0 if anchor is None else anchor, 0, above=True)
    for ratio in ratios:
        require_range("task.head.ratios", ratio, 0, above=True)
    levels = [1] if strides is None else list(strides)
    if not ratios or not levels or len(set(levels)) < len(levels):
        raise InputError(
            f"task.head.ratios and strides name at least one each, no stride twice, got {list(ratios)} and {strides}"
        )

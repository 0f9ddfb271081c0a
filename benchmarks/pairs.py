"""The four tasks on real data: the words for our side, and the rival on the same items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import subsets
from benchmarks.ours import STILL, STILL_SOUND, prepared
from benchmarks.rivals.audio import audio
from benchmarks.rivals.classification import classification
from benchmarks.rivals.detection import detection
from benchmarks.rivals.segmentation import segmentation
from benchmarks.rivals.tutorial import Tutorial
from benchmarks.rounds import Settings
from resmet.assembly import assemble_task


@dataclass(frozen=True)
class Pair:
    """A task of ours and its rival.

    Attributes:
        source: The data set.
        subset: Puts so many training and validation items of it into a folder.
        words: For `train.py`, besides the root.
        rival: Makes the rival from the folder, our config, data and task.
        items: Training items of an epoch.
        few: Where it is to be quick.
        turn: Steps of a turn.
        still: Words that leave items unchanged.
    """

    source: str
    subset: Callable[[Path, Path, int, int], Path]
    words: tuple[str, ...]
    rival: Callable[..., Tutorial]
    items: int
    few: int
    turn: int
    still: tuple[str, ...]

    def root(self, settings: Settings, train: int, val: int) -> Path:
        """A folder with so many items.

        Raises:
            Absent: If the data set is not there.
        """
        source = settings.need(self.source)
        source = source / "BCCD" if self.source == "bccd" else source
        target = settings.scratch / f"{self.source}-{train}-{val}"
        return target if target.is_dir() else self.subset(source, target, train, val)

    def said(self, root: Path) -> tuple[str, ...]:
        """The words for `train.py`."""
        return (*self.words, f"data.root={root}")

    def make_rival(self, root: Path, *words: str) -> Tutorial:
        """The rival, with what it must have in common with ours."""
        cfg, data = prepared([*self.said(root), *words])
        return self.rival(root, cfg, data, assemble_task(cfg, data.spec))


def classifier(root: Path, cfg: Any, data: Any, task: Any) -> Tutorial:
    return classification(root, data.spec.size[0], cfg.data.batch_size)


def published_detector(root: Path, cfg: Any, data: Any, task: Any) -> Tutorial:
    return detection(root, data.spec.class_names, cfg.data.batch_size)


def alike_detector(root: Path, cfg: Any, data: Any, task: Any) -> Tutorial:
    return detection(root, data.spec.class_names, cfg.data.batch_size, **detector_sizes(cfg, data, task))


def detector_sizes(cfg: Any, data: Any, task: Any) -> dict[str, Any]:
    """What torchvision's detector must be told to have the image size and the widths of ours."""
    kinds: dict[str, Any] = {type(module).__name__: module for module in task.modules()}
    height, width = next(iter(data.val_dataloader()))["sizes"][0]
    data.teardown("")
    sizes: dict[str, Any] = {"min_size": min(height, width), "max_size": max(height, width)}
    sizes["width"] = kinds["FeaturePyramidNetwork"].layer_blocks[0][0].out_channels
    sizes["hidden"] = kinds["TwoMLPHead"].fc6.out_features
    numbers = getattr(task.head, "chosen", cfg.task.head)  # those that follow from the data where nobody said any
    sizes["box_batch_size_per_image"] = numbers["sampled"]
    sizes["rpn_post_nms_top_n_train"] = sizes["rpn_pre_nms_top_n_train"] = numbers["proposals"]
    return sizes | {"strides": tuple(task.head.strides)}


def segmenter(root: Path, cfg: Any, data: Any, task: Any) -> Tutorial:
    return segmentation(root, cfg.data.augment.random_crop, cfg.data.batch_size)


def listener(root: Path, cfg: Any, data: Any, task: Any) -> Tutorial:
    return audio(root, data.spec.size[0], data.spec.num_classes, cfg.data.batch_size)


VALUES = "data.values={0:membrane,255:interior}"
DETECTION = partial(
    Pair,
    "bccd",
    subsets.voc,
    ("task=detection", "data=voc"),
    few=4,
    turn=1,
    still=STILL,
)

PAIRS = {
    "classification": Pair(
        "clothing",
        subsets.class_folders,
        ("data=image_folder", "data.size=224"),
        classifier,
        items=128,
        few=32,
        turn=2,
        still=STILL,
    ),
    "detection": DETECTION(rival=published_detector, items=8),
    "detection_alike": DETECTION(rival=alike_detector, items=64),
    "segmentation": Pair(
        "membrane",
        subsets.masks,
        ("task=segmentation", "data=mask_folder", VALUES, "data.augment.random_crop=256"),
        segmenter,
        items=48,
        few=4,
        turn=2,
        still=STILL,
    ),
    "audio": Pair(
        "fsdd",
        subsets.sounds,
        ("task=audio", "data=audio_csv"),
        listener,
        items=256,
        few=32,
        turn=4,
        still=STILL_SOUND,
    ),
}

"""The four tasks on real data: Resmet's overrides, and the rival on the same items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import subsets
from benchmarks.ab_timing import Settings
from benchmarks.resmet_side import NO_AUDIO_AUGMENT, NO_AUGMENT, load_data
from benchmarks.rivals.audio import audio
from benchmarks.rivals.classification import classification
from benchmarks.rivals.detection import detection
from benchmarks.rivals.segmentation import segmentation
from benchmarks.rivals.tutorial import Tutorial
from resmet.assembly import assemble_task

TORCHVISION = "torchvision's tutorial loop, fp32"
TORCHVISION_SAME_SIZES = f"{TORCHVISION}, FasterRCNN at our sizes"
SMP = "the loop of smp's examples, fp32"
SOUNDFILE = "a tutorial loop with soundfile and Conv1d, fp32"


@dataclass(frozen=True)
class Pair:
    """A task of Resmet and its rival.

    Attributes:
        rival: What the rival is called in the table.
        source: The data set, relative to the data folder.
        subset: Takes (source, target, train, val) items of it.
        overrides: Overrides of ``train.py``, besides the root.
        make: Returns the rival, given the subset's folder, and Resmet's config, data module and task.
        items: Training items of an epoch.
        quick_items: The same in quick mode.
        step_items: Items a batch in memory.
        round_steps: Steps of a round.
        no_augment: Overrides that turn augmentation off.
    """

    rival: str
    source: str
    subset: Callable[[Path, Path, int, int], Path]
    overrides: tuple[str, ...]
    make: Callable[..., Tutorial]
    items: int
    quick_items: int
    step_items: int
    round_steps: int
    no_augment: tuple[str, ...] = NO_AUGMENT

    def root(self, settings: Settings, train: int, val: int) -> Path:
        """Returns a folder with `train` and `val` items.

        Raises:
            Absent: If the data set is not available.
        """
        source = settings.dataset(self.source)
        target = settings.scratch / f"{self.source.replace('/', '-')}-{train}-{val}"
        return target if target.is_dir() else self.subset(source, target, train, val)

    def at(self, root: Path) -> tuple[str, ...]:
        """Returns the overrides of ``train.py`` for a subset."""
        return (*self.overrides, f"data.root={root}")

    def make_rival(self, root: Path, *overrides: str) -> Tutorial:
        """Returns the rival, with the sizes that Resmet has under these overrides."""
        cfg, data = load_data([*self.at(root), *overrides])
        return self.make(root, cfg, data, assemble_task(cfg, data.spec))


def torchvision_sizes(cfg: Any, data: Any, task: Any) -> dict[str, Any]:
    """Returns the arguments that give torchvision's detector the image size and the widths of ours."""
    modules: dict[str, Any] = {type(module).__name__: module for module in task.modules()}
    height, width = next(iter(data.val_dataloader()))["sizes"][0]
    data.teardown("")
    sampling = task.head.options["sampling"]  # depends on the data unless the config sets it
    return {
        "min_size": min(height, width),
        "max_size": max(height, width),
        "fpn_channels": modules["FeaturePyramidNetwork"].layer_blocks[0][0].out_channels,
        "representation_size": modules["TwoMLPHead"].fc6.out_features,
        "box_batch_size_per_image": sampling["batch_size_per_image"],
        "rpn_pre_nms_top_n_train": sampling["post_nms_top_n"],
        "rpn_post_nms_top_n_train": sampling["post_nms_top_n"],
        "strides": tuple(task.head.strides),
    }


def same_detection(root: Path, cfg: Any, data: Any, task: Any) -> Tutorial:
    return detection(root, data.spec.class_names, cfg.data.batch_size, **torchvision_sizes(cfg, data, task))


DETECTION = partial(
    Pair,
    *(TORCHVISION_SAME_SIZES, "bccd/BCCD", subsets.voc, ("task=detection", "data=voc")),
    quick_items=4,
    step_items=4,
    round_steps=1,
)
VALUES = "data.values={0:membrane,255:interior}"

PAIRS = {
    "classification": Pair(
        *(TORCHVISION, "clothing", subsets.class_folders, ("data=image_folder", "data.size=224")),
        lambda root, cfg, data, task: classification(root, data.spec.size[0], cfg.data.batch_size),
        items=128,
        quick_items=32,
        step_items=32,
        round_steps=2,
    ),
    "detection": DETECTION(
        lambda root, cfg, data, task: detection(root, data.spec.class_names, cfg.data.batch_size), items=8
    ),
    "detection_alike": DETECTION(same_detection, items=64),
    "segmentation": Pair(
        *(SMP, "membrane", subsets.masks),
        ("task=segmentation", "data=mask_folder", VALUES, "data.augment.random_crop=256"),
        lambda root, cfg, data, task: segmentation(root, cfg.data.augment.random_crop, cfg.data.batch_size),
        items=48,
        quick_items=4,
        step_items=4,
        round_steps=2,
    ),
    "audio": Pair(
        *(SOUNDFILE, "fsdd", subsets.audio_clips, ("task=audio", "data=audio_csv")),
        lambda root, cfg, data, task: audio(root, data.spec.size[0], data.spec.num_classes, cfg.data.batch_size),
        items=256,
        quick_items=32,
        step_items=32,
        round_steps=4,
        no_augment=NO_AUDIO_AUGMENT,
    ),
}

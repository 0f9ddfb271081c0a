"""The tasks on subsets of real data sets: Resmet's overrides, and the rival on the same files."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.measure import Absent, Settings
from benchmarks.resmet_side import NO_AUDIO_AUGMENT, NO_AUGMENT, load_data
from benchmarks.rivals.audio import audio
from benchmarks.rivals.classification import classification
from benchmarks.rivals.detection import detection
from benchmarks.rivals.segmentation import segmentation
from benchmarks.rivals.tutorial import Tutorial
from resmet.assembly import assemble_task

TORCHVISION = "torchvision's tutorial loop, fp32"
TORCHVISION_SAME_SIZES = f"{TORCHVISION}, FasterRCNN at our sizes"


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def class_folders(source: Path, target: Path, train: int, val: int) -> None:
    """Takes `train` and `val` images of class folders, evenly over the classes."""
    held_out = "validation" if (source / "validation").is_dir() else "test"
    for split, name, count in (("train", "train", train), (held_out, "val", val)):
        classes = [sorted(folder.iterdir()) for folder in sorted((source / split).iterdir()) if folder.is_dir()]
        for path in [path for turn in zip_longest(*classes) for path in turn if path][:count]:
            copy(path, target / name / path.parent.name / path.name)


def voc(source: Path, target: Path, train: int, val: int) -> None:
    """Takes the first images of the train and val lists of a Pascal VOC folder."""
    lists = Path("ImageSets") / "Main"
    (target / lists).mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        names = (source / lists / f"{split}.txt").read_text().split()[:count]
        for path in (path for name in names for path in (f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml")):
            copy(source / path, target / path)
        (target / lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def masks(source: Path, target: Path, train: int, val: int) -> None:
    """Takes the first images of both splits, with their masks."""
    for split, count in (("train", train), ("val", val)):
        for image in sorted((source / split / "images").iterdir())[:count]:
            for kind in ("images", "masks"):
                copy(source / split / kind / image.name, target / split / kind / image.name)


def audio_clips(source: Path, target: Path, train: int, val: int) -> None:
    """Takes clips of a manifest, evenly over its rows, so that every label occurs; its test split becomes val."""
    with (source / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = []
    for split, name, count in (("train", "train", train), ("test", "val", val)):
        of_split = [row for row in rows if row["split"] == split]
        chosen += [of_split[len(of_split) * i // count] | {"split": name} for i in range(count)]
    for row in chosen:
        copy(source / row["path"], target / row["path"])
    with (target / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(chosen[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(chosen)


@dataclass(frozen=True)
class Pair:
    """A task of Resmet and its rival.

    Attributes:
        rival: What the rival is called in the table.
        source: The data set, relative to the data folder.
        subset: Copies (source, target, train, val) items of it.
        overrides: Overrides of ``train.py``, besides the root.
        make: Returns the rival, given the subset's folder, and Resmet's config, data module and task.
        items: Training items of an epoch; a batch in quick mode.
        batch_size: Items of a batch in memory.
        round_steps: Steps of a round.
        no_augment: Overrides that turn augmentation off.
    """

    rival: str
    source: str
    subset: Callable[[Path, Path, int, int], None]
    overrides: tuple[str, ...]
    make: Callable[..., Tutorial]
    items: int
    batch_size: int
    round_steps: int
    no_augment: tuple[str, ...] = NO_AUGMENT

    def root(self, settings: Settings, train: int, val: int) -> Path:
        """Returns a folder with `train` and `val` items.

        Raises:
            Absent: If the data set is not available.
        """
        source = settings.data / self.source
        if not source.is_dir():
            raise Absent(f"no data set {self.source} in the folder RESMET_DATA")
        target = settings.scratch / f"{self.source.replace('/', '-')}-{train}-{val}"
        if not target.is_dir():
            self.subset(source, target, train, val)
        return target

    def at(self, root: Path) -> tuple[str, ...]:
        """Returns the overrides of ``train.py`` for a subset."""
        return (*self.overrides, f"data.root={root}")

    def make_rival(self, root: Path, overrides: Iterable[str] = ()) -> Tutorial:
        """Returns the rival, with the sizes that Resmet has under these overrides."""
        cfg, data = load_data([*self.at(root), *overrides])
        return self.make(root, cfg, data, assemble_task(cfg, data.spec))


def torchvision_sizes(data: Any, task: Any) -> dict[str, Any]:
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
    return detection(root, data.spec.class_names, cfg.data.batch_size, **torchvision_sizes(data, task))


DETECTION = partial(
    Pair, source="bccd/BCCD", subset=voc, overrides=("task=detection", "data=voc"), batch_size=4, round_steps=1
)
PAIRS = {
    "classification": Pair(
        *(TORCHVISION, "clothing", class_folders, ("data=image_folder", "data.size=224")),
        lambda root, cfg, data, task: classification(root, data.spec.size[0], cfg.data.batch_size),
        items=128,
        batch_size=32,
        round_steps=2,
    ),
    "detection": DETECTION(
        f"{TORCHVISION}, FasterRCNN at its defaults",
        make=lambda root, cfg, data, task: detection(root, data.spec.class_names, cfg.data.batch_size),
        items=8,
    ),
    "detection_alike": DETECTION(TORCHVISION_SAME_SIZES, make=same_detection, items=64),
    "segmentation": Pair(
        *("the loop of smp's examples, fp32", "membrane", masks),
        (
            *("task=segmentation", "data=mask_folder", "data.values={0:membrane,255:interior}"),
            "data.augment.random_crop=256",
        ),
        lambda root, cfg, data, task: segmentation(root, cfg.data.augment.random_crop, cfg.data.batch_size),
        items=48,
        batch_size=4,
        round_steps=2,
    ),
    "audio": Pair(
        *("a tutorial loop with soundfile and Conv1d, fp32", "fsdd", audio_clips, ("task=audio", "data=audio_csv")),
        lambda root, cfg, data, task: audio(root, data.spec.size[0], data.spec.num_classes, cfg.data.batch_size),
        items=256,
        batch_size=32,
        round_steps=4,
        no_augment=NO_AUDIO_AUGMENT,
    ),
}

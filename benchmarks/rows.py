"""All rows by name: where each is measured, what it is compared with, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: ``group.what``.
        module: Of this folder; its ``ROWS`` has the function.
        rival: What it is compared with.
        least: The ratio that is aimed at.
        most: The highest figure that is aimed at, where there is no rival.
    """

    name: str
    module: str
    rival: str
    least: float | None = None
    most: float | None = None

    @property
    def group(self) -> str:
        return self.name.split(".")[0]

    def met(self, result: dict[str, Any]) -> bool | None:
        """Whether a result is what was aimed at; None without an aim."""
        if self.most is not None:
            return bool(result["ours"] <= self.most)
        return None if self.least is None else bool(result["ratio"] >= self.least)

    @property
    def aim(self) -> str:
        """In words."""
        if self.most is not None:
            return f"at most {self.most:g}"
        return "" if self.least is None else f"{self.least:.3g}"


TORCHVISION = "torchvision's tutorial loop, fp32"
SMP = "the loop of smp's examples, fp32"
SOUND = "a tutorial loop with soundfile and Conv1d, fp32"
PLAIN = "a plain loop of the same arithmetic"
EAGER = "the same, not compiled"
FLOAT = "the same at fp32"

ROWS = (
    Row("epoch.classification", "epochs", TORCHVISION, 2.0),
    Row("epoch.detection", "epochs", f"{TORCHVISION}, FasterRCNN at its defaults", 2.0),
    Row("epoch.detection_alike", "epochs", f"{TORCHVISION}, FasterRCNN at our sizes"),
    Row("epoch.segmentation", "epochs", SMP, 2.5),
    Row("epoch.audio", "epochs", SOUND, 1.5),
    Row("epoch.photographs", "photographs", TORCHVISION, 5.0),
    Row("step.classification", "steps", TORCHVISION),
    Row("step.detection", "steps", f"{TORCHVISION}, FasterRCNN at our sizes"),
    Row("step.segmentation", "steps", SMP),
    Row("step.audio", "steps", SOUND),
    Row("overhead.resnet18", "overhead", PLAIN, 1 / 1.03),
    Row("overhead.resnet20", "overhead", PLAIN, 1 / 1.1),
    Row("memory.resnet18", "overhead", PLAIN, 1 / 1.05),
    Row("pieces.timm_resnet18", "pieces", "timm's resnet18"),
    Row("pieces.torchvision_resnet18", "pieces", "torchvision's resnet18"),
    Row("pieces.smp_unet", "pieces", "smp.Unet"),
    Row("pieces.torchvision_detector", "pieces", "torchvision's FasterRCNN at our sizes"),
    Row("layout.audio", "layouts", "the same net of Conv1d"),
    Row("decode.12mp", "photographs", "torchvision's ImageFolder: Pillow, Resize, CenterCrop"),
    Row("cache.second_epoch", "photographs", "our own run, cache off", most=5.0),
    Row("probe.epoch", "probe", "a whole epoch", 20.0),
    Row("startup.help", "startup", "nobody: an aim in seconds", most=0.8),
    Row("startup.first_step", "startup", "importing torch, Lightning and torchvision alone", most=6.0),
    Row("compile.classification", "compiling", EAGER),
    Row("compile.detection", "compiling", EAGER),
    Row("compile.segmentation", "compiling", EAGER),
    Row("compile.audio", "compiling", EAGER),
    Row("precision.classification", "scores", FLOAT),
    Row("precision.detection", "scores", FLOAT),
    Row("precision.segmentation", "scores", FLOAT),
    Row("precision.audio", "scores", FLOAT),
    Row("score.classification", "scores", TORCHVISION, 2.0),
    Row("score.detection", "scores", f"{TORCHVISION}, FasterRCNN at our sizes", 2.0),
    Row("score.segmentation", "scores", SMP, 2.0),
    Row("score.audio", "scores", SOUND, 2.0),
)

SLOW = ("precision", "score")
"""Groups that run only where they are named."""


def chosen(words: list[str]) -> list[Row]:
    """The rows that words name, a group or a row each; none are all but the slow groups.

    Raises:
        ValueError: If a word names neither.
    """
    known = {row.name for row in ROWS} | {row.group for row in ROWS}
    if wrong := [word for word in words if word not in known]:
        raise ValueError(f"there is no row or group {', '.join(wrong)}: choose from {', '.join(sorted(known))}")
    if not words:
        return [row for row in ROWS if row.group not in SLOW]
    return [row for row in ROWS if row.name in words or row.group in words]

"""Structures that the packages exchange. Importing this module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

Features = dict[int, "Tensor"]
"""{stride: (N, channels[stride], *axes / stride)}: what a backbone returns and a head takes."""

Prediction = dict[str, Any]
"""The prediction of one item, keyed by meaning, in the item's own pixels or samples.

classification  ``probabilities`` (C,) in 0..1 and ``labels``, the predicted classes (one, or any number if multi-label)
detection       ``boxes`` (K, 4) as x1, y1, x2, y2 in pixels, ``labels`` (K,) and ``scores`` (K,) in 0..1
segmentation    ``mask`` (H, W) of class numbers
"""

Sample = tuple["Tensor", Any]
"""An item's input in raw units and its target, both at their final size."""

IGNORE = 255
"""The mask value that losses and metrics leave out."""

NO_LIGHTNING = "RESMET_NO_LIGHTNING"
"""Environment variable of a process that reads items and trains nothing: its data modules are no Lightning ones."""


class CodedError(Exception):
    """An error with a stable code besides its message, such as ``data.missing_class``.

    The message is for people and may be reworded: what is wrong, which file or key, what is allowed, what to do. Scripts and tests
    compare the code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both, so that the error survives pickling between processes
        self.code, self.message = code, message

    def __str__(self) -> str:
        return self.message


class InputError(CodedError, ValueError):
    """The request can't be fulfilled as given. The commands print the message and its code, and exit with 2."""


class RunError(CodedError, RuntimeError):
    """A run failed after it started. The commands print the message and its code, and exit with 1."""


def require_range(
    key: str, value: float, least: float, most: float = math.inf, above: bool = False, below: bool = False
) -> None:
    """Refuses a number that is not finite or not within `least` to `most`; with `above` and `below`, these themselves are refused.

    Raises:
        InputError: Naming the config key `key` and what is allowed.
    """
    high = most == math.inf or (value < most if below else value <= most)
    if (value > least if above else value >= least) and high and math.isfinite(value):
        return
    ends = f"from {least:g} to {'below ' if below else ''}{most:g}"
    words = ends if most < math.inf else f"above {least:g}" if above else f"at least {least:g}"
    raise InputError("config.out_of_range", f"{key} must be {words}, got {value}")


def pluralize(number: int, one: str, many: str = "") -> str:
    """Returns ``1 item`` or ``2 items``; `many` is the plural of a word that does not take an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def first_line(error: Exception, limit: int = 120) -> str:
    """Returns the first line of an error's message, at most `limit` characters; its type's name where the message is empty or a number."""
    lines = str(error).strip().splitlines()
    line = lines[0].strip() if lines else ""
    return line[:limit] if len(line) > 4 and not line.isdigit() else type(error).__name__


class Batch(TypedDict, total=False):
    """A batch of a data module, in raw units; the task normalizes.

    input: (N, C, *axes): uint8 images in 0..255 or float audio in -1..1, padded with zeros at the end of every axis.
    sizes: The axes of every item before padding.
    target: As `foundation.targets` batches it: (N,) or (N, C), (N, H, W), or a list of {"boxes", "labels"}.
    names: The source of every item. A batch without items has an empty list and no other key.
    seeds: Seeds of the random choices that a step makes for every item, independent of the rest of the batch.
    """

    input: Tensor
    sizes: list[tuple[int, ...]]
    target: Any
    names: list[str]
    seeds: list[int]


RENAMED_FIELDS = {"crowd": "objects_per_image", "sides": "box_side_quantiles"}
"""Fields of `Spec` under their names in checkpoints and packed data sets of the first release."""


@dataclass(frozen=True)
class Spec:
    """The description of a data set. A task is made from a backbone and a Spec.

    Attributes:
        ndim: Number of axes: 1 for audio, 2 for images.
        channels: Channels of the input.
        class_names: Class names in the order of the labels 0..C-1.
        mean: Mean per channel, in the input's raw units.
        std: Standard deviation per channel, in the input's raw units.
        size: Axes that items are resized to (height and width in pixels, or samples); empty if they keep their own.
        resize: How: ``crop`` (fill, then center crop), ``inside`` (the longest side fits), ``stretch``, ``pad`` (audio), ``none``.
        sample_rate: Samples per second of audio, 0 for anything else.
        window: The two values that become 0 and 255 in images of more than 8 bits; empty for 8-bit images.
        counts: Items, objects or pixels of every class in the training split.
        objects_per_image: Number of objects that 95 of 100 training images do not exceed; 0 if none were counted.
        box_side_quantiles: Quantiles of the sides (square root of the area) of the training boxes in pixels at `size`: 0.1 in the class
            whose objects are smallest, then 0.5 and 0.9 over all boxes; empty without boxes.
        target: The kind of target: ``label`` (one class), ``labels`` (any number of classes), ``boxes``, ``mask``, or ``parts``.
        parts: The Specs of joint data by part name.
    """

    ndim: int
    channels: int
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: tuple[int, ...] = ()
    resize: str = "none"
    sample_rate: int = 0
    window: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    objects_per_image: int = 0
    box_side_quantiles: tuple[float, ...] = ()
    target: str = "label"
    parts: Mapping[str, Spec] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for a checkpoint that is read with ``weights_only=True``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        """Reverses `to_dict`; takes lists for tuples, and fields under their names in older checkpoints.

        Raises:
            InputError: If a required field is missing, one is unknown, or `values` is no mapping.
        """
        lists = {"class_names", "mean", "std", "size", "window", "counts", "box_side_quantiles"}
        try:
            values = {RENAMED_FIELDS.get(key, key): value for key, value in values.items()}
            plain: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in values.items()}
            plain["parts"] = {name: cls.from_dict(part) for name, part in values.get("parts", {}).items()}
            return cls(**plain)
        except (TypeError, AttributeError) as error:  # no mapping where one is expected
            raise InputError("checkpoint.invalid_spec", f"its description of the data is invalid: {error}") from error

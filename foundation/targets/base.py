"""The base of all kinds of target.

`Spec.target` names the kind, and ``TARGETS[spec.target]`` of `foundation.targets.kinds` is its class, with everything that depends
on it. A new kind of target, such as keypoints, is one class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from foundation.structures import Prediction, Spec

Matrix = Sequence[float]
"""a, b, c, d, e, f of an affine warp. A pixel at (x, y) from the center of the new image has its value from (ax + by + c, dx + ey + f)."""

Color = tuple[int, int, int]


class Resized(Protocol):
    """How an image was resized, and so how boxes and masks get back to its own pixels."""

    def boxes_back(self, boxes: Tensor) -> Tensor: ...

    def mask_back(self, mask: Tensor) -> Tensor: ...


class TargetKind(ABC):
    """One kind of target: how it is batched, transformed, stored and shown.

    An item's ``target`` is what a data set loads, a ``batched`` target is ``batch["target"]``. The defaults are right for a kind that
    describes an item as a whole and whose batch is one tensor.

    Attributes:
        name: The kind in `Spec.target`.
        units: What `counts` counts, in plural.
        whole_item: Whether a target describes an item as a whole, rather than places in it.
        has_boxes: Whether a target has the ``boxes`` and ``labels`` that anchors are fitted to.
        max_imbalance: How many times the commonest class may outnumber the rarest before training suffers.
        empty: Description of an item without any object or class.
    """

    name: ClassVar[str]
    units: ClassVar[str] = "items"
    whole_item: ClassVar[bool] = True
    has_boxes: ClassVar[bool] = False
    max_imbalance: ClassVar[int] = 20
    empty: ClassVar[str] = "no class"

    @abstractmethod
    def is_valid(self, target: Any, num_classes: int, axes: tuple[int, ...]) -> bool:
        """Whether `target` is a target of this kind for an input over `axes`."""

    @abstractmethod
    def counts(self, target: Any, num_classes: int) -> Tensor:
        """Returns how many items, objects or pixels of every class `target` has, int64 (num_classes,)."""

    @abstractmethod
    def as_prediction(self, target: Any) -> Prediction:
        """Returns the target in the form of a prediction, to be described and drawn like one."""

    @abstractmethod
    def describe(self, prediction: Prediction, class_names: Sequence[str]) -> str:
        """Returns a prediction in a few words."""

    @abstractmethod
    def to_json(self, prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns a prediction as plain values."""

    # --- batches

    def collate(self, targets: Sequence[Any], axes: tuple[int, ...]) -> Any:
        """Returns the batched target; `axes` is the size that inputs are padded to."""
        return torch.stack(list(targets))

    def pack(self, batched: Any) -> Any:
        """Returns `batched` in few tensors, for transfer between processes: every tensor costs a file descriptor."""
        return batched

    def unpack(self, packed: Any) -> Any:
        """Reverses `pack`."""
        return packed

    def to(self, batched: Any, device: torch.device) -> Any:
        return batched.to(device, non_blocking=True)

    def split(self, batched: Any, sizes: Sequence[tuple[int, ...]]) -> list[Any]:
        """Returns the items' targets without padding; `sizes` are the items' own axes."""
        return list(batched)

    def one_hot(self, batched: Any, num_classes: int) -> Tensor:
        """Returns class probabilities, float (N, num_classes), which mixup and cutmix blend."""
        raise TypeError(f"targets of kind {self.name} can't be mixed")

    # --- random transforms

    def crop(self, target: Any, top: int, left: int, height: int, width: int) -> Any:
        """Returns the target of a window of the image, in pixels."""
        return target

    def affine(self, target: Any, matrix: Matrix, height: int, width: int) -> Any:
        """Returns the target after an affine warp of an image of `height` x `width` pixels; what `pixel_map` returns is warped with the images."""
        return target

    def pixel_map(self, batched: Any) -> Tensor | None:
        """Returns the tensor (N, H, W) that has to be warped like the images, if there is one."""
        return None

    # --- storage

    def encode(self, target: Any) -> dict[str, Tensor | int]:
        """Returns the parts of a target by name: tensors and plain numbers."""
        return {"target": target}

    def decode(self, parts: dict[str, Any]) -> Any:
        """Reverses `encode`.

        Raises:
            KeyError: If a part is missing.
        """
        return parts["target"]

    # --- predictions

    def filter_by_score(self, prediction: Prediction, threshold: float) -> Prediction:
        """Returns the prediction without objects whose score is below `threshold`."""
        return prediction

    def to_original(self, prediction: Prediction, resized: Resized) -> Prediction:
        """Returns the prediction in the pixels of the image before it was resized."""
        return prediction

    def images(self, prediction: Prediction) -> dict[str, Tensor]:
        """Returns the parts of a prediction that are images, uint8 (H, W) by key of the JSON, to be saved beside it."""
        return {}

    def draw(self, image: Tensor, prediction: Prediction, spec: Spec) -> Tensor:
        """Returns `image`, uint8 (3, H, W), with the prediction drawn on it, whose coordinates are those of `image`."""
        return image

    def enlarge(self, prediction: Prediction, factor: int) -> Prediction:
        """Returns the prediction for an image whose sides are `factor` times as long."""
        return prediction

    def legend(self, spec: Spec) -> list[tuple[str, Color]]:
        """Returns the names and colors that explain what `draw` draws."""
        return []


def stack_padded(tensors: Sequence[Tensor], axes: tuple[int, ...], value: int) -> Tensor:
    """Returns tensors (..., *own axes) as one (N, ..., *axes), each padded with `value` at the end of every axis."""

    def padded(tensor: Tensor) -> Tensor:
        missing = [want - have for have, want in zip(reversed(tensor.shape), reversed(axes), strict=False)]
        return pad(tensor, [side for n in missing for side in (0, n)], value=value) if any(missing) else tensor

    return torch.stack([padded(tensor) for tensor in tensors])

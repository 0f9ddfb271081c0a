"""An item as members of a shard, and back: arrays as .npy, pictures as .png where that is wanted, the rest as JSON. Nothing that is read can run code."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image
from torch import Tensor

from datamodules.base.dataset import Sample
from foundation.structures import Spec
from foundation.targets.base import TargetKind
from foundation.targets.kinds import TARGETS

Members = dict[str, bytes]
"""``input.npy`` or ``input.png``; ``target.npy`` (a mask, or 0 and 1 a class) or ``target.boxes.npy`` and ``target.labels.npy``; ``json``."""


def encode(sample: Sample, kind: TargetKind, name: str, group: str, png: bool = False) -> Members:
    """An input and its target as bytes, of the types that they have; grey and RGB pictures of 8 bits as PNG where that is asked for."""
    signal, target = sample
    about: dict[str, Any] = {"name": name, "group": group}
    picture = png and signal.ndim == 3 and signal.shape[0] in (1, 3) and signal.dtype == torch.uint8
    members = {"input.png": png_bytes(signal)} if picture else {"input.npy": array_bytes(signal)}
    for key, part in kind.encode(target).items():
        if isinstance(part, Tensor):
            members[f"{key}.npy"] = array_bytes(part)
        else:
            about[key] = part
    return members | {"json": json.dumps(about).encode()}


def decode(members: Mapping[str, memoryview], kind: TargetKind) -> Sample:
    """The inverse of `encode`.

    Raises:
        KeyError: If a member of the target is absent.
        ValueError: If a member is absent or is not what it should be.
    """
    if not {"input.npy", "input.png"} & set(members):
        raise ValueError(f"there is no input.npy or input.png among {sorted(members)}")
    signal = read_array(members["input.npy"]) if "input.npy" in members else read_png(members["input.png"])
    parts = {name[:-4]: read_array(content) for name, content in members.items() if name.startswith("target.")}
    return signal, kind.decode(about(members) | parts)


def about(members: Mapping[str, memoryview]) -> dict[str, Any]:
    """``name``, ``group`` and, for items of one class, ``label``.

    Raises:
        ValueError: If that is no JSON object.
    """
    found = json.loads(bytes(members.get("json", b"")))
    if not isinstance(found, dict):
        raise ValueError("the member .json holds no object")
    return found


def array_bytes(tensor: Tensor) -> bytes:
    stream = io.BytesIO()
    npy.write_array(stream, np.ascontiguousarray(tensor.numpy()).reshape(tensor.shape), allow_pickle=False)
    return stream.getvalue()


def read_array(content: memoryview) -> Tensor:
    """A copy of the array in an .npy file of version 1 or 2. Objects are refused, and memory is taken only for bytes that are there.

    Raises:
        ValueError: If the header is no array's, or promises more or less than follows.
    """
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an .npy file of version {version}: 1.0 and 2.0 are read")
    shape, turned, dtype = readers[version](stream)
    start, count = stream.tell(), math.prod(shape)
    if dtype.kind not in "biuf" or turned:
        raise ValueError(f"an array of {dtype}: plain numbers in C order are read, objects never")
    if min(shape, default=0) < 0 or len(content) - start != count * dtype.itemsize:
        raise ValueError(f"the header promises {shape} of {dtype}, {len(content) - start} bytes follow")
    return torch.from_numpy(np.frombuffer(content, dtype, count, start).reshape(shape).copy())


def png_bytes(picture: Tensor) -> bytes:
    """`picture` uint8 (1 or 3, H, W)."""
    stream = io.BytesIO()
    array = picture.permute(1, 2, 0).numpy()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def read_png(content: memoryview) -> Tensor:
    """The inverse of `png_bytes`.

    Raises:
        ValueError: If it is no such PNG, or has more pixels than Pillow holds to be safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow's of too many pixels
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                if image.mode not in ("L", "RGB"):
                    raise ValueError(f"a PNG of mode {image.mode}: L and RGB are read")
                array = np.array(image)
    except (OSError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise ValueError(f"input.png can't be read ({error})") from error
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1).contiguous()


def check_sample(sample: Sample, spec: Spec) -> None:
    """Refuse what a task would stumble over.

    Raises:
        ValueError: If input or target is not of the shape, kind or range that `spec` promises.
    """
    signal, target = sample
    if signal.ndim != spec.ndim + 1 or signal.shape[0] != spec.channels:
        raise ValueError(f"an input {tuple(signal.shape)}: {spec.channels} channels over {spec.ndim} axes are promised")
    if not TARGETS[spec.target].is_valid(target, spec.num_classes, tuple(signal.shape[1:])):
        raise ValueError(f"its target is no {spec.target} of {spec.num_classes} classes")

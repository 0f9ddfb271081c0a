"""Pretrained weights from any source for any backbone, with a report of what matched."""

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from backbones.base import Match
from foundation.storage.safe_load import safe_load
from foundation.structures import InputError, first_line

State = dict[str, Tensor]
FORMS = "none, a file (.pt, .pth, .th, .ckpt, .safetensors), a timm tag such as resnet18.a1_in1k, or a torchvision tag such as ResNet18_Weights.IMAGENET1K_V1"


def inflate(weight: Tensor) -> Tensor:
    """Adds a leading axis to a kernel (O, I, *k), as long as its first one, and divides by it: a constant signal gives the same output."""
    width = weight.shape[2]
    return weight.unsqueeze(2).expand(*weight.shape[:2], width, *weight.shape[2:]) / width


def collapse(weight: Tensor) -> Tensor:
    """Sums over the leading axis of a kernel: (O, I, k, *others) to (O, I, *others), the inverse of `inflate`."""
    return weight.sum(dim=2)


def to_axes(weight: Tensor, axes: int) -> Tensor:
    """Returns a convolution kernel with `axes` spatial axes; other tensors are returned unchanged."""
    while 3 <= weight.ndim < axes + 2:
        weight = inflate(weight)
    while weight.ndim > axes + 2:
        weight = collapse(weight)
    return weight


def to_channels(weight: Tensor, channels: int) -> Tensor:
    """Returns the first kernel (O, I, *k) with `channels` inputs, repeated in turn and scaled to keep the expected response.

    A single channel takes the sum, so that a gray image has the output of its RGB copy.
    """
    old = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    order = torch.arange(channels) % old
    return weight[:, order] * (old / channels)


def load_weights(backbone: nn.Module, source: str) -> Match:
    """Loads `source` into `backbone`, adapting axes and input channels, and returns what matched.

    Args:
        backbone: Anything with ``ndim`` and ``in_channels``; changed in place.
        source: A file with a state dict (prefixes such as ``module.`` or ``backbone.`` are removed), a timm tag, or a torchvision
            tag. Files are read with ``weights_only=True``.

    Raises:
        InputError: If the source can't be read or reached, or no tensor matches.
    """
    state, classes = read_state(source)
    state = strip_prefix(state, backbone.state_dict())
    expected = backbone.state_dict()
    fitted = {name: fit(name, state[name], expected[name], backbone) for name in expected if name in state}
    good = {name: value for name, value in fitted.items() if value.shape == expected[name].shape}
    if not any(expected[name].ndim for name in good):
        raise InputError(
            "weights.no_match",
            f"no tensor of {source} fits this backbone (it has {shapes(state)}; needed: {shapes(expected)}): "
            "choose the backbone, depth and width that these weights were trained with",
        )
    backbone.load_state_dict(good, strict=False)
    unused = [name for name in state if name not in expected]
    # BatchNorm's counters are no weights, and old files lack them.
    weights = [name for name in expected if expected[name].ndim]
    return Match(
        source=source,
        matched=sum(name in good for name in weights),
        total=len(weights),
        missing=[name for name in weights if name not in state],
        mismatched=[name for name in fitted if name not in good],
        unused=unused,
        head=find_head({name: state[name] for name in unused}),
        classes=classes,
        adapted=list(adaptations({name: state[name] for name in good}, expected)),
    )


def adaptations(loaded: State, expected: State) -> Iterator[str]:
    """Yields in words how `fit` adapted the kernels in `loaded`."""
    kernels = [(loaded[name], expected[name]) for name in loaded if expected[name].ndim >= 3]
    for word, changed in (
        ("inflated", [(a, b) for a, b in kernels if a.ndim < b.ndim]),
        ("collapsed", [(a, b) for a, b in kernels if a.ndim > b.ndim]),
    ):
        if changed:
            before, after = (kernel.ndim - 2 for kernel in changed[0])
            yield f"{len(changed)} kernels {word} from {before} to {after} axes"
    for old, new in kernels[:1]:
        if old.shape[1] != new.shape[1]:
            how = "summed" if new.shape[1] == 1 else "repeated"
            yield f"the first kernel's {old.shape[1]} input channels {how} to {new.shape[1]}"


def shapes(state: State) -> str:
    """Returns the first names of a state dict with their shapes."""
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(state.items())[:2]) + " ..."


def fit(name: str, value: Tensor, expected: Tensor, backbone: Any) -> Tensor:
    """Returns `value` with the axes and input channels of `expected`, if they differ in nothing else."""
    if expected.ndim >= 3:
        value = to_axes(value, backbone.ndim)
    first = expected.ndim >= 3 and expected.shape[1] == backbone.in_channels != value.shape[1]
    if first and name == next(iter(backbone.state_dict())) and expected.shape[0] == value.shape[0]:
        value = to_channels(value, backbone.in_channels)
    return value


def find_head(unused: State) -> State:
    """Returns the linear classifier among the names that the backbone does not have, if there is exactly one."""
    weights = [name for name, value in unused.items() if value.ndim == 2 and name.endswith("weight")]
    if len(weights) != 1:
        return {}
    bias = weights[0].removesuffix("weight") + "bias"
    return {"weight": unused[weights[0]], "bias": unused[bias]} if bias in unused else {}


def class_names_of(content: Any) -> list[str]:
    """Returns the class names in a checkpoint of this project; nothing of other files."""
    spec = content.get("spec") if isinstance(content, dict) else None
    names = spec.get("class_names") if isinstance(spec, dict) else None
    return list(names) if isinstance(names, (list, tuple)) else []


def strip_prefix(state: State, expected: State) -> State:
    """Returns `state` without the prefix that most names of `expected` have in it."""
    first = next(iter(expected))
    candidates = {name[: -len(first)] for name in state if name.endswith(first)} | {""}

    def hits(prefix: str) -> int:
        return sum(prefix + name in state for name in expected)

    best = max(sorted(candidates), key=hits)
    # A head may be outside the prefix ("backbone.conv1", "head.weight") or below it ("module.linear.weight").
    return {name.removeprefix(best): value for name, value in state.items()}


def read_state(source: str) -> tuple[State, list[str]]:
    """Returns the tensors of a source, and the class names if it is a checkpoint of this project."""
    if Path(source).is_file():
        return read_file(Path(source))
    if tag := re.fullmatch(r"(?:torchvision[:/])?(\w+_Weights\.\w+)", source):
        return from_hub(source, lambda: torchvision_state(tag[1]), torch_folder), []
    name = re.sub(r"^timm[:/]", "", source)
    set_offline_if_unreachable()
    import timm

    if timm.is_model_pretrained(name):
        return from_hub(source, lambda: timm.create_model(name, pretrained=True).state_dict(), hub_folder), []
    kind = "no such file or tag" if not Path(source).exists() else "a folder, not a file of weights"
    near = nearest(name, timm.list_pretrained("resnet*"))
    raise InputError("weights.missing", f"backbone.weights={source}: {kind}. Allowed: {FORMS}.{near}")


def host_resolves(host: str) -> bool:
    """Whether DNS resolves `host`."""
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def set_offline_if_unreachable() -> None:
    """Sets ``HF_HUB_OFFLINE`` if there is no network: the hub's client would retry for a minute. It reads the variable once, at import."""
    if host_resolves("huggingface.co") or os.environ.setdefault("HF_HUB_OFFLINE", "1") != "1":
        return
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True


def nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    matches = get_close_matches(name, list(known), 3)
    return f" Nearest: {', '.join(matches)}" if matches else ""


def read_file(path: Path) -> tuple[State, list[str]]:
    """Returns what `read_state` does, of a file; the state dict also from inside the usual containers."""
    try:
        content = safe_load(path)
    except InputError as error:
        raise InputError("weights.unreadable", f"{path} can't be read as weights: {error}. Give {FORMS}") from error
    classes = class_names_of(content)
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError("weights.unreadable", f"{path} has no state dict: give {FORMS}")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}, classes


def torchvision_state(tag: str) -> State:
    from torchvision.models import get_weight

    try:
        weight = get_weight(tag)
    except ValueError as error:
        raise InputError(
            "weights.missing", f"torchvision has no weights {tag}: give a tag such as ResNet18_Weights.IMAGENET1K_V1"
        ) from error
    url = urlparse(weight.url)
    if not (Path(torch_folder()) / Path(url.path).name).is_file() and not host_resolves(str(url.hostname)):
        raise OSError(f"{url.hostname} can't be reached")  # torch would announce a download first
    return dict(weight.get_state_dict(check_hash=True))


def torch_folder() -> str:
    return str(Path(torch.hub.get_dir()) / "checkpoints")


def hub_folder() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)


def from_hub(source: str, fetch: Callable[[], Any], folder: Callable[[], str]) -> State:
    """Downloads weights, or raises one error that says where a copy may be put."""
    try:
        return dict(fetch())
    except InputError:
        raise
    except Exception as error:  # every client has its own errors for "no network"
        raise InputError(
            "weights.not_downloaded",
            f"the weights {source} are not in the cache and could not be downloaded ({first_line(error, 160)}). "
            f"Go online once, copy the cache folder {folder()} from a machine that has them, or give a file",
        ) from error

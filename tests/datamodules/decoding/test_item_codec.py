"""Items as bytes and back."""

import json
import struct
from typing import Any

import pytest
import torch
from nested import equal
from safetensors.torch import load

from datamodules.decoding.item_codec import decode_info, decode_parts, decode_sample, decode_target, encode_sample
from foundation.targets.kinds import TARGETS

IMAGE = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
TARGET: dict[str, Any] = {
    "label": 3,
    "labels": torch.tensor([0, 1, 0]),
    "boxes": {"boxes": torch.rand(4, 4), "labels": torch.tensor([0, 2, 1, 1])},
    "mask": torch.randint(0, 3, (5, 7), dtype=torch.uint8),
}


@pytest.mark.parametrize("name", TARGET)
def test_items_survive_encoding(name: str) -> None:
    kind, content = TARGETS[name], encode_sample((IMAGE, TARGET[name]), TARGETS[name], {"name": "a", "group": "b"})
    image, target = decode_sample(memoryview(content), kind)
    assert equal(image, IMAGE)
    assert equal(target, TARGET[name])
    assert equal(decode_target(memoryview(content), kind), TARGET[name])
    assert decode_info(memoryview(content)) == {"name": "a", "group": "b"}
    assert torch.equal(load(content)["input"], IMAGE), "the library reads it too"


def test_items_without_objects_and_transposed_inputs() -> None:
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    turned = IMAGE.transpose(1, 2)
    content = memoryview(encode_sample((turned, nothing), TARGETS["boxes"]))
    image, target = decode_sample(content, TARGETS["boxes"])
    assert equal(image, turned)
    assert equal(target, nothing)
    image += 1  # the item's own memory


def test_the_same_item_gives_the_same_bytes() -> None:
    info = {"name": "a", "group": "b", "other": "c"}
    assert len({encode_sample((IMAGE, 3), TARGETS["label"], info) for _ in range(20)}) == 1


def test_unsupported_types_are_refused() -> None:
    with pytest.raises(TypeError):
        encode_sample((torch.zeros(1, 2, dtype=torch.complex64), 3), TARGETS["label"])


def with_header(header: Any, body: bytes = b"x" * 8) -> memoryview:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(struct.pack("<Q", len(text)) + text + body)


def field(dtype: Any = "U8", shape: Any = (8,), offsets: Any = (0, 8)) -> Any:
    return {"input": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "content",
    [
        memoryview(b""),
        memoryview(b"\xff" * 8),
        memoryview(b"\xff" * 100),
        with_header(b"[" * 100_000),
        with_header(b"{"),
        with_header([]),
        with_header({"input": 3}),
        with_header(field("O")),
        with_header(field("BF16", (4,))),
        with_header(field(shape=(10**12,), offsets=(0, 10**12))),
        with_header(field(shape=(2**40, 2**40), offsets=(0, 2**80))),
        with_header(field(shape=(-2, -4))),
        with_header(field(shape=(1,) * 100, offsets=(0, 1))),
        with_header(field(shape=(9,), offsets=(0, 9))),
        with_header(field(offsets=(8, 16))),
        with_header(field(offsets=(-8, 0))),
        with_header(field(offsets=(0, 8, 16))),
        with_header(field(shape=("8",))),
        with_header(field(shape=8)),
        with_header(field(shape=(True, 8))),
    ],
)
def test_malformed_content_is_refused(content: memoryview) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError, RecursionError)):
        decode_parts(content)

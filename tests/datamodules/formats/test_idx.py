"""MNIST's own files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from datamodules.formats.idx import Idx
from foundation.structures import InputError


def write(
    root: Path, prefix: str, count: int = 20, packed: bool = True, dot: bool = False, sides: tuple = (8, 8)
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, *sides), dtype=np.uint8)
    labels = (np.arange(count) % 3).astype(np.uint8)
    for what, array in (("images", images), ("labels", labels)):
        content = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
        name = f"{prefix}-{what}{'.' if dot else '-'}idx{array.ndim}-ubyte{'.gz' if packed else ''}"
        (root / name).write_bytes(gzip.compress(content) if packed else content)


def prepared(root: Path, **arguments: object) -> Idx:
    data = Idx(str(root), **arguments)
    data.setup("fit")
    return data


@pytest.mark.parametrize(("packed", "dot"), [(True, False), (False, False), (False, True)])
def test_counts_come_from_the_header(tmp_path: Path, packed: bool, dot: bool) -> None:
    write(tmp_path, "train", 20, packed, dot)
    write(tmp_path, "t10k", 7, packed, dot)
    data = prepared(tmp_path)
    assert {name: len(items) for name, items in data.datasets.items()} == {"train": 17, "val": 3, "test": 7}
    assert (data.spec.class_names, data.spec.channels, data.spec.size) == (("0", "1", "2"), 1, (8, 8))
    image, label = data.datasets["test"].sample(4)
    assert (
        image.flatten()[:5].tolist()
        == np.random.default_rng(0).integers(0, 256, (7, 8, 8), dtype=np.uint8)[4].flatten()[:5].tolist()
    )
    assert label == 1


def test_names(tmp_path: Path) -> None:
    write(tmp_path, "train")
    assert prepared(tmp_path, class_names=["shirt", "shoe", "bag"]).spec.class_names == ("shirt", "shoe", "bag")
    with pytest.raises(InputError, match="a label 2, but data.class_names has 2 names"):
        prepared(tmp_path, class_names=["shirt", "shoe"])


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks train-images-idx3-ubyte"):
        prepared(tmp_path)
    write(tmp_path, "train", packed=False)
    file = tmp_path / "train-images-idx3-ubyte"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    with pytest.raises(InputError, match=r"the header promises \[20, 8, 8\], 1275 bytes follow"):
        prepared(tmp_path)
    file.write_bytes(b"GIF89a" + whole)
    with pytest.raises(InputError, match="is no IDX file of bytes: it starts with 47494638"):
        prepared(tmp_path)
    file.unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(InputError, match="can't be unpacked"):
        prepared(tmp_path)


@pytest.mark.slow
def test_real(real: Path) -> None:
    data = prepared(real / "mnist_idx")
    assert len(data.datasets["train"]) + len(data.datasets["val"]) == 12000
    assert len(data.datasets["test"]) == 10000


def test_images_that_are_not_square_say_so(tmp_path: Path) -> None:
    write(tmp_path, "train", sides=(8, 12))
    data = prepared(tmp_path)
    assert data.spec.size == (12, 12)
    assert data.notes == ["images are stored with 12x8 pixels and are stretched to 12x12"]

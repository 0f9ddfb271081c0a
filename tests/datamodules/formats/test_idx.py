"""MNIST's own files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from data_factories import set_up, split_sizes
from refusals import refused

from datamodules.formats.idx import Idx


def noise(count: int, sides: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *sides), dtype=np.uint8)


def write(
    root: Path, prefix: str, count: int = 20, packed: bool = True, dot: bool = False, sides: tuple[int, int] = (8, 8)
) -> None:
    labels = (np.arange(count) % 3).astype(np.uint8)
    for what, array in (("images", noise(count, sides)), ("labels", labels)):
        content = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
        name = f"{prefix}-{what}{'.' if dot else '-'}idx{array.ndim}-ubyte{'.gz' if packed else ''}"
        (root / name).write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize(("packed", "dot"), [(True, False), (False, False), (False, True)])
def test_images_and_labels(tmp_path: Path, packed: bool, dot: bool) -> None:
    write(tmp_path, "train", 20, packed, dot)
    write(tmp_path, "t10k", 7, packed, dot)
    data = set_up(Idx(str(tmp_path)))
    assert split_sizes(data) == {"train": 17, "val": 3, "test": 7}
    assert (data.spec.class_names, data.spec.channels, data.spec.size) == (("0", "1", "2"), 1, (8, 8))
    image, label = data.datasets["test"].sample(4)
    assert np.array_equal(image[0], noise(7)[4])
    assert label == 1


def test_class_names(tmp_path: Path) -> None:
    write(tmp_path, "train")
    assert set_up(Idx(str(tmp_path), class_names=["shirt", "shoe", "bag"])).spec.class_names == ("shirt", "shoe", "bag")
    with refused("data.unknown_class"):
        set_up(Idx(str(tmp_path), class_names=["shirt", "shoe"]))


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    with refused("data.missing_file"):
        set_up(Idx(str(tmp_path)))
    write(tmp_path, "train", packed=False)
    file = tmp_path / "train-images-idx3-ubyte"
    whole = file.read_bytes()
    for content, code in ((whole[:-5], "data.truncated_file"), (b"GIF89a" + whole, "data.unreadable_file")):
        file.write_bytes(content)
        with refused(code):
            set_up(Idx(str(tmp_path)))
    file.unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole)[:-20])
    with refused("data.unreadable_file"):
        set_up(Idx(str(tmp_path)))


@pytest.mark.slow
def test_mnist(real: Path) -> None:
    sizes = split_sizes(set_up(Idx(str(real / "mnist_idx"))))
    assert sizes["train"] + sizes["val"] == 12000
    assert sizes["test"] == 10000


def test_images_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    write(tmp_path, "train", sides=(8, 12))
    data = set_up(Idx(str(tmp_path)))
    assert data.spec.size == (12, 12)
    assert "12x8" in data.notes[0]

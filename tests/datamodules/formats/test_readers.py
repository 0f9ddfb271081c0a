"""Laws over drawn annotations: the same pictures through every format, at every size."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_files import write_image, write_voc_annotation
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.base.datamodule import DataModule
from datamodules.formats.coco import Coco
from datamodules.formats.mask_folder import MaskFolder
from datamodules.formats.voc import Voc
from datamodules.formats.yolo import Yolo

WIDTH, HEIGHT = 40, 30
SIDES = st.tuples(
    st.integers(-6, WIDTH - 4), st.integers(-6, HEIGHT - 4), st.integers(3, WIDTH), st.integers(3, HEIGHT)
).filter(
    lambda box: 0 <= box[0] + box[2] / 2 <= WIDTH and 0 <= box[1] + box[3] / 2 <= HEIGHT
)  # YOLO's centre is inside
OBJECTS = st.lists(st.tuples(st.sampled_from(["cat", "dog"]), SIDES), max_size=5)
NAMES = ["cat", "dog"]


def write(root: Path, objects: list[tuple[str, tuple[int, int, int, int]]]) -> None:
    """Two pictures, the second with one object of each class, as VOC, YOLO and COCO."""
    everything = [objects, [("cat", (2, 2, 10, 10)), ("dog", (12, 3, 20, 20))]]
    images, annotations = [], []
    for i, found in enumerate(everything):
        for folder in ("JPEGImages", "images/train", "images/val", "train", "val"):
            write_image(root / folder / f"{i}.png", (WIDTH, HEIGHT), seed=i)
        write_voc_annotation(
            root, str(i), [(name, x, y, x + w, y + h) for name, (x, y, w, h) in found], (WIDTH, HEIGHT)
        )
        lines = [
            f"{NAMES.index(n)} {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {w / WIDTH} {h / HEIGHT}\n"
            for n, (x, y, w, h) in found
        ]
        for split in ("train", "val"):
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            (root / "labels" / split / f"{i}.txt").write_text("".join(lines))
        images.append({"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT})
        annotations += [{"image_id": i, "category_id": NAMES.index(n), "bbox": list(box)} for n, box in found]
    made = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)],
    }
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(json.dumps(made))
        (lists / f"{split}.txt").write_text("0\n1\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(OBJECTS, st.sampled_from([None, 17, 64]))
def test_every_format_gives_the_same_boxes_inside_the_image(objects: list, size: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), objects)
        found: list[DataModule] = [kind(folder, size=size) for kind in (Voc, Yolo, Coco)]
        samples = []
        for data in found:
            data.setup("fit")
            samples.append(data.datasets["train"].sample(0))
        for image, target in samples:
            boxes = target["boxes"]
            height, width = image.shape[1:]
            assert boxes.isfinite().all()
            assert (boxes >= 0).all()
            assert (boxes[:, 0::2] <= width + 1e-3).all()
            assert (boxes[:, 1::2] <= height + 1e-3).all()
            assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
            assert torch.equal(target["labels"], samples[0][1]["labels"])
            assert torch.allclose(boxes, samples[0][1]["boxes"], atol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, WIDTH - 8), st.integers(0, HEIGHT - 8), st.sampled_from([None, 16, 48]), st.integers(1, 8))
def test_masks_stay_on_what_they_mark(left: int, top: int, size: int | None, orientation: int) -> None:
    """A bright square and its mask, both stored under one EXIF orientation, at whatever size."""
    array = np.zeros((HEIGHT, WIDTH), np.uint8)
    array[top : top + 8, left : left + 8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("images", "masks"):
            (Path(folder) / kind).mkdir()
            for i in range(6):
                Image.fromarray(array).save(Path(folder) / kind / f"{i}.png", exif=exif)
        data = MaskFolder(folder, size=size)
        data.setup("fit")
        image, mask = data.datasets["train"].sample(0)
    assert image.shape[1:] == mask.shape
    assert set(mask.unique().tolist()) == {0, 1}
    bright = image[0] > 127
    edge = (
        0 if size is None else 4 * (bright.shape[0] + bright.shape[1]) // 16
    )  # interpolation blurs a border of a pixel
    assert (bright != mask.bool()).sum() <= edge

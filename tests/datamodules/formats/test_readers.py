"""Properties of all readers of boxes and masks, over generated annotations."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_factories import set_up
from fixture_files import write_image, write_voc_annotation
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.formats.coco import Coco
from datamodules.formats.mask_folder import MaskFolder
from datamodules.formats.voc import Voc
from datamodules.formats.yolo import Yolo

WIDTH, HEIGHT = 40, 30
SIDES = st.tuples(
    *(st.integers(-6, WIDTH - 4), st.integers(-6, HEIGHT - 4), st.integers(3, WIDTH), st.integers(3, HEIGHT))
).filter(lambda box: 0 <= box[0] + box[2] / 2 <= WIDTH and 0 <= box[1] + box[3] / 2 <= HEIGHT)
"""x, y, width and height of boxes whose center is in the image, as YOLO requires."""

NAMES = ["cat", "dog"]
OBJECTS = st.lists(st.tuples(st.sampled_from(NAMES), SIDES), max_size=5)


def write(root: Path, objects: list[tuple[str, tuple[int, int, int, int]]]) -> None:
    """Writes two images, the second with one object of each class, as VOC, YOLO and COCO."""
    images, annotations = [], []
    for i, own in enumerate([objects, [("cat", (2, 2, 10, 10)), ("dog", (12, 3, 20, 20))]]):
        for folder in ("JPEGImages", "images/train", "images/val", "train", "val"):
            write_image(root / folder / f"{i}.png", (WIDTH, HEIGHT), seed=i)
        write_voc_annotation(root, str(i), [(n, x, y, x + w, y + h) for n, (x, y, w, h) in own], (WIDTH, HEIGHT))
        lines = [
            f"{NAMES.index(n)} {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {w / WIDTH} {h / HEIGHT}\n"
            for n, (x, y, w, h) in own
        ]
        for split in ("train", "val"):
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            (root / "labels" / split / f"{i}.txt").write_text("".join(lines))
        images.append({"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT})
        annotations += [{"image_id": i, "category_id": NAMES.index(n), "bbox": list(box)} for n, box in own]
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(json.dumps(content))
        (lists / f"{split}.txt").write_text("0\n1\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(OBJECTS, st.sampled_from([None, 17, 64]))
def test_every_format_gives_the_same_boxes_inside_the_image(objects: list, size: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), objects)
        samples = [set_up(kind(folder, size=size)).datasets["train"].sample(0) for kind in (Voc, Yolo, Coco)]
    for image, target in samples:
        boxes = target["boxes"]
        height, width = image.shape[1:]
        assert boxes.isfinite().all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height] * 2) + 1e-3).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
        assert torch.equal(target["labels"], samples[0][1]["labels"])
        assert torch.allclose(boxes, samples[0][1]["boxes"], atol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, WIDTH - 8), st.integers(0, HEIGHT - 8), st.sampled_from([None, 16, 48]), st.integers(1, 8))
def test_masks_are_aligned_with_their_images(left: int, top: int, size: int | None, orientation: int) -> None:
    """A bright square and its mask, both stored with one EXIF orientation, at any size."""
    array = np.zeros((HEIGHT, WIDTH), np.uint8)
    array[top : top + 8, left : left + 8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("images", "masks"):
            (Path(folder) / kind).mkdir()
            for i in range(6):
                Image.fromarray(array).save(Path(folder) / kind / f"{i}.png", exif=exif)
        image, mask = set_up(MaskFolder(folder, size=size)).datasets["train"].sample(0)
    assert image.shape[1:] == mask.shape
    assert set(mask.unique().tolist()) == {0, 1}
    bright = image[0] > 127
    tolerance = 0 if size is None else 4 * sum(bright.shape) // 16  # interpolation blurs a border of a pixel
    assert (bright != mask.bool()).sum() <= tolerance

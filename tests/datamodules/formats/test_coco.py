"""COCO's JSON: boxes and masks."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_factories import set_up, split_sizes
from faster_coco_eval.core import mask as codec
from fixture_files import write_image
from refusals import refused

from datamodules.decoding.coco_masks import rasterize
from datamodules.formats.coco import Coco
from datamodules.formats.voc import Voc

SQUARE = [[10, 5, 20, 5, 20, 15, 10, 15]]


def content(count: int = 4) -> dict:
    """Images of 40x30 with a cat (id 7) each and, in the first, a crowd of dogs (id 3)."""
    images = [{"id": 10 + i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(count)]
    annotations = [
        {"id": i, "image_id": 10 + i, "category_id": 7, "bbox": [10, 5, 10, 10], "segmentation": SQUARE, "iscrowd": 0}
        for i in range(count)
    ]
    annotations.append(
        {"id": 90, "image_id": 11, "category_id": 3, "bbox": [0, 0, 8, 4], "segmentation": [[0, 0, 8, 0, 8, 4, 0, 4]]}
    )
    runs = {"size": [30, 40], "counts": [600, 600]}
    annotations.append(
        {"id": 91, "image_id": 10, "category_id": 3, "bbox": [20, 0, 20, 30], "segmentation": runs, "iscrowd": 1}
    )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 5, "name": "none"}],
    }


def write(
    root: Path, change: Callable[[dict], object] = lambda c: None, where: str = "annotations/instances_{}.json"
) -> Path:
    for split in ("train", "val"):
        made = content()
        for image in made["images"]:
            write_image(root / split / image["file_name"], (40, 30))
        change(made)
        file = root / where.format(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made))
    return root


@pytest.mark.parametrize(
    "where", ["annotations/instances_{}.json", "instances_{}2017.json", "{}/_annotations.coco.json"]
)
def test_boxes(tmp_path: Path, where: str) -> None:
    data = set_up(Coco(str(write(tmp_path, where=where))))
    assert split_sizes(data) == {"train": 4, "val": 4}
    assert data.spec.class_names == ("cat", "dog")
    first, second = (item.target for item in data.datasets["train"].items[:2])
    assert (first["boxes"].tolist(), first["labels"].tolist()) == ([[10, 5, 20, 15]], [0])  # without the crowd
    assert second["labels"].tolist() == [0, 1]
    assert data.notes[0].endswith(": none")  # the category without objects


def test_masks(tmp_path: Path) -> None:
    data = set_up(Coco(str(write(tmp_path)), target="mask"))
    assert data.spec.class_names == ("background", "cat", "dog")
    image, mask = data.datasets["train"].sample(0)
    wanted = torch.zeros(30, 40, dtype=torch.uint8)
    wanted[:, 20:] = 2
    wanted[5:15, 10:20] = 1
    assert image.shape == (3, 30, 40)
    assert torch.equal(mask, wanted)


def test_compressed_and_uncompressed_run_lengths_agree_with_the_library() -> None:
    shape = np.random.default_rng(0).random((30, 40)) > 0.6
    counts = codec.encode(np.asfortranarray(shape.astype(np.uint8)))["counts"]
    compressed = {"size": [30, 40], "counts": counts.decode() if isinstance(counts, bytes) else counts}
    flat = shape.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *([0] if flat[0] else []), *edges.tolist(), flat.size]).tolist()
    for outline in (compressed, {"size": [30, 40], "counts": runs}):
        assert torch.equal(rasterize([(3, outline)], 30, 40, "x") == 3, torch.from_numpy(shape))


def test_the_smaller_object_is_on_top() -> None:
    large, small = [[0, 0, 20, 0, 20, 20, 0, 20]], [[5, 5, 9, 5, 9, 9, 5, 9]]
    for order in ([(1, large), (2, small)], [(2, small), (1, large)]):
        mask = rasterize(order, 20, 20, "x")
        assert (mask[5:9, 5:9] == 2).all()
        assert (mask == 1).sum() == 400 - 16


@pytest.mark.parametrize(
    ("outline", "code"),
    [
        ({"size": [30, 40], "counts": [1, 2]}, "data.invalid_rle"),
        ({"size": [30, 40], "counts": [1200, 99999999]}, "data.invalid_rle"),
        ({"size": [30, 40], "counts": "oooooooooooooo"}, "data.invalid_rle"),
        ({"size": [3, 4], "counts": [12]}, "data.invalid_rle"),
        ([[1, 2, 3, 4]], "data.invalid_polygon"),
        ([[1, 2, 3]], "data.invalid_polygon"),
        ([["a", "b", "c", "d", "e", "f"]], "data.invalid_polygon"),
        ([], "data.missing_segmentation"),
        (None, "data.missing_segmentation"),
    ],
)
def test_invalid_outlines_are_refused(outline: object, code: str) -> None:
    with refused(code):
        rasterize([(1, outline)], 30, 40, "x")


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("images.0.file_name", "gone.png", "data.missing_file"),
        ("images.0.width", 80, "data.size_mismatch"),
        ("images.0.id", 11, "data.duplicate_id"),
        ("annotations.0.image_id", 99, "data.unlisted_image"),
        ("annotations.0.category_id", 99, "data.unknown_class"),
        ("annotations.0.bbox", [1, 2], "data.invalid_annotation"),
        ("annotations.0.bbox", [50, 5, 10, 10], "data.box_outside_image"),
        ("annotations.0.bbox", [0.2, 0.2, 0.5, 0.5], "data.relative_boxes"),
    ],
)
def test_invalid_annotations_are_refused(tmp_path: Path, path: str, value: object, code: str) -> None:
    key, index, field = path.split(".")
    with refused(code) as error:
        set_up(Coco(str(write(tmp_path, lambda made: made[key][int(index)].update({field: value})))))
    assert "instances_train.json" in str(error.value)


@pytest.mark.parametrize(
    ("text", "code"),
    [(None, "data.missing_annotations"), ("{", "data.unreadable_json"), ("[]", "data.invalid_annotation")],
)
def test_other_files_are_refused(tmp_path: Path, text: str | None, code: str) -> None:
    if text:
        (tmp_path / "train.json").write_text(text)
    with refused(code):
        set_up(Coco(str(tmp_path)))


@pytest.mark.slow
def test_bccd_as_coco_has_the_boxes_of_voc(real: Path, tmp_path: Path) -> None:
    """VOC files written as COCO are read as the same boxes."""
    voc = Voc(str(real / "bccd"))
    voc.setup_splits(["val"], ["val"])
    images, annotations = [], []
    for i, item in enumerate(voc.datasets["val"].items):
        images.append({"id": i, "file_name": Path(item.name).name, "width": 640, "height": 480})
        for (x1, y1, x2, y2), label in zip(item.target["boxes"].tolist(), item.target["labels"].tolist(), strict=True):
            annotations.append({"image_id": i, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(voc.spec.class_names)]
    made = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (tmp_path / "images").mkdir()
    for item in voc.datasets["val"].items:
        (tmp_path / "images" / Path(item.name).name).write_bytes(Path(item.name).read_bytes())
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(made)
    coco = set_up(Coco(str(tmp_path)))
    for one, other in zip(coco.datasets["val"].items, voc.datasets["val"].items, strict=True):
        assert torch.equal(one.target["labels"], other.target["labels"])
        assert torch.allclose(one.target["boxes"], other.target["boxes"])


@pytest.mark.slow
def test_masks_of_nuclei(real: Path) -> None:
    data = set_up(Coco(str(real / "nuclei_fluo"), target="mask"))
    assert split_sizes(data) == {"train": 60, "val": 12}
    assert data.spec.class_names == ("background", "nucleus")
    assert 0.05 < data.spec.counts[1] / sum(data.spec.counts) < 0.12

"""Every fault of data is found, with its severity and its place, and nothing is found in data without faults."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from fixture_files import write_image, write_voc_annotation, write_wav
from PIL import Image

from resmet.data_checks.model.finding import join_first

Json = dict[str, Any]
Report = Callable[..., Json]


def codes(result: Json, severity: str) -> set[str]:
    return {finding["code"] for finding in result["findings"] if finding["severity"] == severity}


def where(result: Json, code: str) -> list[str]:
    """The places of the findings with a code; fails if there is none."""
    findings = [finding for finding in result["findings"] if finding["code"] == code]
    assert findings, f"{code} is not among {[finding['code'] for finding in result['findings']]}"
    return [place for finding in findings for place in finding["where"]]


def message(result: Json, code: str) -> str:
    return next(f"{finding['what']} {finding['todo']}" for finding in result["findings"] if finding["code"] == code)


def first(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of images that differ from each other, in three splits."""
    root = tmp_path / "images"
    seed = 0
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for name in ("cat", "dog"):
            for i in range(count):
                write_image(root / split / name / f"{seed * 7 + i}.png", (40, 40), seed=(seed := seed + 1))
    return root


def test_a_clean_set_has_no_warning(report: Report, images: Path) -> None:
    result = report(images)
    assert result["errors"] == result["warnings"] == 0, result["findings"]
    assert result["splits"]["train"] == {"items": 16, "classes": {"cat": 8, "dog": 8}}
    assert result["command"] == f"python train.py task=classification data=image_folder data.root={images}"


def test_every_finding_has_the_documented_keys(report: Report, image_folder: Path) -> None:
    findings = report(image_folder)["findings"]
    assert findings
    for finding in findings:
        assert set(finding) == {"code", "severity", "what", "where", "count", "todo"}
        assert finding["count"] == len(finding["where"])


def test_unreadable_and_mislabeled_files(report: Report, images: Path) -> None:
    cut = first(images / "train" / "cat")
    cut.write_bytes(cut.read_bytes()[:300])
    (images / "train" / "dog" / "page.jpg").write_text("<!DOCTYPE html><title>404</title>")
    shutil.copy(first(images / "val" / "dog"), images / "train" / "dog" / "lie.jpg")
    result = report(images)
    assert codes(result, "error") >= {"files.unusable_items", "files.not_media"}
    assert len(unusable := where(result, "files.unusable_items")) == 2
    assert any(f"train/cat/{cut.name}" in place for place in unusable)
    assert where(result, "files.not_media") == ["train/dog/page.jpg"]
    assert where(result, "files.wrong_suffix") == ["train/dog/lie.jpg"]
    assert result["errors"] > 0
    assert result["command"].endswith("data.on_error=skip")


def test_empty_files_are_reported_once_and_empty_class_folders_too(report: Report, images: Path) -> None:
    first(images / "train" / "cat").write_bytes(b"")
    (images / "train" / "bird").mkdir()
    result = report(images)
    assert result["errors"] == 1
    assert where(result, "files.empty_class_folder") == ["train/bird"]


def test_duplicates_across_splits(report: Report, images: Path) -> None:
    same, like = sorted((images / "train" / "cat").iterdir())[:2]
    patches = np.random.default_rng(5).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    smooth = Image.fromarray(patches).resize((40, 40), Image.Resampling.BICUBIC)
    smooth.save(like)
    shutil.copy(same, images / "test" / "dog" / "copy.png")
    smooth.save(images / "val" / "cat" / "compressed.jpg", quality=90)
    result = report(images)
    assert where(result, "leakage.duplicates") == [f"train: train/cat/{same.name} = test: test/dog/copy.png"]
    assert where(result, "leakage.near_duplicates") == [f"train: train/cat/{like.name} = val: val/cat/compressed.jpg"]
    assert where(result, "leakage.conflicting_labels") == [f"train/cat/{same.name} (cat) = test/dog/copy.png (dog)"]


def test_of_several_duplicates_those_that_differ_are_shown(report: Report, images: Path) -> None:
    """Two labels, or two splits: the finding names one of each, however many of the first kind come before."""
    own = first(images / "train" / "cat")
    for name in ("z1", "z2"):
        shutil.copy(own, images / "train" / "cat" / f"{name}.png")
    shutil.copy(own, images / "train" / "dog" / "a.png")
    shutil.copy(own, images / "test" / "cat" / "b.png")
    result = report(images)
    assert where(result, "leakage.conflicting_labels") == [f"train/cat/{own.name} (cat) = train/dog/a.png (dog)"]
    assert where(result, "leakage.duplicates") == [f"train: train/cat/{own.name} = test: test/cat/b.png"]


def test_imbalance_and_few_items(report: Report, tmp_path: Path) -> None:
    for name, number in (("common", 60), ("rare", 4)):
        for i in range(number):
            write_image(tmp_path / "set" / "train" / name / f"{i}.png", seed=100 * number + i)
            if i < 3:
                write_image(tmp_path / "set" / "val" / name / f"{i}.png", seed=9000 + 100 * number + i)
    result = report(tmp_path / "set")
    assert result["command"].endswith(" task.class_weights=balanced")
    assert {"labels.imbalance", "labels.few_items"} <= codes(result, "warning")
    assert "60 and 4" in message(result, "labels.imbalance")
    assert "rare (4)" in message(result, "labels.few_items")


def test_constant_images_alpha_and_a_class_that_val_lacks(report: Report, images: Path) -> None:
    write_image(images / "train" / "cat" / "flat.png", (40, 40), color=7)
    rgba = np.full((40, 40, 4), 255, np.uint8)
    rgba[..., :3] = np.random.default_rng(1).integers(0, 256, (40, 40, 3))
    Image.fromarray(rgba).save(images / "train" / "cat" / "alpha.png")
    shutil.rmtree(images / "val" / "dog")
    result = report(images)
    assert where(result, "images.constant") == ["train/cat/flat.png"]
    assert "dog" in message(result, "labels.missing_class_in_split")
    assert "images.opaque_alpha" in codes(result, "note")


def test_images_of_16_bits(report: Report, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(12):
        array = random.integers(0, 3000, (40, 40)).astype(np.uint16)
        array[0, 0] = 65535 if i == 3 else 0
        path = tmp_path / "deep" / ("train" if i < 8 else "val") / ("a", "b")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    result = report(tmp_path / "deep")
    assert " 'data.window=[0" in result["command"]
    assert where(result, "images.wide_window") == ["train/b/3.png"]
    assert "data.window=[" in message(result, "images.wide_window")
    assert len(where(report(tmp_path / "deep", window="[0,1000]"), "images.clipped_values")) == 12


def test_boxes(report: Report, voc: Path) -> None:
    twice = ("cat", 2, 3, 20, 25)
    write_voc_annotation(voc, "0", [("cat", 5, 5, 5, 5), twice, twice, ("dog", 30, 3, 55, 25)])
    write_voc_annotation(voc, "1", [("dog", 50, 50, 60, 60)])
    write_voc_annotation(voc, "6", [("horse", 2, 3, 20, 25)])
    (voc / "Annotations" / "2.xml").unlink()
    write_voc_annotation(voc, "3", [])
    result = report(voc)
    assert where(result, "boxes.no_area") == where(result, "boxes.outside_image") == ["0.png"]
    assert where(result, "boxes.duplicates") == ["JPEGImages/0.png"]
    unusable = " ".join(where(result, "files.unusable_items"))
    assert all(name in unusable for name in ("1.png", "'horse'", "Annotations/2.xml"))
    assert where(result, "labels.unlabeled_items") == ["JPEGImages/3.png"]


def test_annotations_without_an_image(report: Report, tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        for i in range(4):
            write_image(root / "images" / split / f"{split}{i}.png", seed=10 * len(split) + i)
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            (root / "labels" / split / f"{split}{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "labels" / "train" / "lost.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    result = report(root)
    assert result["format"] == "yolo"
    assert where(result, "orphans.annotation_without_image") == ["labels/train/lost.txt"]
    assert result["errors"] == 0  # training can succeed without it


def test_the_polarity_of_masks(report: Report, mask_folder: Path) -> None:
    result = report(mask_folder)
    assert "data.values={0: background, 255: object}" in result["command"]
    assert "mask_values.polarity" not in codes(result, "warning")
    for path in (mask_folder / "masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    result = report(mask_folder)
    assert "mask_values.polarity" in codes(result, "warning")
    assert "data.values={0: object, 255: background}" in result["command"]


def test_masks_of_noise(report: Report, mask_folder: Path) -> None:
    for i, path in enumerate(sorted((mask_folder / "masks").iterdir())):
        noise = np.random.default_rng(i).integers(0, 256, (30, 40), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    assert "mask_values.too_many" in codes(report(mask_folder), "error")


def test_masks_of_a_single_value(report: Report, mask_folder: Path) -> None:
    for path in (mask_folder / "masks").iterdir():
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(path)
    assert "mask_values.constant" in codes(report(mask_folder), "error")


def test_values_of_a_single_mask_are_no_classes(report: Report, tmp_path: Path) -> None:
    for i in range(14):
        write_image(tmp_path / "set" / "images" / f"{i}.png", (40, 30), seed=i)
        mask = np.zeros((30, 40), np.uint8)
        mask[5:12, 5 + i : 12 + i], mask[20:25] = 100, 200
        mask[0, 0] = 77 if i == 3 else 0
        (tmp_path / "set" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{i}.png")
    result = report(tmp_path / "set")
    assert "{0: background, 100: class100, 200: class200}" in result["command"]
    assert where(result, "mask_values.stray") == ["masks/3.png (77)"]


def test_lossy_and_resized_masks_make_no_classes(report: Report, tmp_path: Path) -> None:
    """They share wrong values with each other, and none with the masks that are right."""
    folder = tmp_path / "set" / "masks"
    folder.mkdir(parents=True)
    for i in range(16):
        write_image(tmp_path / "set" / "images" / f"{i}.png", (96, 72), seed=i)
        mask = np.zeros((72, 96), np.uint8)
        mask[5:32, 5 + i : 32 + i], mask[40:65, 2:60] = 100, 200
        image = Image.fromarray(mask)
        if i == 5:
            image.resize((50, 50), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
        else:
            image.save(folder / f"{i}.png", "JPEG" if i == 4 else "PNG")
    result = report(tmp_path / "set")
    assert "{0: background, 100: class100, 200: class200}" in result["command"]
    assert list(result["splits"]["train"]["classes"]) == ["background", "class100", "class200"]
    assert where(result, "mask_values.lossy")[0].startswith("masks/4.png")
    assert any("masks/5.png" in place for place in where(result, "files.unusable_items"))


def test_long_lists_are_shortened() -> None:
    assert join_first("abcdefgh") == "a, b, c, d, e, f and 2 more"
    assert join_first("abcdef") == "a, b, c, d, e, f"


def test_a_missing_mask(report: Report, mask_folder: Path) -> None:
    (mask_folder / "masks" / "2.png").unlink()
    result = report(mask_folder)
    assert len(unusable := where(result, "files.unusable_items")) == 1
    assert "images/2.png" in unusable[0]
    assert result["command"].endswith("data.on_error=skip")


def test_several_mask_values_and_color_masks(report: Report, mask_folder: Path) -> None:
    masks = sorted((mask_folder / "masks").iterdir())
    for path in masks:
        array = (np.asarray(Image.open(path)) > 0).astype(np.uint8)
        array[20:25] = 2
        array[:1] = 255
        Image.fromarray(array).save(path)
    result = report(mask_folder)
    assert "{0: background, 1: class1, 2: class2, 255: ignore}" in result["command"]
    assert "mask_values.unnamed" in codes(result, "warning")
    for path in masks:
        array = np.zeros((30, 40, 3), np.uint8)
        array[5:12, 5:12] = (255, 0, 0)
        Image.fromarray(array).save(path)
    assert "{0-0-0: background, 255-0-0: object}" in report(mask_folder)["command"]


def test_silent_clipped_and_resampled_clips_are_reported(report: Report, audio_csv: Path) -> None:
    time = np.arange(4000) / 8000
    clips = audio_csv / "clips"
    write_wav(clips / "0.wav", np.zeros(4000))
    write_wav(clips / "1.wav", 4e-4 * np.sin(2 * np.pi * 300 * time))
    write_wav(clips / "2.wav", np.sign(np.sin(2 * np.pi * 300 * time)))
    write_wav(clips / "3.wav", 0.5 * np.sin(2 * np.pi * 1500 * time), rate=16000)
    result = report(audio_csv)
    assert any("clips/0.wav" in place for place in where(result, "files.unusable_items"))
    assert where(result, "audio.silent") == ["clips/1.wav"]
    assert where(result, "audio.clipped") == ["clips/2.wav"]
    assert where(result, "audio.mixed_sample_rates") == ["clips/3.wav"]
    assert "8000 Hz (10), 16000 Hz (1)" in message(result, "audio.mixed_sample_rates")


def test_near_duplicates_of_audio_and_speakers_in_two_splits(report: Report, tmp_path: Path) -> None:
    root, random = tmp_path / "speech", np.random.default_rng(0)
    rows = ["file;digit;speaker;split"]
    for i in range(16):
        wave = 0.3 * np.sin(2 * np.pi * (200 + 37 * i) * np.arange(6000) / 8000) + 0.1 * random.standard_normal(6000)
        write_wav(root / f"{i}.wav", wave)
        rows.append(f"{i}.wav;{i % 2};s{i % 5};{'train' if i < 10 else 'test'}")
        if i == 3:
            write_wav(root / "quieter.wav", 0.5 * wave)
    rows.append("quieter.wav;1;s9;test")
    (root / "table.csv").write_text("\n".join(rows))
    result = report(root, "audio_csv")
    assert where(result, "leakage.groups_across_splits") == [f"s{i}" for i in range(5)]
    assert "data.splits.published=false data.columns.group=speaker" in message(result, "leakage.groups_across_splits")
    assert where(result, "leakage.near_duplicates")[0].endswith(": 3.wav = test: quieter.wav")
    assert "'data.columns={path: file, label: digit}'" in result["command"]


def test_a_group_stays_in_one_split_where_splits_are_made(report: Report, tmp_path: Path) -> None:
    root = tmp_path / "patients"
    rows = ["image,diagnosis,patient"]
    for i in range(40):
        write_image(root / "scans" / f"{i}.png", seed=i)
        rows.append(f"{i},{('well', 'ill')[i % 2]},p{i // 4}")
    (root / "table.csv").write_text("\n".join(rows))
    result = report(root)
    assert "data.columns={path: image, label: diagnosis, group: patient}" in result["command"]
    assert "data.folder=scans" in result["command"]
    assert "leakage.groups_across_splits" not in codes(result, "warning")
    assert result["splits"]["test"]["items"] > 0


def test_a_folder_of_no_known_format(report: Report, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.doc").write_text("Dear")
    result = report(tmp_path / "letters")
    assert codes(result, "error") == {"data.unknown_format"}
    assert result["command"] == result["format"] == result["task"] == ""


def test_images_of_two_depths(report: Report, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "mixed" / ("train" if i < 8 else "val") / ("a", "b")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        light = random.random((40, 40))
        Image.fromarray((light * (255 if i < 3 else 4000)).astype(np.uint8 if i < 3 else np.uint16)).save(path)
    result = report(tmp_path / "mixed")
    assert where(result, "images.mixed_depth") == ["train/a/0.png", "train/a/2.png", "train/b/1.png"]


def test_an_image_of_many_channels_logs_nothing(
    report: Report, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(8):
        path = tmp_path / "many" / "ab"[i % 2] / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.random.default_rng(i).integers(0, 256, (20, 20, 7), dtype=np.uint8)
        tifffile.imwrite(path, array, planarconfig="contig", photometric="minisblack")
    assert "7 channels" in str(report(tmp_path / "many")["described"])
    assert not caplog.records


def test_the_image_of_a_wrong_annotation_is_not_reported_as_unused(report: Report, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(12)]
    boxes = [{"id": i, "image_id": i, "category_id": 9 if i == 4 else 1, "bbox": [2, 3, 9, 9]} for i in range(12)]
    for image in images:
        write_image(root / str(image["file_name"]), (40, 30), seed=int(str(image["id"])))
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    (root / "train.json").write_text(json.dumps(content))
    result = report(root)
    assert "4.png" in where(result, "files.unusable_items")[0]
    assert "orphans.unused_file" not in codes(result, "note")


def test_sides_of_boxes_are_described_to_a_tenth_of_a_pixel(report: Report, voc: Path) -> None:
    write_voc_annotation(voc, "0", [("cat", 2.0001, 3, 20.9998, 25)])
    assert "18 to 22 pixels" in str(report(voc)["described"])


@pytest.mark.parametrize("step", [1, 40])
def test_consecutive_images_across_splits(report: Report, tmp_path: Path, step: int) -> None:
    """A window that moves by little shows similar images; one that moves by its width shows different ones."""
    whole = np.random.default_rng(0).integers(0, 256, (12, 400), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(whole).resize((1600, 48), Image.Resampling.BICUBIC))
    for i in range(36):
        split = "val" if i % 6 == 3 else "train"
        (tmp_path / "set" / split / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / split / "masks").mkdir(exist_ok=True)
        view = wide[:, step * i : step * i + 40]
        Image.fromarray(view).save(tmp_path / "set" / split / "images" / f"{i}.png")
        Image.fromarray(((view > 128) * 255).astype(np.uint8)).save(tmp_path / "set" / split / "masks" / f"{i}.png")
    result = report(tmp_path / "set")
    assert ("sequences.consecutive_across_splits" in codes(result, "note")) == (step == 1)
    if step == 1:
        places = where(result, "sequences.consecutive_across_splits")
        assert len(places) == 6
        assert "val/images/3.png next to train/images/4.png" in places

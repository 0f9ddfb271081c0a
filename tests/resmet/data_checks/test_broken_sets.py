"""Everything that can be wrong with data is found, said with its severity, and nothing else is said."""

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

from resmet.data_checks.model.finding import listed

Report = dict[str, Any]
See = Callable[..., Report]


def said(report: Report, severity: str) -> str:
    """What a report says at one severity, places included."""
    return "\n".join(
        " ".join([f["what"], *f["where"], f["todo"]]) for f in report["findings"] if f["severity"] == severity
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of pictures that differ from each other, in three splits."""
    root = tmp_path / "pictures"
    seed = 0
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for name in ("cat", "dog"):
            for i in range(count):
                write_image(root / split / name / f"{seed * 7 + i}.png", (40, 40), seed=(seed := seed + 1))
    return root


def first(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


def test_a_clean_set_has_no_warning(see: See, pictures: Path) -> None:
    report = see(pictures)
    assert report["errors"] == report["warnings"] == 0, report["findings"]
    assert report["refusal"] == ""
    assert report["splits"]["train"] == {"items": 16, "classes": {"cat": 8, "dog": 8}}
    assert report["command"] == f"python train.py task=classification data=image_folder data.root={pictures}"
    assert Path(report["sheet"]).is_file()


def test_files_that_are_not_what_they_say(see: See, pictures: Path) -> None:
    cut = first(pictures / "train" / "cat")
    cut.write_bytes(cut.read_bytes()[:300])
    (pictures / "train" / "dog" / "page.jpg").write_text("<!DOCTYPE html><title>404</title>")
    shutil.copy(first(pictures / "val" / "dog"), pictures / "train" / "dog" / "lie.jpg")
    report = see(pictures)
    assert f"2 items can't be used train/cat/{cut.name}" in said(report, "error")
    assert "1 .jpg file is a web page train/dog/page.jpg" in said(report, "error")
    assert "1 .jpg file is really PNG train/dog/lie.jpg" in said(report, "warning")
    assert "training can't go well" in report["refusal"]
    assert report["command"].endswith("data.on_error=skip")


def test_empty_files_are_told_once_and_empty_class_folders_are_told(see: See, pictures: Path) -> None:
    first(pictures / "train" / "cat").write_bytes(b"")
    (pictures / "train" / "bird").mkdir()
    report = see(pictures)
    assert report["errors"] == 1
    assert "1 class folder is without a picture train/bird" in said(report, "warning")


def test_copies_across_splits(see: See, pictures: Path) -> None:
    same, like = sorted((pictures / "train" / "cat").iterdir())[:2]
    patches = np.random.default_rng(5).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    smooth = Image.fromarray(patches).resize((40, 40), Image.Resampling.BICUBIC)
    smooth.save(like)
    shutil.copy(same, pictures / "test" / "dog" / "copy.png")
    smooth.save(pictures / "val" / "cat" / "squeezed.jpg", quality=90)
    report = see(pictures)
    assert "1 item of val or test is identical to one of another split" in said(report, "error") + said(
        report, "warning"
    )
    assert "1 item of val or test is near-identical" in said(report, "error") + said(report, "warning")
    assert f"train/cat/{like.name} = val: val/cat/squeezed.jpg" in str(report["findings"])
    assert f"train/cat/{same.name} (cat) = test/dog/copy.png (dog)" in said(report, "warning")


def test_of_several_copies_those_that_differ_are_shown(see: See, pictures: Path) -> None:
    """Two labels, or two splits: the text and the JSON name one of each, however many of the first kind come before."""
    own = first(pictures / "train" / "cat")
    for name in ("z1", "z2"):
        shutil.copy(own, pictures / "train" / "cat" / f"{name}.png")
    shutil.copy(own, pictures / "train" / "dog" / "a.png")
    shutil.copy(own, pictures / "test" / "cat" / "b.png")
    found = {f["what"]: f["where"] for f in see(pictures)["findings"]}
    assert found["1 item carries two different labels"] == [f"train/cat/{own.name} (cat) = train/dog/a.png (dog)"]
    across = next(where for what, where in found.items() if "identical to one of another split" in what)
    assert across == [f"train: train/cat/{own.name} = test: test/cat/b.png"]


def test_imbalance_and_few(see: See, tmp_path: Path) -> None:
    for name, number in (("common", 60), ("rare", 4)):
        for i in range(number):
            write_image(tmp_path / "set" / "train" / name / f"{i}.png", seed=100 * number + i)
            if i < 3:
                write_image(tmp_path / "set" / "val" / name / f"{i}.png", seed=9000 + 100 * number + i)
    report = see(tmp_path / "set")
    assert report["command"].endswith(" task.class_weights=balanced")
    assert "heavy imbalance: common has 15 times the training items of rare (60 and 4)" in said(report, "warning")
    assert "1 class has fewer than 5 training items: rare 4" in said(report, "warning")


def test_one_colour_alpha_and_a_class_that_val_lacks(see: See, pictures: Path) -> None:
    write_image(pictures / "train" / "cat" / "flat.png", (40, 40), color=7)
    rgba = np.full((40, 40, 4), 255, np.uint8)
    rgba[..., :3] = np.random.default_rng(1).integers(0, 256, (40, 40, 3))
    Image.fromarray(rgba).save(pictures / "train" / "cat" / "alpha.png")
    shutil.rmtree(pictures / "val" / "dog")
    report = see(pictures)
    assert "1 picture is of one colour from edge to edge train/cat/flat.png" in said(report, "warning")
    assert "val has no item of dog" in said(report, "warning")
    assert "1 picture has an alpha channel that is 255 everywhere" in said(report, "note")


def test_sixteen_bits(see: See, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(12):
        array = random.integers(0, 3000, (40, 40)).astype(np.uint16)
        array[0, 0] = 65535 if i == 3 else 0
        path = tmp_path / "deep" / ("train" if i < 8 else "val") / ("a", "b")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    report = see(tmp_path / "deep")
    stretched = said(report, "warning")
    assert " 'data.window=[0,2" in report["command"]
    assert "a small part of the window 0 to 65535: few grey levels are left" in stretched
    assert "train/b/3.png data.window=[" in stretched
    clipped = said(see(tmp_path / "deep", window=[0, 1000]), "warning")
    assert "12 pictures have values outside the window 0 to 1000, which are cut off" in clipped


def test_boxes(see: See, voc: Path) -> None:
    write_voc_annotation(
        voc, "0", [("cat", 5, 5, 5, 5), ("cat", 2, 3, 20, 25), ("cat", 2, 3, 20, 25), ("dog", 30, 3, 55, 25)]
    )
    write_voc_annotation(voc, "1", [("dog", 50, 50, 60, 60)])
    write_voc_annotation(voc, "6", [("horse", 2, 3, 20, 25)])
    (voc / "Annotations" / "2.xml").unlink()
    write_voc_annotation(voc, "3", [])
    report = see(voc)
    assert "boxes without area (or turned inside out) dropped: 1, in 0.png (1)" in said(report, "warning")
    assert "boxes lapping over the edge of their image cut there: 1" in said(report, "warning")
    assert "1 box is drawn twice JPEGImages/0.png" in said(report, "warning")
    wrong = said(report, "error")
    assert "3 items can't be used" in wrong
    assert "a box lies outside its 40x30 image 1.png" in wrong
    assert "class 'horse' is not one of the training classes" in wrong
    assert "Annotations/2.xml is missing" in wrong
    assert "1 item has no box" in said(report, "note")


def test_texts_without_an_image(see: See, tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        for i in range(4):
            write_image(root / "images" / split / f"{split}{i}.png", seed=10 * len(split) + i)
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            (root / "labels" / split / f"{split}{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "labels" / "train" / "lost.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    report = see(root)
    assert report["format"] == "yolo"
    assert "1 text file has no image labels/train/lost.txt" in said(report, "warning")
    assert report["refusal"] == ""  # training goes well without it


def test_masks_say_their_polarity(see: See, mask_folder: Path) -> None:
    report = see(mask_folder)
    assert "data.values={0: background, 255: object}" in report["command"]
    assert "rarer" not in str(report["findings"])
    for path in (mask_folder / "masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    report = see(mask_folder)
    assert "mask value 0 is the rarer one" in said(report, "warning")
    assert "data.values={0: object, 255: background}" in report["command"]


def test_masks_that_are_none(see: See, mask_folder: Path) -> None:
    for i, path in enumerate(sorted((mask_folder / "masks").iterdir())):
        noise = np.random.default_rng(i).integers(0, 256, (30, 40), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    assert "too many to be classes: were they saved as JPEG" in said(see(mask_folder), "error")


def test_values_of_one_mask_alone_are_no_classes(see: See, tmp_path: Path) -> None:
    for i in range(14):
        write_image(tmp_path / "set" / "images" / f"{i}.png", (40, 30), seed=i)
        mask = np.zeros((30, 40), np.uint8)
        mask[5:12, 5 + i : 12 + i], mask[20:25] = 100, 200
        mask[0, 0] = 77 if i == 3 else 0
        (tmp_path / "set" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{i}.png")
    report = see(tmp_path / "set")
    assert "{0: background, 100: class100, 200: class200}" in report["command"]
    assert "1 mask holds values that hardly another mask has" in said(report, "warning")
    assert "masks/3.png (77)" in said(report, "warning")


def test_masks_saved_with_loss_or_resized_make_no_classes(see: See, tmp_path: Path) -> None:
    """They share phantom values with each other, and none with the masks that are right."""
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
    report = see(tmp_path / "set")
    assert "{0: background, 100: class100, 200: class200}" in report["command"]
    assert list(report["splits"]["train"]["classes"]) == ["background", "class100", "class200"]
    errors = said(report, "error")
    assert "1 mask was saved with loss (JPEG)" in errors
    assert "masks/5.png has 50x50 pixels, its image 5.png has 96x72" in errors


def test_long_lists_say_how_many_more_there_are() -> None:
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"
    assert listed("abcdef") == "a, b, c, d, e, f"


def test_a_mask_is_missing(see: See, mask_folder: Path) -> None:
    (mask_folder / "masks" / "2.png").unlink()
    report = see(mask_folder)
    assert "1 item can't be used images/2.png has no mask of the same name" in said(report, "error")
    assert report["command"].endswith("data.on_error=skip")


def test_several_mask_values_and_colours(see: See, mask_folder: Path) -> None:
    masks = sorted((mask_folder / "masks").iterdir())
    for path in masks:
        array = (np.asarray(Image.open(path)) > 0).astype(np.uint8)
        array[20:25] = 2
        array[:1] = 255
        Image.fromarray(array).save(path)
    report = see(mask_folder)
    assert "{0: background, 1: class1, 2: class2, 255: ignore}" in report["command"]
    assert "whose names nobody told" in said(report, "warning")
    for path in masks:
        array = np.zeros((30, 40, 3), np.uint8)
        array[5:12, 5:12] = (255, 0, 0)
        Image.fromarray(array).save(path)
    assert "{0-0-0: background, 255-0-0: object}" in see(mask_folder)["command"]


def test_sounds(see: See, audio_csv: Path) -> None:
    time = np.arange(4000) / 8000
    clips = audio_csv / "clips"
    write_wav(clips / "0.wav", np.zeros(4000))
    write_wav(clips / "1.wav", 4e-4 * np.sin(2 * np.pi * 300 * time))
    write_wav(clips / "2.wav", np.sign(np.sin(2 * np.pi * 300 * time)))
    write_wav(clips / "3.wav", 0.5 * np.sin(2 * np.pi * 1500 * time), rate=16000)
    report = see(audio_csv)
    assert "clips/0.wav is silent from start to end" in said(report, "error")
    assert "1 clip is as good as silent (below -60 dB) in the part that is used clips/1.wav" in said(report, "warning")
    assert "1 clip is distorted: more than 1 of 100 samples at full scale clips/2.wav" in said(report, "note")
    assert "sample rates differ: 8000 Hz (10), 16000 Hz (1); all are brought to the most frequent clips/3.wav" in said(
        report, "note"
    )


def test_copies_of_sounds_and_speakers_in_two_splits(see: See, tmp_path: Path) -> None:
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
    report = see(root, "audio_csv")
    assert "5 of 6 groups (column speaker) are in two splits" in said(report, "warning")
    assert "data.splits.published=false data.columns.group=speaker" in said(report, "warning")
    assert "near-identical" in said(report, "error") + said(report, "warning")
    assert "3.wav = test: quieter.wav" in str(report["findings"])
    assert "'data.columns={path: file, label: digit}'" in report["command"]


def test_a_group_is_kept_together_where_splits_are_made(see: See, tmp_path: Path) -> None:
    root = tmp_path / "patients"
    rows = ["image,diagnosis,patient"]
    for i in range(40):
        write_image(root / "scans" / f"{i}.png", seed=i)
        rows.append(f"{i},{('well', 'ill')[i % 2]},p{i // 4}")
    (root / "table.csv").write_text("\n".join(rows))
    report = see(root)
    assert "data.columns={path: image, label: diagnosis, group: patient}" in report["command"]
    assert "data.folder=scans" in report["command"]
    assert "groups" not in str(report["findings"])
    assert report["splits"]["test"]["items"] > 0


def test_nothing_known(see: See, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.doc").write_text("Dear")
    report = see(tmp_path / "letters")
    assert "no format is recognised: expected pictures or sounds in a folder a class" in said(report, "error")
    assert report["command"] == ""


def test_folders_of_two_depths(see: See, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "mixed" / ("train" if i < 8 else "val") / ("a", "b")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        light = random.random((40, 40))
        Image.fromarray((light * (255 if i < 3 else 4000)).astype(np.uint8 if i < 3 else np.uint16)).save(path)
    report = see(tmp_path / "mixed")
    assert "3 pictures have 8 bits, 9 have more" in said(report, "warning")
    assert "train/a/0.png train/a/2.png train/b/1.png" in said(report, "warning")


def test_a_picture_of_many_channels_leaves_the_terminal_alone(
    see: See, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(8):
        path = tmp_path / "many" / "ab"[i % 2] / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.random.default_rng(i).integers(0, 256, (20, 20, 7), dtype=np.uint8)
        tifffile.imwrite(path, array, planarconfig="contig", photometric="minisblack")
    assert "7 channels" in str(see(tmp_path / "many")["described"])
    assert not caplog.records


def test_an_annotation_that_is_wrong_names_its_picture(see: See, tmp_path: Path) -> None:
    """So that the picture is not said to belong to no item as well."""
    root = tmp_path / "coco"
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(12)]
    boxes = [{"id": i, "image_id": i, "category_id": 9 if i == 4 else 1, "bbox": [2, 3, 9, 9]} for i in range(12)]
    for image in images:
        write_image(root / str(image["file_name"]), (40, 30), seed=int(str(image["id"])))
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    (root / "train.json").write_text(json.dumps(content))
    report = see(root)
    assert "annotation 4 of 4.png has category 9" in said(report, "error")
    assert "belongs to no item" not in str(report["findings"])


def test_sides_of_boxes_are_no_more_exact_than_a_tenth(see: See, voc: Path) -> None:
    write_voc_annotation(voc, "0", [("cat", 2.0001, 3, 20.9998, 25)])
    assert "sides 18 to 22 pixels, median" in str(see(voc)["described"])


@pytest.mark.parametrize("step", [1, 40])
def test_slices_that_follow_each_other_across_splits_are_told(see: See, tmp_path: Path, step: int) -> None:
    """A window that moves by little shows neighbours alike; one that moves by its width shows strangers."""
    whole = np.random.default_rng(0).integers(0, 256, (12, 400), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(whole).resize((1600, 48), Image.Resampling.BICUBIC))
    for i in range(36):
        split = "val" if i % 6 == 3 else "train"
        (tmp_path / "set" / split / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / split / "masks").mkdir(exist_ok=True)
        view = wide[:, step * i : step * i + 40]
        Image.fromarray(view).save(tmp_path / "set" / split / "images" / f"{i}.png")
        Image.fromarray(((view > 128) * 255).astype(np.uint8)).save(tmp_path / "set" / split / "masks" / f"{i}.png")
    notes = said(see(tmp_path / "set"), "note")
    assert ("6 items of val or test are numbered next to one of training" in notes) == (step == 1)
    assert ("val/images/3.png next to train/images/" in notes) == (step == 1)

"""Packed items equal those of `load`, for every format."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_files import write_image
from nested import equal
from refusals import refused

from datamodules.base.datamodule import DataModule
from datamodules.formats.audio_csv import AudioCsv
from datamodules.formats.image_csv import ImageCsv
from datamodules.formats.mask_folder import MaskFolder
from datamodules.formats.sharded import Sharded
from datamodules.formats.voc import Voc
from datamodules.shards import writer
from datamodules.shards.manifest import read_manifest
from datamodules.shards.writer import pack
from datamodules.synthetic import Digits, Scenes, Tones
from datamodules.transforms.augment import AudioAugment, Augment
from foundation.structures import InputError

ROOT = Path(__file__).parents[3]


def several_labels(tmp_path: Path) -> ImageCsv:
    words = ["cat|dog", "cat", "", "dog|bird"] * 3
    for i in range(12):
        write_image(tmp_path / "labelled" / "files" / f"{i}.png", (20 + i, 24), seed=i)
    lines = [f"files/{i}.png,{word},p{i // 2}" for i, word in enumerate(words)]
    (tmp_path / "labelled" / "table.csv").write_text("\n".join(["path,label,group", *lines]) + "\n")
    return ImageCsv(str(tmp_path / "labelled"), separator="|")


FORMATS: dict[str, Callable[[pytest.FixtureRequest, Path], DataModule]] = {
    "digits": lambda request, _: Digits(),
    "boxes": lambda request, _: Scenes(count=20),
    "mask": lambda request, _: Scenes(target="mask", count=20, size=64),
    "labels": lambda request, _: Scenes(target="labels", count=20, channels=1),
    "tones": lambda request, _: Tones(count=20),
    "voc": lambda request, _: Voc(str(request.getfixturevalue("voc"))),
    "mask_folder": lambda request, _: MaskFolder(str(request.getfixturevalue("mask_folder"))),
    "audio_csv": lambda request, _: AudioCsv(str(request.getfixturevalue("audio_csv"))),
    "image_csv": lambda _, tmp_path: several_labels(tmp_path),
}


def reader(folder: Path, ndim: int = 2, **arguments: Any) -> Sharded:
    return Sharded(str(folder), augment=Augment() if ndim == 2 else AudioAugment(), num_workers=0, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("image_format", ["raw", "png"])
def test_packed_data_has_the_same_items(
    name: str, image_format: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = FORMATS[name](request, tmp_path)
    pack(source, str(tmp_path / "out"), 0.1, 0, image_format)
    data = reader(tmp_path / "out", source.ndim)
    data.setup("fit")
    assert data.spec == source.spec
    assert (data.target, data.ndim) == (source.target, source.ndim)
    assert set(data.datasets) == set(source.datasets)
    for split, items in source.datasets.items():
        packed = data.datasets[split]
        places = {packed.name(i): i for i in range(len(packed))}
        assert len(places) == len(packed) == len(items)
        order = [places[items.name(i)] for i in range(len(items))]
        assert split == "train" or order == sorted(order)
        for i, place in enumerate(order):
            assert equal(packed.sample(place)[0], items.sample(i)[0])
            assert equal(packed.sample(place)[1], items.sample(i)[1])


def test_the_training_items_are_shuffled_and_groups_are_stored(tmp_path: Path) -> None:
    manifest = pack(several_labels(tmp_path), str(tmp_path / "out"), 0.001, 0)
    assert len(manifest.splits["train"]) > 3
    data = reader(tmp_path / "out")
    data.setup("fit")
    names = [data.datasets["train"].name(i) for i in range(len(data.datasets["train"]))]
    assert names != sorted(names)
    assert b'\\"group\\": \\"p' in (tmp_path / "out" / "train-000000.tar").read_bytes()


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        pack(Digits(size=8), str(tmp_path / name), 0.5, 0)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_tar_and_safetensors_read_shards(tmp_path: Path) -> None:
    import tarfile

    from safetensors.torch import load

    manifest = pack(Digits(size=8), str(tmp_path / "out"), 0.5, 0)
    shard = manifest.splits["val"][0]
    with tarfile.open(tmp_path / "out" / shard.name) as tar:
        members = tar.getmembers()
        assert all(member.isreg() for member in members)
        assert [member.name for member in members] == [f"{i:06d}.safetensors" for i in range(shard.items)]
        content = tar.extractfile(members[0])
        assert content is not None
        assert set(load(content.read())) == {"input", "label"}


def test_the_manifest_survives_a_round_trip(tmp_path: Path) -> None:
    manifest = pack(Scenes(count=10), str(tmp_path / "out"), 0.1, 0)
    content = (tmp_path / "out" / "manifest.json").read_bytes()
    assert read_manifest(content, "here") == manifest
    listed = {shard.name for shards in manifest.splits.values() for shard in shards}
    assert {path.name for path in (tmp_path / "out").iterdir()} == listed | {"manifest.json"}


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out, code in (
        (tmp_path / "full", "shards.output_exists"),
        (tmp_path / "file", "shards.output_exists"),
        ("s3://bucket/x", "shards.remote_output"),
    ):
        with refused(code):
            pack(Digits(size=8), str(out), 1, 0)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    for size in (0, -1, float("nan"), 10**6, "64", True):
        with refused("config.out_of_range"):
            pack(Digits(size=8), str(tmp_path / "new"), size, 0)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    written = []
    whole = writer.write_shard

    def failing(path: Path, items: Any) -> Any:
        written.append(path)
        if len(written) == 3:
            raise error
        return whole(path, items)

    monkeypatch.setattr(writer, "write_shard", failing)
    with pytest.raises((InputError, KeyboardInterrupt)):
        pack(Digits(size=8), str(tmp_path / "deep" / "out"), 0.2, 0)
    assert len(written) == 3
    assert not list((tmp_path / "deep").iterdir())


@pytest.mark.slow
def test_a_signal_leaves_no_file(tmp_path: Path) -> None:
    words = ["data=detection", "data.count=2000", "out=out", "shard_mb=0.1"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "pack.py"), *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "in 2 shards" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert not list(tmp_path.iterdir())


def test_png_takes_less_space(tmp_path: Path) -> None:
    sizes = {}
    for image_format in ("raw", "png"):
        manifest = pack(Scenes(count=10, size=96), str(tmp_path / image_format), 100, 0, image_format)
        sizes[image_format] = manifest.splits["train"][0].bytes
    assert sizes["png"] < sizes["raw"]
    with refused("config.unknown_value"):
        pack(Digits(), str(tmp_path / "jpg"), 100, 0, "jpg")


def test_an_empty_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pack(Digits(size=8), str(tmp_path / "out"), 5, 0)
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_skipped_items_are_not_packed(tmp_path: Path, image_folder: Path) -> None:
    from datamodules.formats.image_folder import ImageFolder

    (image_folder / "train" / "dark" / "bad.png").write_bytes(b"not an image")
    with refused("data.unreadable_image|data.unusable_items") as error:
        pack(ImageFolder(str(image_folder)), str(tmp_path / "out"), 1, 0)
    assert "bad.png" in str(error.value)
    assert not (tmp_path / "out").exists()
    manifest = pack(ImageFolder(str(image_folder), on_error="skip"), str(tmp_path / "out"), 1, 0)
    assert any("bad.png" in note for note in manifest.notes)
    assert sum(shard.items for shards in manifest.splits.values() for shard in shards) == 16


@pytest.mark.slow
def test_packed_digits_equal_those_of_scikit_learn(tmp_path: Path) -> None:
    """Compared with scikit-learn's own images, in 0..16."""
    from sklearn.datasets import load_digits

    pack(Digits(size=8), str(tmp_path / "out"), 5, 0)
    data = reader(tmp_path / "out")
    data.setup("fit")
    total = sum(float(data.datasets[s].sample(i)[0].sum()) for s in data.datasets for i in range(len(data.datasets[s])))
    wanted = (load_digits().images * (255 / 16)).round().sum()
    assert np.isclose(total, wanted)

"""Cached items equal decoded ones, bit for bit, and are never stale."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_files import write_image
from nested import equal
from PIL import Image
from refusals import refused

from datamodules.base.datamodule import DataModule
from datamodules.cache import cache
from datamodules.cache.item_file import CacheFile
from datamodules.formats.audio_csv import AudioCsv
from datamodules.formats.image_folder import ImageFolder
from datamodules.formats.mask_folder import MaskFolder
from datamodules.formats.voc import Voc
from datamodules.synthetic import Digits
from foundation.targets.kinds import TARGETS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives every test its own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "resmet" / "items"


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Two classes of 16-bit images."""
    for i in range(8):
        (tmp_path / "deep" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        array = np.random.default_rng(i).integers(0, 4000, (20, 24)).astype(np.uint16)
        Image.fromarray(array).save(tmp_path / "deep" / "ab"[i % 2] / f"{i}.png")
    return tmp_path / "deep"


def everything(data: DataModule) -> list[tuple[str, Any]]:
    return [(items.name(i), items.sample(i)) for items in data.datasets.values() for i in range(len(items))]


def shapes(data: DataModule) -> list[Any]:
    return [items.image_shapes() for items in data.datasets.values()]


def prepared(data: DataModule) -> DataModule:
    data.setup_splits(["train", "val", "test"], ["train"])
    return data


def undecodable(data: DataModule) -> DataModule:
    def fail(item: Any) -> Any:
        pytest.fail(f"{item.name} was decoded")

    data.load = fail  # type: ignore[method-assign]
    return data


KINDS: dict[str, Callable[..., DataModule]] = {
    "image_folder": lambda root, cache: ImageFolder(str(root), size=24, cache=cache),
    "mask_folder": lambda root, cache: MaskFolder(
        str(root), values={0: "background", 255: "thing"}, size=24, cache=cache
    ),
    "voc": lambda root, cache: Voc(str(root), size=32, cache=cache),
    "audio_csv": lambda root, cache: AudioCsv(str(root), cache=cache),
    "deep": lambda root, cache: ImageFolder(str(root), cache=cache),
}


@pytest.mark.parametrize("kind", KINDS)
def test_cached_items_equal_decoded_items(kind: str, request: pytest.FixtureRequest, home: Path) -> None:
    root, make = request.getfixturevalue(kind), KINDS[kind]
    decoded = prepared(make(root, "off"))
    assert not any(len(items.cached) for items in decoded.datasets.values())
    assert "decoded each time (data.cache=off)" in decoded.describe()
    in_memory, first = prepared(make(root, "ram")), prepared(make(root, "disk"))
    second = prepared(undecodable(make(root, "disk")))
    third = prepared(undecodable(make(root, "auto")))  # uses the disk's files
    for data in (in_memory, first, second, third):
        assert equal(everything(decoded), everything(data))
        assert data.spec == decoded.spec
        assert shapes(data) == shapes(decoded)
        assert data.in_memory
    assert "cached in memory" in in_memory.describe()
    assert f"cached in {home}" in first.describe()
    assert " of them new" in first.describe()
    assert "0 of them new" in second.describe()
    assert [path.suffix for path in home.rglob("*") if path.is_file() and path.name != ".lock"] == [".items"]


def test_a_changed_file_is_decoded_again(image_folder: Path) -> None:
    file = image_folder / "train" / "dark" / "0.png"
    prepared(ImageFolder(str(image_folder), cache="disk"))
    before, length = file.stat(), file.stat().st_size
    write_image(file, color=99)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert file.stat().st_size == length
    data = prepared(ImageFolder(str(image_folder), cache="disk"))
    assert "1 of them new" in data.describe()
    assert (dict(everything(data))[str(file)][0] == 99).all()
    assert equal(everything(prepared(ImageFolder(str(image_folder), cache="off"))), everything(data))


def test_an_item_with_a_changed_mask_is_decoded_again(mask_folder: Path) -> None:
    prepared(KINDS["mask_folder"](mask_folder, "disk"))
    Image.fromarray(np.full((30, 40), 255, np.uint8)).save(mask_folder / "masks" / "3.png")
    data = prepared(KINDS["mask_folder"](mask_folder, "disk"))
    assert (dict(everything(data))[str(mask_folder / "images" / "3.png")][1] == 1).all()


def test_the_size_the_labels_and_the_boxes_are_part_of_the_key(
    image_folder: Path, mask_folder: Path, voc: Path
) -> None:
    prepared(ImageFolder(str(image_folder), size=24, cache="disk"))
    assert prepared(ImageFolder(str(image_folder), size=16, cache="disk")).datasets["train"].sample(0)[0].shape[1] == 16
    prepared(KINDS["mask_folder"](mask_folder, "disk"))
    turned = prepared(MaskFolder(str(mask_folder), values={255: "background", 0: "thing"}, size=24, cache="disk"))
    assert turned.datasets["train"].sample(0)[1][0, 0] == 1
    prepared(Voc(str(voc), size=32, cache="disk"))
    file = voc / "Annotations" / "0.xml"
    file.write_text(file.read_text().replace("<ymin>3", "<ymin>8"))
    assert equal(
        everything(prepared(Voc(str(voc), size=32, cache="disk"))),
        everything(prepared(Voc(str(voc), size=32, cache="off"))),
    )


@pytest.mark.parametrize("damage", ["cut", "index", "item", "empty"])
def test_a_damaged_file_is_written_again(damage: str, image_folder: Path, home: Path, caplog: Any) -> None:
    decoded = everything(prepared(ImageFolder(str(image_folder), cache="off")))
    prepared(ImageFolder(str(image_folder), cache="disk"))
    (file,) = home.rglob("*.items")
    content = bytearray(file.read_bytes())
    spot = {"index": len(content) - 40, "item": 5}.get(damage)
    if spot is not None:
        content[spot] ^= 255
    file.write_bytes(content[: {"cut": len(content) // 2, "empty": 0}.get(damage, len(content))])
    assert equal(decoded, everything(prepared(ImageFolder(str(image_folder), cache="disk"))))
    if damage == "item":
        assert not file.exists()  # noticed when it was read; the next run writes it
    assert equal(decoded, everything(prepared(ImageFolder(str(image_folder), cache="disk"))))
    assert equal(decoded, everything(prepared(undecodable(ImageFolder(str(image_folder), cache="disk")))))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_do_not_depend_on_the_cache(image_folder: Path, num_workers: int) -> None:
    def batches(cache: str) -> list[torch.Tensor]:
        data = prepared(ImageFolder(str(image_folder), batch_size=3, size=24, cache=cache, num_workers=num_workers))
        found = [batch["input"] for batch in data.dataloader("train")]
        data.teardown("")
        return found

    decoded = batches("off")
    for place in ("ram", "disk", "disk"):
        assert equal(decoded, batches(place))


FILL = """
import sys
from datamodules.formats.image_folder import ImageFolder
data = ImageFolder(sys.argv[1], size=24, cache="disk")
data.setup("fit")
print(sum(int(items.sample(i)[0].sum()) for items in data.datasets.values() for i in range(len(items))), data.cache_report)
"""


@pytest.mark.slow
def test_two_processes_fill_the_cache_at_once(image_folder: Path, home: Path) -> None:
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    words = [sys.executable, "-c", FILL, str(image_folder)]
    started = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    output = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert len({line.split()[0] for line in output}) == 1
    assert len(list(home.rglob("*.items"))) == 1  # the second process finds the items of the first
    assert equal(
        everything(prepared(ImageFolder(str(image_folder), size=24, cache="off"))),
        everything(prepared(undecodable(ImageFolder(str(image_folder), size=24, cache="disk")))),
    )


@pytest.mark.parametrize("moment", ["add", "close"])
def test_a_full_disk_is_reported_and_leaves_no_file(
    moment: str, image_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"datamodules.cache.item_file.CacheWriter.{moment}", full)
    data = prepared(ImageFolder(str(image_folder), size=24, cache="disk"))
    assert "No space left on device" in data.describe()
    assert not [path for path in home.rglob("*") if path.suffix in (".items", ".part")]
    assert equal(everything(prepared(ImageFolder(str(image_folder), size=24, cache="off"))), everything(data))


def test_an_unusable_cache_folder_is_reported(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    data = prepared(ImageFolder(str(image_folder), size=24, cache="disk"))
    assert "can't be written" in data.describe()


ITEM = 3 * 24 * 24


@pytest.mark.parametrize(
    ("mode", "memory", "disk", "in_ram", "filed"),
    [
        ("auto", 99, 99, 16, 0),
        ("auto", 12, 99, 0, 16),
        ("auto", 5, 9, 4, 0),
        ("ram", 5, 99, 4, 0),
        ("disk", 99, 9, 0, 9),
    ],
)
def test_items_go_where_they_fit(
    mode: str, memory: int, disk: int, in_ram: int, filed: int, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: round(memory * ITEM / cache.FREE_FRACTION))
    monkeypatch.setattr(cache.Cache, "disk_limit", lambda self: disk * ITEM)
    data = prepared(ImageFolder(str(image_folder), size=24, cache=mode))
    cached = [items.cached for items in data.datasets.values()]
    assert (sum(len(k.ram) for k in cached), sum(len(k.disk) for k in cached)) == (in_ram, filed)
    rest = 16 - in_ram - filed
    assert (f"{rest} items do not fit into a quarter of the free" in data.describe()) == bool(rest)
    assert data.in_memory == (not rest)
    assert equal(everything(prepared(ImageFolder(str(image_folder), size=24, cache="off"))), everything(data))


def test_the_least_recently_used_file_is_deleted(
    image_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (20, 24, 28):
        prepared(ImageFolder(str(image_folder), size=size, cache="disk"))
        for age, path in enumerate(sorted(home.rglob("*.items"), key=os.path.getmtime, reverse=True)):
            os.utime(path, (1e9 - age, 1e9 - age))
    sizes = [path.stat().st_size for path in home.rglob("*.items")]
    monkeypatch.setattr(cache.Cache, "disk_limit", lambda self: sum(sizes))
    prepared(ImageFolder(str(image_folder), size=16, cache="disk"))
    shapes = [CacheFile(path, TARGETS["label"]).entries for path in home.rglob("*.items")]
    assert sorted(next(iter(entries.values()))[4][0] for entries in shapes) == [16, 24, 28]


def test_the_processes_of_a_machine_divide_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 800)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert cache.Cache("ram", {}, {}, [], "label").free_ram == round(800 * cache.FREE_FRACTION) // 4


def test_synthetic_data_are_cached_in_memory(home: Path) -> None:
    data = prepared(Digits())
    assert data.in_memory
    assert "1,797 items cached in memory" in data.describe()
    assert not home.exists()


@pytest.mark.parametrize(("value", "mode"), [(True, "auto"), (False, "off"), ("disk", "disk")])
def test_older_configs_have_true_or_false(value: Any, mode: str, image_folder: Path) -> None:
    assert ImageFolder(str(image_folder), cache=value).cache_mode == mode


def test_an_unknown_mode_is_refused(image_folder: Path, run: Any) -> None:
    with refused("config.unknown_value"):
        ImageFolder(str(image_folder), cache="disc")  # type: ignore[arg-type]
    done = run("train", "data=image_folder", f"data.root={image_folder}", "data.cache=disc")
    assert done.returncode == 2
    assert "data.cache" in done.stderr
    assert "Traceback" not in done.stderr

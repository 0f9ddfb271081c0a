"""Training from shards, and shards that are meant to do harm."""

import io
import json
import math
import pickle
import shutil
import tarfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from http_server import serve_folder
from PIL import Image
from refusals import refused

from datamodules.decoding.item_codec import encode_parts
from datamodules.formats.sharded import Sharded, check_sample
from datamodules.shards import download
from datamodules.shards.writer import pack
from datamodules.synthetic import Digits, Scenes, Tones
from datamodules.transforms.augment import AudioAugment, Augment
from foundation.structures import InputError, Spec

TINY = ("backbone.width=8", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=1", "data.batch_size=64")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "packed"
    pack(Digits(size=16), str(folder), 0.2, 0)
    return folder


def prepared(root: Path | str, **arguments: Any) -> Sharded:
    data = Sharded(str(root), num_workers=0, **arguments)
    data.setup("fit")
    return data


def content(data: Sharded, split: str = "train", epoch: int = 3) -> list:
    loader = data.dataloader(split)
    loader.batch_sampler.set_epoch(epoch)
    return [(batch["names"], batch["input"].sum().item(), batch["target"].tolist()) for batch in loader]


# --- training


def test_runs_from_the_command_line(run: Callable, tmp_path: Path) -> None:
    packing = run("pack", "data=classification", "data.size=16", "out=packed", "shard_mb=0.3")
    assert packing.returncode == 0, packing.stderr
    assert "1300 train, 228 val, 269 test" in packing.stdout
    assert "train: 1300 of 1300 items" in packing.stderr
    with serve_folder(tmp_path / "packed") as (address, _):
        for num_workers, root in ((0, "packed"), (2, address)):
            words = (
                "data=sharded",
                f"data.root={root}",
                f"data.num_workers={num_workers}",
                f"run_dir=with{num_workers}",
                *TINY,
            )
            done = run("train", *words, XDG_CACHE_HOME=str(tmp_path / "cache"))
            assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / f"with{num_workers}" / "metrics.csv").read_text() for num_workers in (0, 2))
    assert one == two, "folder or web, with or without workers"
    assert list((tmp_path / "cache" / "resmet" / "shards").glob("*.tar"))
    evaluated = run(
        "evaluate",
        "ckpt=with0/checkpoints/best.ckpt",
        "run_dir=evaluated",
        "data=classification",
        "data.size=16",
        *TINY[1:3],
    )
    assert evaluated.returncode == 0, evaluated.stderr
    of_shards, of_source = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("with0", "evaluated")
    )
    assert of_shards["test"] == of_source["test"]


def test_a_broken_shard_stops_a_run_with_one_message(run: Callable, digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "packed")
    victim = tmp_path / "packed" / "train-000001.tar"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    done = run("train", "data=sharded", "data.root=packed", "data.num_workers=1", "run_dir=run", *TINY)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("train.py:")]
    assert len(message) == 1
    assert "train-000001.tar" in message[0]
    with refused("shards.wrong_checksum|data.unreadable_item") as error:
        content(prepared(tmp_path / "packed"))
    assert "train-000001.tar" in str(error.value)
    skipped = run("train", "data=sharded", "data.root=packed", "data.on_error=skip", "run_dir=skip", *TINY)
    assert skipped.returncode == 0, skipped.stderr
    assert "train-000001.tar" in (tmp_path / "skip" / "skipped.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_do_not_depend_on_workers(digits: Path, split: str) -> None:
    data = prepared(digits, batch_size=100, seed=1, augment=Augment(horizontal_flip=0.5, degrees=20))
    alone = content(data, split)
    data.num_workers = 2
    assert content(data, split) == alone
    assert sorted(name for names, *_ in alone for name in names) == sorted(
        data.datasets[split].name(i) for i in range(len(data.datasets[split]))
    )


def test_setup_reads_the_manifest_only(digits: Path, tmp_path: Path) -> None:
    with serve_folder(digits) as (address, server):
        data = prepared(address, cache_dir=str(tmp_path))
        assert dict(server.requests) == {"manifest.json": 1}
        assert data.spec.counts == tuple(json.loads((digits / "manifest.json").read_text())["spec"]["counts"])
        data.datasets["val"].sample(0)
        assert server.requests["val-000000.tar"] == 1
        assert sum(server.requests.values()) == 2


def test_items_are_made_when_they_are_used(digits: Path, tmp_path: Path) -> None:
    manifest = json.loads((digits / "manifest.json").read_text())
    shard = {"items": 10**6, "bytes": 2 * 10**9, "sha256": "0" * 64}
    manifest["splits"]["train"] = {"items": 10**9, "shards": [{"name": f"a{i}.tar", **shard} for i in range(1000)]}
    with serve_folder(tmp_path) as (address, server):
        server.replacements["manifest.json"] = json.dumps(manifest).encode()
        data = prepared(address, cache_dir=str(tmp_path))
    assert len(data.datasets["train"]) == 10**9
    item = data.datasets["train"].items[10**9 - 1]
    assert (item.name, item.target[1]) == ("a999.tar[999999]", 10**6 - 1)


def test_a_local_shard_that_is_missing_or_short(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "packed")
    (tmp_path / "packed" / "train-000000.tar").unlink()
    (tmp_path / "packed" / "val-000000.tar").write_bytes(b"short")
    with pytest.raises(InputError) as caught:
        prepared(tmp_path / "packed")
    assert "train-000000.tar" in str(caught.value)
    assert "val-000000.tar has 5 bytes" in str(caught.value)
    data = prepared(tmp_path / "packed", on_error="skip")
    assert len(data.skipped) == 2
    left = prepared(digits)
    assert 0 < len(data.datasets["train"]) < len(left.datasets["train"])
    names = {name for names, *_ in content(data) for name in names}
    assert len(names) == len(data.datasets["train"])


def test_a_checkpoint_of_other_data_is_refused(digits: Path) -> None:
    spec = prepared(digits).spec
    data = Sharded(str(digits))
    data.use_spec(spec, other_data=True)
    data.setup_splits(["test"], ["test"])
    assert data.spec == spec
    with refused("shards.spec_mismatch"):
        Sharded(str(digits)).use_spec(Spec(2, 1, spec.class_names, size=(32, 32), resize="stretch"))
    with refused("data.other_task"):
        Sharded(str(digits)).use_spec(Spec(1, 1, spec.class_names))


def test_images_and_audio_have_different_augmentations(digits: Path, tmp_path: Path) -> None:
    with refused("data.augment_mismatch"):
        prepared(digits, augment=AudioAugment())
    pack(Tones(count=20), str(tmp_path / "tones"), 5, 0)
    with refused("data.augment_mismatch"):
        prepared(tmp_path / "tones")


@pytest.mark.parametrize(
    "arguments", [{"shuffle_shards": 0}, {"retries": -1}, {"cache_gb": 0}, {"timeout": float("nan")}]
)
def test_values_out_of_range(digits: Path, arguments: dict) -> None:
    with refused("config.out_of_range"):
        Sharded(str(digits), **arguments)


def test_a_cache_that_is_too_small(digits: Path) -> None:
    with serve_folder(digits) as (address, _), refused("shards.cache_too_small"):
        Sharded(address, cache_gb=0.0001)


def test_a_missing_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.001)
    with refused("shards.missing_manifest"):
        Sharded(str(tmp_path))
    with refused("data.missing_root"):
        Sharded(str(tmp_path / "nowhere"))
    with serve_folder(tmp_path) as (address, _), refused("shards.unreachable"):
        Sharded(address)
    with refused("shards.unreachable"):
        Sharded(address, retries=1)


# --- shards that are meant to do harm


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.mark,))


def rewritten(digits: Path, folder: Path, change: Callable[[dict], Any]) -> Path:
    """A copy with another manifest."""
    shutil.copytree(digits, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


NAMES = [
    "../outside.tar",
    "/etc/passwd.tar",
    "C:\\x.tar",
    "a/b.tar",
    "..\\x.tar",
    "pipe:touch MARK.tar",
    "http://127.0.0.1/x.tar",
    "x.tar\0",
    ".tar",
    "-.tar",
    "x.tar\n",
    "",
    7,
    None,
]


@pytest.mark.parametrize("name", NAMES)
def test_shard_names_that_lead_elsewhere(
    digits: Path, tmp_path: Path, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(digits / "train-000000.tar", tmp_path / "outside.tar")
    monkeypatch.chdir(tmp_path)

    def change(manifest: dict) -> None:
        manifest["splits"]["train"]["shards"][0]["name"] = name

    with refused("shards.invalid_manifest"):
        Sharded(str(rewritten(digits, tmp_path / "bad", change)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "outside.tar"]


def test_a_link_that_leads_out_of_the_folder(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "bad")
    (tmp_path / "bad" / "train-000000.tar").unlink()
    (tmp_path / "bad" / "train-000000.tar").symlink_to(digits / "train-000000.tar")
    with refused("shards.outside_root|data.unusable_items"):
        prepared(tmp_path / "bad")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("items", -1),
        ("items", 10**18),
        ("items", 1.5),
        ("items", True),
        ("items", 10**6),
        ("bytes", 0),
        ("bytes", 1 << 50),
        ("bytes", "many"),
        ("sha256", "../../x"),
        ("sha256", "0" * 63),
        ("sha256", None),
    ],
)
def test_impossible_numbers_in_a_manifest(digits: Path, tmp_path: Path, key: str, value: Any) -> None:
    def change(manifest: dict) -> None:
        manifest["splits"]["train"]["shards"][0][key] = value

    with refused("shards.invalid_manifest"):
        Sharded(str(rewritten(digits, tmp_path / "bad", change)))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format="other"),
        lambda m: m.update(format=["resmet-shards-1"]),
        lambda m: m.pop("spec"),
        lambda m: m["spec"].update(unknown=1),
        lambda m: m["spec"].update(target="parts"),
        lambda m: m["spec"].update(channels="three"),
        lambda m: m["spec"].update(class_names=[]),
        lambda m: m["spec"].update(class_names=[1, 2]),
        lambda m: m["spec"].update(mean=["x"]),
        lambda m: m["splits"].update(secret=m["splits"]["val"]),
        lambda m: m["splits"]["val"].update(items=1),
        lambda m: m["splits"]["val"].update(shards=m["splits"]["train"]["shards"], items=m["splits"]["train"]["items"]),
        lambda m: m.update(splits=[1]),
        lambda m: m.update(notes=7),
    ],
)
def test_malformed_manifests(digits: Path, tmp_path: Path, change: Callable) -> None:
    with refused("shards.invalid_manifest"):
        Sharded(str(rewritten(digits, tmp_path / "bad", change)))


@pytest.mark.parametrize("text", [b"", b"no json", b"[" * 100_000, b"\xff\xfe", b"NaN", b'"x"'])
def test_text_that_is_not_a_manifest(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with refused("shards.invalid_manifest"):
        Sharded(str(tmp_path))


def with_shard(digits: Path, folder: Path, shard: bytes, items: int = 1) -> Sharded:
    """A set in which one shard is replaced, with the right checksum."""

    def change(manifest: dict) -> None:
        entry = {"name": "val-000000.tar", "items": items, "bytes": len(shard), "sha256": sha256(shard).hexdigest()}
        manifest["splits"]["val"] = {"items": items, "shards": [entry]}

    rewritten(digits, folder, change)
    (folder / "val-000000.tar").write_bytes(shard)
    return prepared(folder)


def tar_of(members: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(data), kind, link
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


NAME = {"name": "x", "group": ""}
GOOD = encode_parts({"input": torch.zeros(1, 16, 16, dtype=torch.uint8), "label": 3}, NAME)


def image_bytes(size: tuple[int, int], mode: str, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue()


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels."""
    whole = bytearray(image_bytes((1, 1), "L", "PNG"))
    whole[16:24] = side.to_bytes(4, "big") * 2
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "good"),
    [
        (image_bytes((16, 16), "L", "PNG"), True),
        (image_bytes((16, 16), "L", "BMP"), False),
        (image_bytes((16, 16), "RGBA", "PNG"), False),
        (image_bytes((16, 16), "L", "PNG")[:40], False),
        (bomb(12_000), False),
        (bomb(100_000), False),
        (b"", False),
    ],
)
def test_invalid_png(digits: Path, tmp_path: Path, content: bytes, good: bool) -> None:
    png = torch.tensor(list(content), dtype=torch.uint8)
    data = with_shard(
        digits, tmp_path / "bad", tar_of([("0.safetensors", encode_parts({"png": png, "label": 3}, NAME))])
    )
    if good:
        assert data.datasets["val"].sample(0)[0].shape == (1, 16, 16)
        return
    with refused("shards.invalid_item"):
        data.datasets["val"].sample(0)


def test_a_shard_of_another_program_is_read(digits: Path, tmp_path: Path) -> None:
    data = with_shard(digits, tmp_path / "mine", tar_of([("0.safetensors", GOOD)]))
    signal, label = data.datasets["val"].sample(0)
    assert (tuple(signal.shape), signal.dtype, label) == ((1, 16, 16), torch.uint8, 3)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(digits: Path, tmp_path: Path, kind: bytes) -> None:
    shard = tar_of([("0.safetensors", b"")], kind, "/etc/passwd") + b"\0" * 1024
    data = with_shard(digits, tmp_path / "bad", shard)
    with refused("shards.invalid_shard"):
        data.datasets["val"].sample(0)


@pytest.mark.parametrize("name", ["../../0.json", "/tmp/0.json", "0.json/../../x", "0.pyd", "0.pickle", "x"])
def test_members_are_not_unpacked(digits: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    shard = tar_of([("0.safetensors", GOOD), (name, pickle.dumps(Touch(mark)))])
    data = with_shard(digits, tmp_path / "bad", shard)
    with refused("shards.invalid_shard"):
        data.datasets["val"].sample(0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]


def test_pickles_are_never_opened(digits: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickled = pickle.dumps(Touch(mark))
    png = encode_parts({"png": torch.tensor(list(pickled), dtype=torch.uint8), "label": 3})
    for name, content in (("whole", pickled), ("png", png)):
        data = with_shard(digits, tmp_path / name, tar_of([("0.safetensors", content)]))
        with refused("shards.invalid_item"):
            data.datasets["val"].sample(0)
        assert not mark.exists()
    pickle.loads(pickled)
    assert mark.exists(), "the payload works"


def promising(shape: tuple, dtype: str = "U8", body: bytes = b"x") -> bytes:
    """An input whose header does not agree with what follows."""
    header = json.dumps({"input": {"dtype": dtype, "shape": shape, "data_offsets": [0, math.prod(shape)]}}).encode()
    return len(header).to_bytes(8, "little") + header + body


@pytest.mark.parametrize(
    "content",
    [
        promising((10**12,)),
        promising((2**40, 2**40)),
        promising((-1, -1)),
        promising((1, 16, 16)),
        promising((1,), "V1"),
        promising((1,), "O"),
        encode_parts({"input": torch.zeros(3, 16, 16, dtype=torch.uint8), "label": 3}),
        encode_parts({"input": torch.zeros(4, dtype=torch.uint8), "label": 3}),
        encode_parts({"label": 3}),
        b"",
        b"\xff" * 40,
        b"\x10" + b"\0" * 7 + b"[" * 16,
    ],
)
def test_invalid_inputs(digits: Path, tmp_path: Path, content: bytes) -> None:
    data = with_shard(digits, tmp_path / "bad", tar_of([("0.safetensors", content)]))
    with refused("shards.invalid_item"):
        data.datasets["val"].sample(0)


@pytest.mark.parametrize("label", [10, -1, torch.tensor(1.5), torch.tensor(True), torch.tensor([3]), None])
def test_invalid_labels(digits: Path, tmp_path: Path, label: Any) -> None:
    parts = {"input": torch.zeros(1, 16, 16, dtype=torch.uint8)} | ({} if label is None else {"label": label})
    data = with_shard(digits, tmp_path / "bad", tar_of([("0.safetensors", encode_parts(parts))]))
    with refused("shards.invalid_item"):
        data.datasets["val"].sample(0)


def test_an_item_without_a_name_is_named_by_its_number(digits: Path, tmp_path: Path) -> None:
    for number, info in enumerate(("3", '{"info": 3}', '{"info": "["}', '{"info": "[]"}', '{"info": "{}"}')):
        header = json.loads(GOOD[8 : 8 + int.from_bytes(GOOD[:8], "little")]) | {"__metadata__": json.loads(info)}
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + GOOD[8 + int.from_bytes(GOOD[:8], "little") :]
        data = with_shard(digits, tmp_path / str(number), tar_of([("0.safetensors", content)]))
        assert data.datasets["val"].name(0) == "val-000000.tar[0]"


def test_shards_of_an_older_version_are_refused(digits: Path, tmp_path: Path) -> None:
    with refused("shards.old_version"):
        Sharded(str(rewritten(digits, tmp_path / "old", lambda manifest: manifest.update(format="resmet-shards-1"))))


def test_more_or_fewer_items_than_promised(digits: Path, tmp_path: Path) -> None:
    shard = tar_of([("0.safetensors", GOOD)])
    with refused("shards.invalid_shard"):
        with_shard(digits, tmp_path / "bad", shard, 2).datasets["val"].sample(0)


def test_a_member_beyond_the_end(digits: Path, tmp_path: Path) -> None:
    shard = bytearray(tar_of([("0.safetensors", GOOD)]))
    shard[124:136] = b"77777777777\0"
    with refused("shards.invalid_shard"):
        with_shard(digits, tmp_path / "bad", bytes(shard)).datasets["val"].sample(0)


def test_boxes_and_masks_are_checked(tmp_path: Path) -> None:
    boxes = Scenes(count=10)
    boxes.setup("fit")
    signal, target = next(sample for i in range(10) if len((sample := boxes.datasets["train"].sample(i))[1]["labels"]))
    check_sample((signal, target), boxes.spec)
    wrong = [
        {**target, "labels": target["labels"] + 3},
        {**target, "boxes": target["boxes"][:, :3]},
        {"boxes": signal},
        3,
    ]
    for other in wrong:
        with pytest.raises(ValueError, match="target"):
            check_sample((signal, other), boxes.spec)
    masks = Scenes(target="mask", count=10, size=48)
    masks.setup("fit")
    signal, mask = masks.datasets["train"].sample(0)
    check_sample((signal, mask), masks.spec)
    with pytest.raises(ValueError, match="target"):
        check_sample((signal, mask[1:]), masks.spec)

"""Untrusted data files: none leads out of its folder, takes more memory than it should, or starts a program."""

import gzip
import json
import logging
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from refusals import refused

from datamodules.base.csv_table import Table
from datamodules.decoding.audio import audio_length, read_audio
from datamodules.decoding.coco_masks import object_mask, rasterize
from datamodules.decoding.image import read_header, read_image
from datamodules.decoding.mask import read_mask
from datamodules.formats.audio_csv import AudioCsv
from datamodules.formats.coco import objects_of, read_annotations
from datamodules.formats.idx import read_idx
from datamodules.formats.image_csv import ImageCsv
from datamodules.formats.mask_folder import MaskFolder
from datamodules.formats.voc import read_xml
from datamodules.formats.yolo import Yolo, class_names, read_data_yaml
from foundation.storage.paths import links_outside
from foundation.storage.safe_load import printable
from foundation.visualization.plots import confusion
from resmet.cli.console_log import PrintableFormatter
from resmet.data_checks.checks.videos import header_facts
from resmet.deploy.predictor import image_name_of
from resmet.engine.report import write_report

MAX_PEAK_BYTES = 64 << 20
"""Bytes that Python may hold while it refuses a file."""


@pytest.fixture
def memory_limit() -> Any:
    """Fails a test that allocates memory for what a header only claims."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MAX_PEAK_BYTES, f"{peak >> 20} MB"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    return tmp_path / "secret.png"


OUT = ["../secret.png", "a/../../secret.png", "{secret}", "link.png", "folder/secret.png"]
NONE = ["C:\\secret.png", "..\\secret.png", "x" * 5000, "x\0.png", "file:///secret.png", "\ud800.png"]


def lay_links(root: Path, secret: Path) -> None:
    (root / "link.png").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)


@pytest.mark.parametrize("name", OUT + NONE[:-1])
def test_paths_in_a_table_stay_below_the_root(name: str, secret: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    lay_links(root, secret)
    (root / "t.csv").write_text(f"path,label\n{name.format(secret=secret)},a\n")
    with refused("data.path_outside_root|data.missing_file"):
        Table(root, None, {}, ["path", "label"]).path(0)
    for kind in (ImageCsv, AudioCsv):
        with refused("data.path_outside_root|data.missing_file|data.unusable_items"):
            kind(str(root)).setup("fit")


@pytest.mark.parametrize("name", OUT + NONE)
def test_paths_in_coco_stay_below_the_root(name: str, secret: Path, tmp_path: Path) -> None:
    from datamodules.formats.coco import Coco

    root = tmp_path / "root"
    root.mkdir()
    lay_links(root, secret)
    image = {"id": 1, "file_name": name.format(secret=secret), "width": 8, "height": 8}
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}]
    content = {"images": [image], "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    (root / "train.json").write_text(json.dumps(content))
    with refused("data.path_outside_root|data.missing_file|data.unusable_items"):
        Coco(str(root)).setup("fit")


@pytest.mark.parametrize("name", OUT + NONE[:-1])
@pytest.mark.parametrize("key", ["train", "path", "list"])
def test_paths_in_yolo_stay_below_the_root(name: str, key: str, secret: Path, tmp_path: Path) -> None:
    """Exporters write paths of their own machine: what is before the root is dropped, and what is left must be in it."""
    root = tmp_path / "root"
    root.mkdir()
    lay_links(root, secret)
    name = name.format(secret=secret)
    (root / "list.txt").write_text(f"{name}\n")
    entry = {"train": {"train": name}, "path": {"path": name, "train": "../secret.png"}, "list": {"train": "list.txt"}}
    (root / "data.yaml").write_text(json.dumps({"names": ["a"], **entry[key]}))
    with refused("data.missing_file"):
        Yolo(str(root)).setup("fit")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "link", "x" * 5000, "x\0"])
def test_names_in_voc_stay_below_the_root(name: str, secret: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "Annotations").mkdir(parents=True)
    (tmp_path / "secret.xml").write_text("<annotation/>")
    (root / "Annotations" / "link.xml").symlink_to(tmp_path / "secret.xml")
    with refused("data.path_outside_root|data.invalid_annotation|data.missing_annotations"):
        read_xml(root, name, True)


def test_links_in_a_folder_layout_are_followed_and_noted(mask_folder: Path, tmp_path: Path) -> None:
    """As in torchvision and timm: images may lie on another disk."""
    (mask_folder / "images" / "0.png").rename(tmp_path / "0.png")
    (mask_folder / "images" / "0.png").symlink_to(tmp_path / "0.png")
    data = MaskFolder(str(mask_folder))
    data.setup("fit")
    assert any("1 items are links to files outside" in note for note in data.notes)
    (mask_folder / "images" / "loop.png").symlink_to("loop.png")
    assert links_outside(mask_folder, [mask_folder / "images" / "1.png", Path("train[0]")]) == []


def png(width: int, height: int, depth: int, kind: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


def tiff(width: int, height: int, bits: int) -> bytes:
    """A header without data."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 200), (277, 1), (278, height), (279, 9)]
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + b"\0" * 400


def gif(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\x80\0\0" + b"\0" * 6 + b"," + b"\0" * 4 + size + b"\0\x02\x02\x44\x01\0;"


def webp(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


IMAGES = {
    "color.png": png(60000, 60000, 8, 2),
    "deep.png": png(60000, 60000, 16, 2),
    "flat.tif": tiff(200000, 200000, 8),
    "deep.tif": tiff(200000, 200000, 16),
    "big.gif": gif(65000, 65000),
    "big.webp": webp(16000, 16000),
    "big.ppm": b"P6 100000 100000 255\n" + b"\0" * 99,
    "big.bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 99999, 99999, 1, 24, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.usefixtures("memory_limit")
@pytest.mark.parametrize("name", IMAGES)
def test_image_headers_that_claim_too_much(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(IMAGES[name])
    for read in (lambda path: read_image(path, 3), read_header, read_mask):
        with refused("data.unreadable_image"):
            read(tmp_path / name)


def test_an_image_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow passes EPS to Ghostscript, whatever the suffix."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    for read in (lambda path: read_image(path, 3), read_header, read_mask):
        with refused("data.unreadable_image"):
            read(tmp_path / "a.png")


def idx(*shape: int) -> bytes:
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.usefixtures("memory_limit")
@pytest.mark.parametrize(
    "content", [idx(10**6, 10**6) + b"\0" * 999, idx(10) + b"\0" * (200 << 20), idx(10) + b"\0" * 9, idx(*[9] * 255)]
)
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_an_idx_file_has_the_length_in_its_header(content: bytes, suffix: str, tmp_path: Path) -> None:
    tracemalloc.stop()
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix else content)
    tracemalloc.start()
    with refused("data.truncated_file"):
        read_idx(path)


def wav(rate: int, channels: int, samples: int) -> bytes:
    data = np.tile(np.array([900, -900], "<i2"), samples // 2).tobytes()
    head = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate * channels % 2**32, 2 * channels % 2**16, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + head + b"data" + struct.pack("<I", len(data)) + data
    )


@pytest.mark.usefixtures("memory_limit")
def test_audio_headers_that_claim_too_much(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.tile([0.1, -0.1], 2000), 8000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] | 0x0F]) + b"\xff" * 4  # 36 bits of samples
    (tmp_path / "long.flac").write_bytes(content)
    (tmp_path / "slow.wav").write_bytes(wav(1, 1, 80000))  # 80,000 seconds
    (tmp_path / "none.wav").write_bytes(wav(0, 1, 8000))
    (tmp_path / "wide.wav").write_bytes(wav(8000, 65000, 8000))
    for name in ("long.flac", "none.wav", "wide.wav"):
        with refused("data.unreadable_audio"):
            read_audio(tmp_path / name, 8000)
    with refused("data.unreadable_audio"):
        audio_length(tmp_path / "long.flac")
    with refused("data.unreadable_audio"):
        read_audio(tmp_path / "slow.wav", 16000)


@pytest.mark.usefixtures("memory_limit")
def test_segmentations_take_the_memory_of_one_mask() -> None:
    corner = [0, 0, 9, 0, 9, 9]
    assert rasterize([(1, [corner] * 500)], 500, 600, "w").sum() > 0
    assert rasterize([(1, [corner])] * 500, 500, 600, "w").sum() > 0
    for outline in ({"size": [10**6, 10**6], "counts": [10**12]}, {"size": [5, 5], "counts": [10**30]}):
        with refused("data.invalid_rle"):
            rasterize([(1, outline)], 5, 5, "w")


def test_smaller_objects_lie_on_top() -> None:
    """Of equally large ones, the later."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        objects = [(int(generator.integers(1, 9)), [generator.integers(-5, 60, 8).tolist()]) for _ in range(9)]
        objects += [(8, [[0, 0, 9, 0, 9, 9, 0, 9]]), (9, [[5, 0, 14, 0, 14, 9, 5, 9]])]
        areas = [(label, object_mask(outline, 50, 55, "w")) for label, outline in objects]
        wanted = np.zeros((50, 55), np.uint8)
        for label, area in sorted(areas, key=lambda entry: -int(entry[1].sum())):
            wanted[area] = label
        assert (rasterize(objects, 50, 55, "w").numpy() == wanted).all()


@pytest.mark.usefixtures("memory_limit")
def test_xml_with_entities(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    secret.with_suffix(".txt").write_text("cat")
    laughs = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 9 if i else "x" * 99}">' for i in range(10))
    body = "<annotation><object><name>&e9;</name></object></annotation>"
    for text in (
        f"<!DOCTYPE a [{laughs}]>{body}",
        f'<!DOCTYPE a [<!ENTITY e9 SYSTEM "file://{secret.with_suffix(".txt")}">]>{body}',
        f'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">{body}',
        "<annotation><size><width>1e999</width></size></annotation>",
        "<annotation><size><width>nan</width></size></annotation>",
    ):
        (tmp_path / "Annotations" / "a.xml").write_text(text)
        with refused("data.invalid_annotation"):
            read_xml(tmp_path, "a", True)


@pytest.mark.parametrize("text", ["[" * 99999, '{"images": ' + "9" * 9999 + "}", "\ufeff{", ""])
def test_json_beyond_any_limit(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with refused("data.unreadable_json"):
        read_annotations(tmp_path / "a.json")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1, 10**400, [1], "8", {}])
def test_impossible_numbers_are_refused(value: Any, tmp_path: Path) -> None:
    image, box = {"id": 1, "file_name": "a"}, {"id": 1, "category_id": 1}
    if value != {}:
        with refused("data.invalid_annotation"):
            objects_of(tmp_path, image | {"width": value}, [], {}, False)
    if value != -1:
        with refused("data.invalid_annotation"):
            objects_of(tmp_path, image, [box | {"bbox": [1, 1, value, 1]}], {1: "a"}, False)


def test_a_table_with_a_huge_cell(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"path,label\n{'x' * 10**6},a\n")
    with refused("data.unreadable_table"):
        Table(tmp_path, None, {}, ["path"])


def test_a_video_is_not_a_playlist(tmp_path: Path) -> None:
    """FFmpeg would open the files or addresses that a playlist names."""
    with av.open(str(tmp_path / "real.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile real.avi\n")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video, "FFmpeg itself opens it"
    assert header_facts(tmp_path / "real.avi")["size"] == (32, 32)
    assert header_facts(tmp_path / "a.mp4") == {}


EVIL = '<script>alert(1)</script>\x1b]0;title\x07\x1b[31m"onload=x $\\frac$\u202e\n'


def test_the_report_shows_text_as_text(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "<script>x.png").write_bytes(b"x")
    (tmp_path / "config.yaml").write_text(EVIL)
    result: dict[str, Any] = {"task": EVIL, "score": 0.5, "val": {EVIL: 0.1}, "test": {}, "versions": {EVIL: EVIL}}
    page = write_report(tmp_path, result, [EVIL, "\udcff.png"]).read_text()
    assert "<script" not in page
    assert '"onload' not in page


def test_the_report_of_an_evaluation_on_training_data(tmp_path: Path) -> None:
    result = {"task": "a", "score": 0.5, "train": {"accuracy": 0.5}, "checkpoint": "RUN/last.ckpt", "versions": {}}
    page = write_report(tmp_path, result, []).read_text()
    assert "score of the train split" in page
    assert "RUN/last.ckpt" in page
    assert "<td>accuracy</td>" in page


def test_names_do_not_control_the_terminal(capsys: pytest.CaptureFixture) -> None:
    shown = printable(f"{EVIL}\r\x9b\udcff é 犬\t")
    assert not set(shown) & set("\x1b\x07\x9b\r\u202e\udcff")
    assert "\\x1b[31m" in shown
    assert shown.endswith("é 犬\t")
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", (EVIL,), None)
    assert "\x1b" not in PrintableFormatter("%(message)s").format(record)


def test_names_are_not_parsed_as_formulas() -> None:
    confusion(torch.eye(2), ["$\\frac$", "a"]).canvas.draw()


@pytest.mark.parametrize(
    "name", ["/a/../b.png", "/" + "犬" * 80 + ".png", "/a\n\x1b.png", "/..", "/C:\\x.png", "/\udcff.png"]
)
def test_predicted_images_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / image_name_of(3, name)
    assert path.resolve().parent == tmp_path.resolve()
    assert path.name.isprintable()
    path.write_bytes(b"x")


LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(9))


@pytest.mark.usefixtures("memory_limit")
@pytest.mark.parametrize("read", [read_data_yaml, lambda root: class_names(*read_data_yaml(root))])
def test_yaml_aliases_are_refused(read: Callable, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(f"{LAUGHS}names: *a8\n")
    with refused("data.unreadable_yaml"):
        read(tmp_path)

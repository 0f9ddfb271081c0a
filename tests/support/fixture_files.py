"""Writes images, annotations and audio files for tests."""

import wave
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, size: tuple[int, int] = (32, 32), color: int | None = None, seed: int = 0) -> Path:
    """Writes an RGB image of noise, or of one gray value; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    array = noise if color is None else np.full_like(noise, color)
    Image.fromarray(array).save(path)
    return path


XML = "<annotation><size><width>{w}</width><height>{h}</height></size>{objects}</annotation>"
OBJECT = "<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"


def write_voc_annotation(root: Path, stem: str, boxes: list[tuple], size: tuple[int, int] = (40, 30)) -> None:
    """Writes a Pascal VOC annotation; a box is (name, x1, y1, x2, y2) in pixels."""
    objects = "".join(OBJECT.format(name=n, x1=a, y1=b, x2=c, y2=d) for n, a, b, c, d in boxes)
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    (root / "Annotations" / f"{stem}.xml").write_text(XML.format(w=size[0], h=size[1], objects=objects))


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    """Writes a 16-bit mono WAV file; samples are in -1..1, `rate` in Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path

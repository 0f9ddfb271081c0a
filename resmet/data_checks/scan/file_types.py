"""What a file is by its first bytes, whatever its suffix says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of file: ``picture``, ``sound`` or ``video``, the suffixes it goes by, and how its first bytes look."""

    family: str
    suffixes: tuple[str, ...]
    head: bytes


KINDS = {
    "JPEG": Kind("picture", (".jpg", ".jpeg", ".jpe", ".jfif"), rb"\xff\xd8\xff"),
    "PNG": Kind("picture", (".png",), rb"\x89PNG\r\n\x1a\n"),
    "GIF": Kind("picture", (".gif",), rb"GIF8[79]a"),
    "BMP": Kind("picture", (".bmp",), rb"BM.{4}\0\0\0\0"),
    "WebP": Kind("picture", (".webp",), rb"RIFF.{4}WEBP"),
    "TIFF": Kind("picture", (".tif", ".tiff"), rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"),
    "PNM": Kind("picture", (".ppm", ".pgm", ".pbm", ".pnm"), rb"P[1-6]\s"),
    "WAV": Kind("sound", (".wav",), rb"(RIFF|RF64).{4}WAVE"),
    "FLAC": Kind("sound", (".flac",), rb"fLaC"),
    "Ogg": Kind("sound", (".ogg", ".opus", ".oga"), rb"OggS"),
    "MP3": Kind("sound", (".mp3",), rb"ID3|\xff[\xe2-\xe7\xf2-\xff]"),
    "AVI": Kind("video", (".avi",), rb"RIFF.{4}AVI "),
    "QuickTime": Kind("video", (".mov", ".qt"), rb".{4}(ftypqt  |moov|mdat|wide|free|skip|pnot)"),
    "MP4": Kind("video", (".mp4", ".m4v", ".mov"), rb".{4}ftyp"),
    "Matroska": Kind("video", (".mkv", ".webm"), rb"\x1a\x45\xdf\xa3"),
    "MPEG": Kind("video", (".mpg", ".mpeg"), rb"\0\0\x01[\xb3\xba]"),
}
NOT_MEDIA = {
    "a web page": rb"\s*<(!doctype html|html)",
    "a pointer to a Git LFS file that was not fetched": rb"version https://git-lfs",
    "a ZIP archive": rb"PK\x03\x04",
    "a gzip archive": rb"\x1f\x8b",
    "a PDF document": rb"%PDF",
}
FAMILIES = {suffix: kind.family for kind in KINDS.values() for suffix in kind.suffixes}
HEAD = 64  # bytes that tell every kind


def family(name: str) -> str:
    """``picture``, ``sound`` or ``video`` by the suffix, "" for anything else."""
    dot = name.rfind(".")
    return FAMILIES.get(name[dot:].lower(), "") if dot >= 0 else ""


def sniff(path: Path) -> str:
    """The kind of a file by its first bytes: a key of `KINDS` or `NOT_MEDIA`, ``empty``, or "" where they tell nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    if not head:
        return "empty"
    patterns = [(name, kind.head) for name, kind in KINDS.items()] + list(NOT_MEDIA.items())
    return next((name for name, pattern in patterns if re.match(pattern, head, re.DOTALL | re.IGNORECASE)), "")


def lie(path: Path) -> str:
    """What a picture, sound or video really is where its suffix says otherwise; "" where it is what it says."""
    kind = sniff(path)
    if not kind or not family(path.name):
        return ""
    if kind in KINDS and path.suffix.lower() in KINDS[kind].suffixes:
        return ""
    return kind

"""The files below a folder, and their types by suffix and by signature (the first bytes)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from datamodules.base.recognition import Tree


class FileType(NamedTuple):
    """A type of media file: ``image``, ``audio`` or ``video``, its usual suffixes, and what its first bytes match."""

    modality: str
    suffixes: tuple[str, ...]
    signature: bytes


FILE_TYPES = {
    "JPEG": FileType("image", (".jpg", ".jpeg", ".jpe", ".jfif"), rb"\xff\xd8\xff"),
    "PNG": FileType("image", (".png",), rb"\x89PNG\r\n\x1a\n"),
    "GIF": FileType("image", (".gif",), rb"GIF8[79]a"),
    "BMP": FileType("image", (".bmp",), rb"BM.{4}\0\0\0\0"),
    "WebP": FileType("image", (".webp",), rb"RIFF.{4}WEBP"),
    "TIFF": FileType("image", (".tif", ".tiff"), rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"),
    "PNM": FileType("image", (".ppm", ".pgm", ".pbm", ".pnm"), rb"P[1-6]\s"),
    "WAV": FileType("audio", (".wav",), rb"(RIFF|RF64).{4}WAVE"),
    "FLAC": FileType("audio", (".flac",), rb"fLaC"),
    "Ogg": FileType("audio", (".ogg", ".opus", ".oga"), rb"OggS"),
    "MP3": FileType("audio", (".mp3",), rb"ID3|\xff[\xe2-\xe7\xf2-\xff]"),
    "AVI": FileType("video", (".avi",), rb"RIFF.{4}AVI "),
    "QuickTime": FileType("video", (".mov", ".qt"), rb".{4}(ftypqt  |moov|mdat|wide|free|skip|pnot)"),
    "MP4": FileType("video", (".mp4", ".m4v", ".mov"), rb".{4}ftyp"),
    "Matroska": FileType("video", (".mkv", ".webm"), rb"\x1a\x45\xdf\xa3"),
    "MPEG": FileType("video", (".mpg", ".mpeg"), rb"\0\0\x01[\xb3\xba]"),
}
OTHER_TYPES = {
    "an HTML page": rb"\s*<(!doctype html|html)",
    "a Git LFS pointer whose file was not fetched": rb"version https://git-lfs",
    "a ZIP archive": rb"PK\x03\x04",
    "a gzip archive": rb"\x1f\x8b",
    "a PDF document": rb"%PDF",
}
"""What downloads leave in place of a media file."""

MODALITIES = {suffix: kind.modality for kind in FILE_TYPES.values() for suffix in kind.suffixes}
SUFFIXES = {
    modality: {suffix for suffix, other in MODALITIES.items() if other == modality} for modality in MODALITIES.values()
}
"""{modality: usual suffixes, in lower case}"""

SIGNATURE_BYTES = 64  # enough for every signature
SYSTEM_FILES = {"__MACOSX", "Thumbs.db", "desktop.ini"}
"""What operating systems leave in folders."""


def read_tree(root: Path, exclude: Collection[Path] = ()) -> Tree:
    """Returns all files below `root` but hidden ones, `SYSTEM_FILES` and those in `exclude`.

    Links to folders are followed, each folder once.
    """
    excluded = {str(path.absolute()) for path in exclude}
    files: list[str] = []
    visited: set[tuple[int, int]] = set()
    folders = [(str(root.absolute()), "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in scan_folder(folder, visited):
            if entry.name.startswith(".") or entry.name in SYSTEM_FILES or entry.path in excluded:
                continue
            if entry.is_dir():
                folders.append((entry.path, f"{prefix}{entry.name}/"))
            elif entry.is_file():
                files.append(prefix + entry.name)
    return tuple(sorted(files))


def scan_folder(folder: str, visited: set[tuple[int, int]]) -> Iterable[os.DirEntry[str]]:
    """Returns the entries of a folder and adds it to `visited`; none if it was visited before or may not be read."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            return []
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def modality_of(name: str) -> str:
    """Returns ``image``, ``audio`` or ``video`` by the suffix of a file name; empty for anything else."""
    dot = name.rfind(".")
    return MODALITIES.get(name[dot:].lower(), "") if dot >= 0 else ""


def sniff(path: Path) -> str:
    """Returns a file's type by its first bytes: a key of `FILE_TYPES` or `OTHER_TYPES`, ``empty``, or "" if unknown."""
    try:
        with path.open("rb") as file:
            head = file.read(SIGNATURE_BYTES)
    except OSError:
        return ""
    if not head:
        return "empty"
    signatures = [(name, kind.signature) for name, kind in FILE_TYPES.items()] + list(OTHER_TYPES.items())
    return next((name for name, pattern in signatures if re.match(pattern, head, re.DOTALL | re.IGNORECASE)), "")


def mismatch(path: Path) -> str:
    """Returns the true type of a media file if it contradicts the suffix, else ""."""
    kind = sniff(path)
    if not kind or not modality_of(path.name):
        return ""
    if kind in FILE_TYPES and path.suffix.lower() in FILE_TYPES[kind].suffixes:
        return ""
    return kind

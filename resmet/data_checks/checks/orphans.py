"""Checks of files that belong together: annotations without an image, tags that refer to nothing, unused media files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from datamodules.formats.mask_folder import MASKS
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding, found
from resmet.data_checks.scan.files import modality_of

TAGS = ("filename", "folder", "path")
"""XML tags of Pascal VOC that refer to the image."""

MIN_PAIRED = 0.5  # fraction of a folder's annotation files that have an image, from which all of them should


def check(context: CheckContext) -> Iterator[Finding]:
    """Finds annotations without an image, XML tags that refer to nothing, and media files that belong to no item."""
    if context.kind and context.kind.has_boxes:
        yield from unresolved_tags(context)
        yield from unpaired_annotations(context)
    yield from unused_files(context)


def unresolved_tags(context: CheckContext) -> Iterator[Finding]:
    """Finds XML tags that name a file or folder that does not exist; the reader goes by the name of the XML file."""
    unresolved: dict[str, list[str]] = {tag: [] for tag in TAGS}
    names = {PurePosixPath(name).name for name in context.tree}
    for name in context.tree:
        if not name.endswith(".xml"):
            continue
        text = (context.root / name).read_text(errors="replace")
        base = (context.root / name).parent.parent
        for tag in TAGS:
            match = re.search(rf"<{tag}>(.*?)</{tag}>", text)
            if match and not tag_refers_to_a_file(base, names, tag, match[1].strip()):
                unresolved[tag].append(f"{name} ({match[1].strip()})")
    for tag, where in unresolved.items():
        what = f"whose tag {tag} refers to nothing; it is not used"
        yield from found("orphans.unresolved_tag", "note", where, "XML file", what)


def tag_refers_to_a_file(base: Path, names: set[str], tag: str, value: str) -> bool:
    """Whether a tag's value exists, below the folder `base` or among the `names` of all files."""
    if tag == "path":
        return (base / value).is_file()
    if tag == "folder":
        return (base / value).is_dir() or base.name == value
    return value in names


def unpaired_annotations(context: CheckContext) -> Iterator[Finding]:
    """Finds text files without an image in a folder of one annotation file per image."""
    images = {PurePosixPath(name).stem for name in context.tree if modality_of(name) == "image"}
    folders: dict[PurePosixPath, list[PurePosixPath]] = {}
    for path in map(PurePosixPath, context.tree):
        if path.suffix == ".txt":
            folders.setdefault(path.parent, []).append(path)
    unpaired = {folder: [path for path in paths if path.stem not in images] for folder, paths in folders.items()}
    few = (paths for folder, paths in unpaired.items() if len(paths) < MIN_PAIRED * len(folders[folder]))
    where, remedy = (str(path) for paths in few for path in paths), "add the images or remove the files"
    yield from found(
        "orphans.annotation_without_image", "warning", where, "annotation file", "without an image", remedy
    )


def unused_files(context: CheckContext) -> Iterator[Finding]:
    """Finds media files that belong to no item."""
    if not context.data:
        return
    data, items = context.data, [item for split in context.splits.values() for item in split]
    used = {context.relative(str(path)) for item in items for path in data.files(item)}
    media = [name for name in context.tree if modality_of(name) == context.modality]
    reported = " ".join(data.skipped)
    where = tuple(
        name
        for name in media
        if name not in used
        and PurePosixPath(name).parent.name.lower() not in MASKS  # masks of another format
        and PurePosixPath(name).stem not in reported  # left out because of a fault
    )
    if len(where) < len(media):
        yield from found("orphans.unused_file", "note", where, f"{context.modality} file", "belonging to no item")

"""The description of a set of shards: the one file that is read before training starts."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from foundation.storage.safe_load import printable
from foundation.structures import InputError, Spec, first_line
from foundation.targets.kinds import TARGETS

FILE = "manifest.json"
FORMAT = "resmet-shards-2"
OLD_FORMAT = re.compile(rb'\s*{\s*"format":\s*"resmet-shards-1"')
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}\.tar")
"""No folder, no drive, no scheme: a shard is in the folder of its manifest."""

MAX_INTEGER = 1 << 40
"""Largest plausible number of bytes of a shard, and of items of a set."""


@dataclass(frozen=True)
class Shard:
    """One tar file of a set: its name in the folder of the manifest, its items and bytes, and its checksum of 64 hexadecimal digits."""

    name: str
    items: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(f"shard name {str(self.name)[:80]!r} must be a .tar of letters, digits, - and _")
        if not all(type(number) is int and 0 < number <= MAX_INTEGER for number in (self.items, self.bytes)):
            raise ValueError(f"items and bytes of {self.name} must be integers from 1 to {MAX_INTEGER}")
        if self.items * 1024 > self.bytes:
            raise ValueError(f"{self.name} can't hold {self.items} items in {self.bytes} bytes")
        if not isinstance(self.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 of {self.name} must be 64 hexadecimal digits")


@dataclass(frozen=True)
class Manifest:
    """A set of shards: the Spec and the notes of the packed data, and the shards of every split, in order."""

    spec: Spec
    splits: dict[str, list[Shard]]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        splits = {
            split: {"items": sum(shard.items for shard in shards), "shards": [asdict(shard) for shard in shards]}
            for split, shards in self.splits.items()
        }
        values = {"format": FORMAT, "spec": self.spec.to_dict(), "notes": self.notes, "splits": splits}
        return json.dumps(values, indent=1)


def read_manifest(content: bytes, where: str) -> Manifest:
    """Parses and checks a manifest.

    Raises:
        InputError: If it is not a manifest, or a value in it is impossible; the message names `where`.
    """
    remedy = "pack the data with pack.py"
    if OLD_FORMAT.match(content):
        raise InputError("shards.old_version", f"{where} is of an older version of Resmet: {remedy} again")
    try:
        values = json.loads(content)
        if values["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        splits = {split: read_split(split, entry) for split, entry in values["splits"].items()}
        names = [shard.name for shards in splits.values() for shard in shards]
        if len(set(names)) < len(names):
            raise ValueError("it names a shard twice")
        notes = [printable(str(note)[:1000]).replace("\n", " ") for note in values.get("notes", [])[:100]]
        return Manifest(read_spec(values["spec"]), splits, notes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = f"{where} is not a manifest of shards ({type(error).__name__}: {first_line(error)}): {remedy}"
        raise InputError("shards.invalid_manifest", text) from error


def read_split(split: str, entry: dict[str, Any]) -> list[Shard]:
    if split not in ("train", "val", "test"):
        raise ValueError(f"split {split[:80]!r} must be train, val or test")
    shards = [Shard(each["name"], each["items"], each["bytes"], each["sha256"]) for each in entry["shards"]]
    if sum(shard.items for shard in shards) != entry["items"]:
        raise ValueError(f"the shards of {split} hold {sum(s.items for s in shards)} items, not {entry['items']}")
    return shards


def read_spec(values: dict[str, Any]) -> Spec:
    """Returns the Spec, with every field checked for its type."""
    spec = Spec.from_dict(values)
    integers = [spec.ndim, spec.channels, spec.sample_rate, spec.objects_per_image, *spec.size, *spec.counts]
    if not all(isinstance(n, int) and 0 <= n <= MAX_INTEGER for n in integers) or spec.ndim not in (1, 2, 3):
        raise ValueError("ndim, channels, sample_rate, objects_per_image, size and counts of the spec must be integers")
    if not all(isinstance(x, (int, float)) for x in (*spec.mean, *spec.std, *spec.window, *spec.box_side_quantiles)):
        raise ValueError("mean, std, window and box_side_quantiles of the spec must be numbers")
    if spec.target not in TARGETS or not spec.class_names or not all(isinstance(n, str) for n in spec.class_names):
        raise ValueError(f"the spec needs class_names and a target out of {', '.join(TARGETS)}")
    return spec

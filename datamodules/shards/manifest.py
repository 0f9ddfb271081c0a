"""What a set of shards holds: the one file that is read before training starts."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from foundation.structures import InputError, Spec
from foundation.targets.kinds import TARGETS

FILE = "manifest.json"
FORMAT = "resmet-shards-1"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}\.tar")
"""No folder, no drive, no scheme: a shard lies beside its manifest, or nowhere."""

LARGEST = 1 << 40
"""Bytes of a shard, and items of a set, above which a manifest is not believed."""


@dataclass(frozen=True)
class Shard:
    """Attributes:
    name: Its file, beside the manifest.
    items: How many it holds.
    bytes: Its size.
    sha256: Its checksum, 64 hexadecimal digits.
    """

    name: str
    items: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise InputError(
                f"it names the shard {self.name!r}: a shard is a file beside the manifest, letters, digits, - and _ with .tar"
            )
        for key in ("items", "bytes"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST:
                raise InputError(f"{key} of {self.name} is {value!r}: a whole number from 1 to {LARGEST} is expected")
        if self.items * 1024 > self.bytes:
            raise InputError(f"{self.name} can't hold {self.items} items in {self.bytes} bytes")
        if not isinstance(self.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError(f"sha256 of {self.name} is {str(self.sha256)[:80]!r}: 64 hexadecimal digits are expected")


@dataclass(frozen=True)
class Manifest:
    """Attributes:
    spec: What the packed data says of itself.
    splits: The shards of every split, in order.
    notes: What was said when it was packed.
    """

    spec: Spec
    splits: dict[str, list[Shard]]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        splits = {
            split: {"items": sum(shard.items for shard in shards), "shards": [asdict(shard) for shard in shards]}
            for split, shards in self.splits.items()
        }
        return json.dumps(
            {"format": FORMAT, "spec": self.spec.to_dict(), "notes": self.notes, "splits": splits}, indent=1
        )


def read_manifest(content: bytes, where: str) -> Manifest:
    """Parse and check a manifest.

    Raises:
        InputError: If it is none, or anything in it can't be right; the message names `where`.
    """
    try:
        found = json.loads(content)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"its format is not {FORMAT}")
        splits = {str(split): shards_of(split, entry) for split, entry in found["splits"].items()}
        names = [shard.name for shards in splits.values() for shard in shards]
        if len(set(names)) < len(names):
            raise InputError("it names a shard twice")
        notes = ["".join(filter(str.isprintable, str(note)[:1000])) for note in found.get("notes", [])[:100]]
        return Manifest(read_spec(found["spec"]), splits, notes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {str(error)[:100]}"
        raise InputError(f"{where} is no manifest of shards ({said}): pack the data with pack.py") from error


def shards_of(split: str, entry: dict[str, Any]) -> list[Shard]:
    if split not in ("train", "val", "test"):
        raise InputError(f"it has a split {split!r}: train, val and test are known")
    shards = [Shard(each["name"], each["items"], each["bytes"], each["sha256"]) for each in entry["shards"]]
    if sum(shard.items for shard in shards) != entry["items"]:
        raise InputError(
            f"its shards of {split} hold {sum(s.items for s in shards)} items, {entry['items']} are promised"
        )
    return shards


def read_spec(values: dict[str, Any]) -> Spec:
    """The Spec, every field of its type."""
    spec = Spec.from_dict(values)
    numbers = [spec.ndim, spec.channels, spec.sample_rate, spec.objects_per_image, *spec.size, *spec.counts]
    if not all(isinstance(n, int) and 0 <= n <= LARGEST for n in numbers) or spec.ndim not in (1, 2, 3):
        raise InputError(
            "ndim, channels, sample_rate, objects_per_image, size or counts of its spec are no such whole numbers"
        )
    if not all(isinstance(x, (int, float)) for x in (*spec.mean, *spec.std, *spec.window, *spec.box_side_quantiles)):
        raise InputError("mean, std, window or sides of its spec are no numbers")
    if spec.target not in TARGETS or not spec.class_names or not all(isinstance(n, str) for n in spec.class_names):
        raise InputError(f"its spec needs class_names and a target out of {', '.join(TARGETS)}")
    return spec

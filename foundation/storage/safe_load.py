"""Reads untrusted files: plain values and tensors only, within limits. Also makes their text safe to print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foundation.structures import InputError, first_line

MAX_YAML_DEPTH = 64
"""Levels of nesting in a YAML file; PyYAML's time grows with each, and reaches minutes for a few thousand."""

MAX_YAML_BYTES = 8 << 20
"""Bytes of a YAML file above which it is refused; 10,000 class names take less than one megabyte."""


def read_yaml(path: Path) -> Any:
    """Returns the plain values in a YAML file. Anchors are refused: a few lines of them can expand to more than any memory holds.

    Raises:
        InputError: If it can't be read, is too large, or holds anything but plain values.
    """
    import yaml  # slow to import, and not needed for JSON

    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ValueError(f"it is larger than {MAX_YAML_BYTES >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it repeats a part by an alias, *name: write the part out")
            if depth > MAX_YAML_DEPTH:
                raise ValueError(f"it is nested more than {MAX_YAML_DEPTH} levels deep")
        return yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        text = f"{path} can't be read as YAML ({first_line(error)}): correct it"
        raise InputError("data.unreadable_yaml", text) from error


def read_json(path: Path) -> Any:
    """Returns the plain values in a JSON file.

    Raises:
        InputError: If it can't be read, is nested too deeply, or has a number with too many digits.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        text = f"{path} can't be read as JSON ({first_line(error)}): correct it"
        raise InputError("data.unreadable_json", text) from error


def safe_load(path: Path, mapped: bool = False) -> Any:
    """Returns the plain values and tensors in a file of torch or safetensors. No code in it is run. With `mapped`, tensors are memory-mapped.

    Raises:
        InputError: If it can't be read. The message is the reason, without the path.
    """
    import pickle
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that torch did not write
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                return load_file(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except Exception as error:  # zipfile and torch raise a dozen types; all mean that the file can't be read
        reason = "it is truncated, or not a checkpoint"
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds objects rather than plain values, or is not a checkpoint"
        elif isinstance(error, PermissionError):
            reason = f"{error.strerror}: grant this user read access"
        raise InputError("checkpoint.unreadable", reason) from error


def refuse_references(node: Any, where: str) -> None:
    """Refuses text that would be resolved when a config is used, such as ``${oc.env:HOME}``: the config of a run holds none.

    Raises:
        InputError: If there is such text; the message quotes it.
    """
    if isinstance(node, str) and "${" in node:
        text = f"{where} holds {node[:80]!r}, which would be resolved on this machine: write the value out"
        raise InputError("config.reference", text)
    children = [*node, *node.values()] if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()
    for child in children:
        refuse_references(child, where)


def printable(text: str) -> str:
    r"""Returns `text` with control characters, and characters that no encoding has, as ``\x1b``; new lines, tabs and spaces stay."""
    return "".join(
        c if c.isprintable() or c in "\n\t" or (c.isspace() and ord(c) > 0x9F) else ascii(c)[1:-1] for c in text
    )

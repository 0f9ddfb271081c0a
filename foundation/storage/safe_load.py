"""Files that somebody else may have written: read as plain values, within limits, and said without harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foundation.structures import InputError, first_line

DEEPEST_YAML = 64
"""Levels of a YAML file within each other; the parser takes ever longer for each, and minutes for a few thousand."""

LARGEST_YAML = 8 << 20
"""Bytes of a YAML file above which it is not read; 10,000 class names take less than one of them."""


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file. Anchors are refused: a few lines of them stand for more than any memory holds.

    Raises:
        InputError: If it can't be read, is too large, or holds anything but plain values.
    """
    import yaml  # the doctor's remembered answer needs the standard library alone

    try:
        if path.stat().st_size > LARGEST_YAML:
            raise InputError(f"{path} can't be read as YAML (more than {LARGEST_YAML >> 20} MB): mend it")
        text = path.read_text()
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise InputError(f"{path} can't be read as YAML (it repeats a part by *name): write the part out")
            if depth > DEEPEST_YAML:
                raise InputError(f"{path} can't be read as YAML (it is nested without end): mend it")
        return yaml.safe_load(text)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} can't be read as YAML ({first_line(error)}): mend it") from error


def read_json(path: Path) -> Any:
    """The plain values in a JSON file.

    Raises:
        InputError: If it can't be read, is nested too deep, or has a number that nothing holds.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON ({first_line(error)}): mend it") from error


def safe_load(path: Path, mapped: bool = False) -> Any:
    """The plain values and tensors in a file that torch or safetensors wrote; nothing in it is run.

    Args:
        path: A checkpoint, or weights.
        mapped: Leave tensors on disk until they are looked at.

    Raises:
        InputError: Saying why it can't be read, without its name.
    """
    import pickle
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that torch did not write
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                return load_file(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except pickle.UnpicklingError as error:
        raise InputError("it holds objects rather than plain values, or something else altogether") from error
    except PermissionError as error:
        raise InputError(f"{error.strerror}: let this user read it") from error
    except Exception as error:  # zipfile and torch raise a dozen kinds; all mean that this can't be read
        raise InputError("it is cut short, or something else altogether") from error


def refuse_references(node: Any, where: str) -> None:
    """Refuse what would be looked up when a config is used, such as ``${oc.env:HOME}``: what a run leaves has none.

    Raises:
        InputError: Naming the text.
    """
    if isinstance(node, str) and "${" in node:
        raise InputError(f"{where} holds {node[:80]!r}, which would be looked up on this machine: write the value out")
    for value in [*node, *node.values()] if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
        refuse_references(value, where)


def printable(text: str) -> str:
    """`text` with every sign that steers a terminal, or that no encoding has, spelled out; new lines and tabs stay."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else spelled(sign) for sign in text)


def spelled(sign: str) -> str:
    r"""A sign as Python writes it, ``\x1b``."""
    return sign if sign.isspace() and ord(sign) > 0x9F else ascii(sign)[1:-1]

"""The files of conf/, read as plain YAML: groups, their choices, and every key that a command knows. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


@cache
def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


def choices(group: str) -> list[str]:
    """Returns the names that ``group=`` accepts. Files that begin with ``_`` hold what several choices share."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml") if not file.stem.startswith("_"))


def defaults(name: str) -> list[dict[str, Any]]:
    """Returns the groups that ``conf/<name>.yaml`` chooses from, each with its choice."""
    entries = (entry for entry in load(CONF / f"{name}.yaml").get("defaults", []) if isinstance(entry, dict))
    return [entry for entry in entries if not next(iter(entry)).startswith("override")]


def groups(name: str) -> set[str]:
    """Returns the groups of ``conf/<name>.yaml`` whose choice becomes a node of that name."""
    return {next(iter(entry)) for entry in defaults(name)} - {"experiment"}


@cache
def known_keys(name: str) -> frozenset[str]:
    """Returns every key and group of ``conf/<name>.yaml`` and of all files of its groups, dotted as on the command line."""
    keys = set(flatten(load(CONF / f"{name}.yaml"))) | groups(name)
    for group in groups(name):
        for file in (CONF / group).rglob("*.yaml"):
            package = ".".join(file.relative_to(CONF).parent.parts)
            keys |= {f"{package}.{key}" for key in keys_of(file)}
    return frozenset(keys - {"defaults"})


@cache
def merged(file: Path) -> dict[str, Any]:
    """Returns a file of a group, merged with those that its defaults list includes, as Hydra does."""
    content: dict[str, Any] = {}
    values = {key: value for key, value in load(file).items() if key != "defaults"}
    entries = load(file).get("defaults", [])
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        name, node = included(entry)
        path = CONF / f"{name[1:]}.yaml" if name.startswith("/") else file.parent / f"{name}.yaml"
        other = values if entry == "_self_" else merged(path) if path.is_file() else {}
        for section in reversed(node.split(".") if node else []):
            other = {section: other}
        content = merge(content, other)
    return content


def included(entry: Any) -> tuple[str, str]:
    """Returns the file of a defaults list's entry and the node that it becomes, "" for the including file's own.

    Of Hydra's forms, those that conf/ uses: ``name``, ``name@node``, ``group@node: name`` and ``group: name``.
    """
    if not isinstance(entry, dict):
        name, _, node = str(entry).partition("@")
        return name, node
    group, choice = next(iter(entry.items()))
    group, _, node = group.partition("@")
    return f"{group}/{choice}", node or group


def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Returns both mappings merged at every depth; values of `second` win."""
    both = {
        k: merge(first[k], v) if isinstance(v, dict) and isinstance(first.get(k), dict) else v
        for k, v in second.items()
    }
    return first | both


@cache
def keys_of(file: Path) -> frozenset[str]:
    """Returns the dotted keys of a file of a group, with those that it includes."""
    return frozenset(flatten(merged(file)))


def choices_with(key: str) -> list[str]:
    """Returns the choices, as ``group=choice``, that have the dotted `key`; those of the innermost group."""
    sections = key.split(".")
    for end in range(len(sections) - 1, 0, -1):
        group, rest = "/".join(sections[:end]), ".".join(sections[end:])
        if having := [f"{group}={name}" for name in choices(group) if rest in keys_of(CONF / group / f"{name}.yaml")]:
            return having
    return []


def flatten(node: dict[str, Any]) -> Iterator[str]:
    """Yields the dotted keys of a node and of all nodes below it."""
    for key, value in node.items():
        if key in HYDRA_KEYS or key in ("defaults", "hydra"):
            continue
        yield str(key)
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in flatten(value))


def suggest(word: str, options: Iterable[str]) -> str:
    """Returns a sentence that names the nearest of `options`, or all of a few, to be put after a message about `word`.

    An option whose last section is the same (``lr`` and ``recipe.optimizer.lr``) comes first.
    """
    ordered = sorted(set(options) - {word})
    ends = {option: option.rsplit(".", 1)[-1] for option in ordered}
    last = word.rsplit(".", 1)[-1]
    same = [option for option in ordered if ends[option] == last]
    cutoff = 0.8 if "." in word else 0.5  # dotted keys of one section are similar anyway
    close = get_close_matches(word, ordered, 3, cutoff)
    similar = set(get_close_matches(last, set(ends.values()), 3, 0.7))
    nearest = list(dict.fromkeys([*same, *close, *(option for option in ordered if ends[option] in similar)]))
    if nearest:
        return f" Nearest: {', '.join(nearest[:5])}"
    return f" Allowed: {', '.join(ordered)}" if 0 < len(ordered) <= 20 else ""

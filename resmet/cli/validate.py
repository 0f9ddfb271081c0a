"""Is a config whole and right? Answered from source text alone, in milliseconds, before torch is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from typing import Any

from foundation.structures import InputError
from resmet.cli.schema import (
    CONF,
    HYDRA,
    foreign,
    inside,
    is_part,
    judge,
    kind,
    like,
    load,
    parse,
    readable,
    shown,
    signature,
    wants_part,
)
from resmet.renamed import new_name

SUPPLIED = {"self", "backbone", "spec", "run_dir", "unused", "callbacks", "logger", "ndim", "in_channels"}
"""Parameters that are handed over in Python; no config has them."""

SUPPLIED_TO_HEADS = {"channels", "num_classes", "objects_per_image", "box_side_quantiles"}


def check(config: dict[str, Any], name: str) -> None:
    """Compare a composed config with the keys of ``conf/<name>.yaml`` and the constructors that it names.

    Args:
        config: Plain values, interpolations resolved; what is still missing reads ``???``.
        name: ``train``, ``evaluate`` or ``predict``.

    Raises:
        InputError: For the first key that nothing takes, value of another type, or required value that was not given.
    """
    top = set(load(CONF / f"{name}.yaml")) | groups(name)
    refuse_unknown(set(config), top - {"defaults"}, "")
    optional = {"callbacks", "logger"} | {next(iter(e)) for e in defaults(name) if None in e.values()}
    for group in sorted(groups(name) - set(config) - optional):
        raise InputError(f"{group} is missing: say {group}=..., one of {', '.join(choices(group))}")
    for key, default in load(CONF / f"{name}.yaml").items():
        if key in config and key not in ("defaults", "hydra") and config[key] != "???":
            wanted = "str" if default == "???" else "str | None" if default is None else kind(default)
            check_value(config[key], parse(wanted), key)
    for group in sorted(groups(name) & set(config)):
        check_group(config[group], group, optional=group in optional)
    for key in sorted(config, key=lambda key: isinstance(config[key], dict)):
        check_node(config[key], key)


def check_group(node: Any, group: str, optional: bool) -> None:
    """That what was chosen from a group can be built."""
    if is_part(node) and group == "logger":
        require_package(str(node["_target_"]))
    if is_part(node) or (optional and not node):
        return
    if not isinstance(node, dict) or group not in ("callbacks", "logger"):
        raise InputError(
            f"{group}={shown(node)} names nothing that can be built: say {group}=..., one of {', '.join(choices(group))}"
        )
    for key, value in node.items():
        path = f"{group}.{key}"
        if value is None or (is_part(value) and group == "callbacks"):
            continue
        if having := owners(path) if group == "logger" else []:
            raise InputError(f"{path} can't be set here: what is chosen does not have it; choose {' or '.join(having)}")
        if path in known_keys("train"):
            raise InputError(
                f"{path}={shown(value)} names nothing that can be built: {instead(value, path)}, or null to leave it out"
            )
        known = sorted(key for key in known_keys("train") if key.count(".") == 1 and key.startswith(f"{group}."))
        raise InputError(f"{path} is no part that can be built: it has no _target_.{near(path, known)}")


def require_package(target: str) -> None:
    """Refuse a logger of ours whose package is not installed; the functions are called like the packages."""
    module, _, name = target.rpartition(".")
    if module == "resmet.engine.loggers" and not find_spec(name):
        raise InputError(
            f"logger={name} needs its package: pip install -c constraints.txt -e '.[{name}]', or choose logger=csv"
        )


def choices(group: str) -> list[str]:
    """The files of a group."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def check_node(node: Any, path: str) -> None:
    if node == "???":
        raise InputError(f"{path} is required: say {path}=...")
    if isinstance(node, list):
        for i, value in enumerate(node):
            check_node(value, f"{path}[{i}]")
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        check_target(node, path)
    for key, value in node.items():
        if key not in HYDRA:
            check_node(value, f"{path}.{key}")


def check_target(node: dict[str, Any], path: str) -> None:
    """Keys and values of a node against the constructor that it names."""
    own = signature(str(node["_target_"]))
    defaults = None if own is not None else foreign(str(node["_target_"]))
    if own is None and defaults is None:
        return  # assembly judges what may be built
    keys = configurable(str(node["_target_"]), own) if own is not None else set(defaults or {})
    refuse_unknown(set(node) - HYDRA, keys, path)
    for key, value in node.items():
        wanted = own[key] if own is not None and key in own else like((defaults or {}).get(key))
        if key not in HYDRA and value != "???" and wanted is not None:
            check_value(value, parse(wanted), f"{path}.{key}", str(node["_target_"]))


def check_value(value: Any, wanted: ast.expr, path: str, home: str = "") -> None:
    """A value against the annotation that it is for; the values of a mapping one by one. `home` takes it, by its ``_target_``."""
    if judge(value, wanted):
        return
    each = inside(wanted)
    if each is not None and isinstance(value, dict) and not is_part(value):
        for key, inner in value.items():
            if inner != "???":
                check_value(inner, each, f"{path}.{key}", home)
    if wants_part(wanted):
        raise InputError(f"{path}={shown(value)} names nothing that can be built: {instead(value, path, home)}")
    if is_part(value):
        raise InputError(f"{path} must be {readable(wanted)}, not a part that is built")
    quoted = isinstance(value, int | float) and judge(str(value), wanted)
    more = f": as text it is {path}=\"'{value}'\"" if quoted and not isinstance(value, bool) else ""
    raise InputError(f"{path}={shown(value)} must be {readable(wanted)}{more}")


def instead(value: Any, path: str, home: str = "") -> str:
    """How the part at `path`, which the class `home` takes, is chosen or changed."""
    group = CONF.joinpath(*path.split("."))
    first, _, rest = path.partition(".")
    if group.is_dir():
        options = sorted(file.stem for file in group.glob("*.yaml"))
        chosen = [value] if value in options else options
        return "say " + " or ".join(f"{'/'.join(path.split('.'))}={option}" for option in chosen)
    if rest.startswith(("parts.", "tasks.")):
        return f"say {first}@{path}=..., one of {', '.join(choices(first))}"
    own = [load(file) for file in sorted((CONF / first).glob("*.yaml"))]
    own = [content for content in own if content.get("_target_", "") == home]
    keys = list(dict.fromkeys(f"{first}.{key}" for content in own for key in flatten(content)))
    keys = [key for key in keys if key.startswith(f"{path}.")]
    return f"set its keys, {', '.join(keys)}" if keys else "leave it as it is"


def configurable(target: str, own: Iterable[str]) -> set[str]:
    """The parameters of `target` that stand in a config."""
    return set(own) - SUPPLIED - (SUPPLIED_TO_HEADS if target.startswith("heads.") else set())


def refuse_unknown(given: set[str], known: set[str], path: str) -> None:
    for key in sorted(given - known):
        full = f"{path}.{key}" if path else key
        options = [f"{path}.{other}" if path else other for other in known]
        raise unknown_key(full, options)


def unknown_key(key: str, known: Iterable[str]) -> InputError:
    """The error for a key that nothing takes, with its present name if it was renamed, else with the nearest of `known`."""
    if new := new_name(key):
        return InputError("config.renamed_key", f"{key} is now {new}")
    return InputError("config.unknown_key", f"there is no key {key}.{near(key, known)}")


def near(word: str, options: Iterable[str]) -> str:
    """A sentence that names the closest of `options`, or all of a few. A key of that very name elsewhere comes first."""
    ordered = sorted(set(options) - {word})
    ends = {option: option.rsplit(".", 1)[-1] for option in ordered}
    last = word.rsplit(".", 1)[-1]
    same = [option for option in ordered if ends[option] == last]
    close = get_close_matches(
        word, ordered, 3, 0.8 if "." in word else 0.5
    )  # what stands before the dot is alike anyway
    alike = set(get_close_matches(last, set(ends.values()), 3, 0.7))
    found = list(dict.fromkeys([*same, *close, *(option for option in ordered if ends[option] in alike)]))
    if found:
        return f" Nearest: {', '.join(found[:5])}"
    return f" Allowed: {', '.join(ordered)}" if 0 < len(ordered) <= 20 else ""


def defaults(name: str) -> list[dict[str, Any]]:
    """The groups that a config chooses from, each with its choice."""
    entries = (entry for entry in load(CONF / f"{name}.yaml").get("defaults", []) if isinstance(entry, dict))
    return [entry for entry in entries if not next(iter(entry)).startswith("override")]


def groups(name: str) -> set[str]:
    """The groups in a config's defaults list that leave a key."""
    return {next(iter(entry)) for entry in defaults(name)} - {"experiment"}


@cache
def known_keys(name: str) -> frozenset[str]:
    """Every key, and every group, that ``conf/<name>.yaml`` or some file of its groups has, dotted as on the command line."""
    keys = set(flatten(load(CONF / f"{name}.yaml"))) | groups(name)
    for group in groups(name):
        for file in (CONF / group).rglob("*.yaml"):
            package = ".".join(file.relative_to(CONF).parent.parts)
            keys |= {f"{package}.{key}" for key in flatten(load(file))}
    return frozenset(keys - {"defaults"})


def owners(key: str) -> list[str]:
    """The choices, as ``group=choice``, that have the dotted `key`."""
    group, _, rest = key.partition(".")
    return [
        f"{group}={file.stem}" for file in sorted((CONF / group).glob("*.yaml")) if rest in set(flatten(load(file)))
    ]


def flatten(node: dict[str, Any]) -> Iterator[str]:
    for key, value in node.items():
        if key in HYDRA or key in ("defaults", "hydra"):
            continue
        yield str(key)
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in flatten(value))

"""Checks a composed config against constructors, from their source text alone: in milliseconds, before torch is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from foundation.structures import InputError
from resmet.cli.conf_files import (
    CONF,
    HYDRA_KEYS,
    choices,
    choices_with,
    defaults,
    flatten,
    groups,
    known_keys,
    load,
    merged,
    suggest,
)
from resmet.cli.schema import (
    annotation_of,
    as_yaml,
    describe,
    expects_object,
    is_object,
    mapping_values,
    matches,
    parse,
    signature,
    third_party_defaults,
)
from resmet.renamed import new_name

SUPPLIED = {"self", "backbone", "spec", "run_dir", "ndim", "in_channels"}
"""Parameters that Python code passes; no config has them."""

SUPPLIED_TO_HEADS = {"channels", "num_classes", "objects_per_image", "box_side_quantiles"}


def check(config: dict[str, Any], name: str) -> None:
    """Checks a composed config against ``conf/<name>.yaml`` and the constructors that it names.

    The config is plain values, interpolations resolved; a value that is still missing reads ``???``.

    Raises:
        InputError: For the first unknown key, value of another type, or required value that is missing.
    """
    top = load(CONF / f"{name}.yaml")
    refuse_unknown(set(config), (set(top) | groups(name)) - {"defaults", "hydra"}, "")
    optional = {"callbacks", "logger"} | {next(iter(entry)) for entry in defaults(name) if None in entry.values()}
    for group in sorted(groups(name) - set(config) - optional):
        raise InputError("config.missing_group", f"{group} is missing: choose {group}=..., {one_of(choices(group))}")
    for key, default in top.items():
        if key in config and key not in ("defaults", "hydra") and config[key] != "???":
            check_value(config[key], parse(top_annotation(default)), key)
    for group in sorted(groups(name) & set(config)):
        check_group(config[group], group, optional=group in optional)
    for key in sorted(config, key=lambda key: isinstance(config[key], dict)):
        check_node(config[key], key)


def top_annotation(default: Any) -> str:
    """Returns the type of a key at the top of a config, by its default."""
    if default is None:
        return "str | None"
    return "str" if default == "???" else annotation_of(default, whole_numbers=True) or "Any"


def one_of(options: Iterable[str]) -> str:
    return f"one of {', '.join(options)}"


def check_group(node: Any, group: str, optional: bool) -> None:
    """Checks that what was chosen from a group can be instantiated."""
    if is_object(node) and group == "logger":
        require_package(str(node["_target_"]))
    if is_object(node) or (optional and not node):
        return
    if not isinstance(node, dict) or group not in ("callbacks", "logger"):
        raise not_an_object(group, node, f"choose {group}=..., {one_of(choices(group))}")
    for key, value in node.items():
        path = f"{group}.{key}"
        if value is None or (is_object(value) and group == "callbacks"):
            continue
        if group == "logger" and choices_with(path):
            raise key_of_another_choice(path)
        if path in known_keys("train"):
            raise not_an_object(path, value, f"{how_to_set(value, path)}, or null to leave it out")
        known = [key for key in known_keys("train") if key.count(".") == 1 and key.startswith(f"{group}.")]
        if new_name(path):
            raise unknown_key(path, known)
        raise InputError("config.not_an_object", f"{path} has no _target_.{suggest(path, known)}")


def not_an_object(path: str, value: Any, remedy: str) -> InputError:
    return InputError("config.not_an_object", f"{path}={as_yaml(value)} is not a mapping with _target_: {remedy}")


def key_of_another_choice(key: str) -> InputError:
    """The error for a key that exists, but not in what is chosen."""
    remedy = f": choose {' or '.join(choices_with(key))}" if choices_with(key) else ""
    return InputError("config.key_of_another_choice", f"{key} is not a key of what is chosen here{remedy}")


def require_package(target: str) -> None:
    """Refuses a logger of ours whose package is not installed; the functions have the packages' names."""
    module, _, name = target.rpartition(".")
    if module == "resmet.engine.loggers" and not find_spec(name):
        install = f"pip install -c constraints.txt -e '.[{name}]'"
        raise InputError("config.missing_package", f"logger={name} needs its package: {install}, or choose logger=csv")


def check_node(node: Any, path: str) -> None:
    """Checks a node of a config and all nodes below it.

    Raises:
        InputError: As for `check`.
    """
    if node == "???":
        raise InputError("config.missing_value", f"{path} is required: set {path}=...")
    if isinstance(node, list):
        for i, value in enumerate(node):
            check_node(value, f"{path}[{i}]")
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        check_object(node, path)
    for key, value in node.items():
        if key not in HYDRA_KEYS:
            check_node(value, f"{path}.{key}")


def check_object(node: dict[str, Any], path: str) -> None:
    """Checks keys and values of a node against the constructor that it names."""
    target = str(node["_target_"])
    parameters = signature(target)
    known = third_party_defaults(target) if parameters is None else None
    if parameters is None and known is None:
        return  # resmet.assembly decides whether it may be instantiated
    refuse_unknown(
        set(node) - HYDRA_KEYS, set(known or {}) if parameters is None else configurable(target, parameters), path
    )
    for key, value in node.items():
        wanted = (
            parameters[key] if parameters is not None and key in parameters else annotation_of((known or {}).get(key))
        )
        if key not in HYDRA_KEYS and value != "???" and wanted is not None:
            check_value(value, parse(wanted), f"{path}.{key}", target)


def check_value(value: Any, wanted: ast.expr, path: str, owner: str = "") -> None:
    """Checks a plain value at the dotted key `path` against an annotation; `owner` is the ``_target_`` that takes it."""
    if matches(value, wanted):
        return
    each = mapping_values(wanted)
    if each is not None and isinstance(value, dict) and not is_object(value):
        for key, inner in value.items():
            if inner != "???":
                check_value(inner, each, f"{path}.{key}", owner)
    if expects_object(wanted):
        raise not_an_object(path, value, how_to_set(value, path, owner))
    if is_object(value):
        raise InputError("config.wrong_type", f"{path} must be {describe(wanted)}, not a mapping with _target_")
    number_for_text = isinstance(value, int | float) and not isinstance(value, bool) and matches(str(value), wanted)
    hint = f": quote it to make it text, {path}=\"'{value}'\"" if number_for_text else ""
    raise InputError("config.wrong_type", f"{path}={as_yaml(value)} must be {describe(wanted)}{hint}")


def how_to_set(value: Any, path: str, owner: str = "") -> str:
    """Returns how the node at `path`, a parameter of the class `owner`, is chosen or changed."""
    if CONF.joinpath(*path.split(".")).is_dir():
        group = path.replace(".", "/")
        options = choices(group)
        return "choose " + " or ".join(f"{group}={name}" for name in ([value] if value in options else options))
    first, _, rest = path.partition(".")
    if rest.startswith(("parts.", "tasks.")):
        return f"choose {first}@{path}=..., {one_of(choices(first))}"
    contents = [merged(CONF / first / f"{name}.yaml") for name in choices(first)]
    contents = [content for content in contents if content.get("_target_", "") == owner]
    keys = [f"{first}.{key}" for content in contents for key in flatten(content)]
    keys = [key for key in dict.fromkeys(keys) if key.startswith(f"{path}.")]
    return f"set its keys, {', '.join(keys)}" if keys else "leave it as it is"


def configurable(target: str, parameters: Iterable[str]) -> set[str]:
    """Returns the parameters of `target` that a config may set."""
    return set(parameters) - SUPPLIED - (SUPPLIED_TO_HEADS if target.startswith("heads.") else set())


def refuse_unknown(given: set[str], known: set[str], path: str) -> None:
    for key in sorted(given - known):
        full = f"{path}.{key}" if path else key
        raise unknown_key(full, [f"{path}.{other}" if path else other for other in known])


def unknown_key(key: str, known: Iterable[str]) -> InputError:
    """The error for a key that nothing takes, with its present name if it was renamed, else with the nearest of `known`."""
    known = set(known)
    if new := new_name(key, known):
        return InputError("config.renamed_key", f"{key} is now {new}")
    return InputError("config.unknown_key", f"there is no key {key}.{suggest(key, known)}")

"""Is a config whole and right? Answered from source text alone, in milliseconds, before torch is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from structures import InputError

ROOT = Path(__file__).parent.parent.resolve()
CONF = ROOT / "conf"
SUPPLIED = {"self", "backbone", "spec", "run_dir", "unused", "callbacks", "logger", "ndim", "in_channels"}
"""Parameters that are handed over in Python; no config has them."""

SUPPLIED_TO_HEADS = {"channels", "num_classes"}

HYDRA = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


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
    for key in sorted(config, key=lambda key: isinstance(config[key], dict)):
        check_node(config[key], key)


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
    elif path.count(".") == 0 and path in ("callbacks", "logger"):
        for key, value in node.items():
            if value is not None and not (isinstance(value, dict) and "_target_" in value):
                raise InputError(
                    f"{path}.{key} is no part that can be built: it has no _target_.{near(f'{path}.{key}', known_keys('train'))}"
                )
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
        if key in HYDRA or value == "???" or (isinstance(value, dict) and "_target_" in value):
            continue
        wanted = own[key] if own is not None else like((defaults or {})[key])
        if wanted is not None and not fits(value, wanted):
            raise InputError(f"{path}.{key}={value!r} must be {readable(wanted)}")


def configurable(target: str, own: Iterable[str]) -> set[str]:
    """The parameters of `target` that stand in a config."""
    return set(own) - SUPPLIED - (SUPPLIED_TO_HEADS if target.startswith("heads.") else set())


def refuse_unknown(given: set[str], known: set[str], path: str) -> None:
    for key in sorted(given - known):
        full = f"{path}.{key}" if path else key
        options = [f"{path}.{other}" if path else other for other in known]
        raise InputError(f"there is no key {full}.{near(full, options)}")


def near(word: str, options: Iterable[str]) -> str:
    """A sentence that names the closest of `options`, or all of a few. A key of that very name elsewhere comes first."""
    ordered = sorted(options)
    ends = {option: option.rsplit(".", 1)[-1] for option in ordered}
    last = word.rsplit(".", 1)[-1]
    same = [option for option in ordered if ends[option] == last]
    close = get_close_matches(word, ordered, 3, 0.5)
    alike = set(get_close_matches(last, set(ends.values()), 3, 0.7))
    found = list(dict.fromkeys([*same, *close, *(option for option in ordered if ends[option] in alike)]))
    if found:
        return f" Nearest: {', '.join(found[:5])}"
    return f" Allowed: {', '.join(ordered)}" if 0 < len(ordered) <= 20 else ""


@cache
def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


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


@cache
def signature(target: str) -> dict[str, str | None] | None:
    """{parameter: annotation as text} of a class or function of this project, read from its source; None for anything else."""
    module, _, name = target.rpartition(".")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not re.fullmatch(r"[\w.]+", target) or not file.is_file():
        return None
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return parameters(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            return parameters(inits[0]) if inits else inherited(node, file) or fields(node)
    return None


def inherited(node: ast.ClassDef, file: Path) -> dict[str, str | None] | None:
    """The constructor of the class's first base, where that is imported from this project."""
    if not node.bases or not isinstance(node.bases[0], ast.Name):
        return None
    base = node.bases[0].id
    for line in ast.parse(file.read_text()).body:
        if isinstance(line, ast.ImportFrom) and any(alias.name == base for alias in line.names):
            return signature(f"{line.module}.{base}")
    return None


def parameters(node: ast.FunctionDef) -> dict[str, str | None]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return {a.arg: ast.unparse(a.annotation) if a.annotation else None for a in arguments}


def fields(node: ast.ClassDef) -> dict[str, str | None]:
    """The fields of a dataclass."""
    lines = (line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name))
    return {line.target.id: ast.unparse(line.annotation) for line in lines}  # type: ignore[union-attr]


@cache
def foreign(target: str) -> dict[str, Any] | None:
    """The keys and defaults that conf/ gives for somebody else's class."""
    found: dict[str, Any] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        for node in [load(file), *(value for value in load(file).values() if isinstance(value, dict))]:
            if node.get("_target_") == target:
                found |= {key: value for key, value in node.items() if key not in HYDRA}
    return found or None


def like(default: Any) -> str | None:
    """The annotation that a default suggests; any number where it is a number."""
    kinds = {bool: "bool", int: "float", float: "float", str: "str", list: "list", dict: "dict"}
    return kinds.get(type(default))


def fits(value: Any, annotation: str) -> bool:
    """Whether a plain value is of the annotated type. Types that no text can be are not judged."""
    return judge(value, ast.parse(annotation, mode="eval").body)


def judge(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return judge(value, node.left) or judge(value, node.right)
    if isinstance(node, ast.Constant):
        return value is None if node.value is None else value == node.value
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return judge_generic(value, node.value.id, node.slice)
    simple = {"bool": bool, "str": str, "int": int, "float": (int, float), "list": list, "dict": dict}
    if isinstance(node, ast.Name) and node.id in simple:
        right = isinstance(value, simple[node.id])  # type: ignore[arg-type]
        return right and (node.id == "bool" or not isinstance(value, bool))
    return True


def judge_generic(value: Any, name: str, inner: ast.expr) -> bool:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return any(judge(value, part) for part in parts)
    if name in ("list", "tuple", "Sequence"):
        return isinstance(value, list) and all(judge(v, parts[0]) for v in value)
    if name in ("dict", "Mapping"):
        return isinstance(value, dict) and all(judge(k, parts[0]) and judge(v, parts[1]) for k, v in value.items())
    return True


def readable(annotation: str) -> str:
    """An annotation in words."""
    words = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "None": "null"}
    if annotation.startswith("Literal"):
        return "one of " + annotation[8:-1]
    return " or ".join(words.get(part.strip(), part.strip()) for part in annotation.split("|"))

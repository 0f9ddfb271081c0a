"""What a constructor takes, read from its source text, and whether a plain value is of an annotated type."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
HYDRA = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


@cache
def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


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
    kinds = {bool: "bool", int: "float", float: "float", str: "str", dict: "dict"}
    if isinstance(default, list):
        return f"list[{like(default[0])}]" if default else "list"
    return kinds.get(type(default))


def kind(default: Any) -> str:
    """The annotation of a key at the top of a config, whole numbers apart from others."""
    return "int" if type(default) is int else like(default) or "Any"


def fits(value: Any, annotation: str) -> bool:
    """Whether a plain value is of the annotated type. A class or a function is meant where no plain value can be: see `is_part`."""
    return judge(value, parse(annotation))


def parse(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


SIMPLE = {"bool": bool, "str": str, "int": int, "float": (int, float), "list": list, "dict": dict}
GENERIC = ("Literal", "list", "tuple", "Sequence", "dict", "Mapping")
ANYTHING = ("Any", "Path")


def is_part(value: Any) -> bool:
    """Whether `value` says what is to be built."""
    return isinstance(value, dict) and "_target_" in value


def judge(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return judge(value, node.left) or judge(value, node.right)
    if isinstance(node, ast.Constant):
        return value is None if node.value is None else value == node.value
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in GENERIC:
        return judge_generic(value, node.value.id, node.slice)
    if isinstance(node, ast.Name) and node.id in SIMPLE:
        right = isinstance(value, SIMPLE[node.id])  # type: ignore[arg-type]
        return right and not is_part(value) and (node.id == "bool" or not isinstance(value, bool))
    return is_part(value) or (isinstance(node, ast.Name) and node.id in ANYTHING)


def judge_generic(value: Any, name: str, inner: ast.expr) -> bool:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return any(judge(value, part) for part in parts)
    if name in ("list", "tuple", "Sequence"):
        return isinstance(value, list) and all(judge(v, parts[0]) for v in value)
    if not isinstance(value, dict) or is_part(value):
        return False
    return all(judge(k, parts[0]) and judge(v, parts[1]) for k, v in value.items())


def wants_part(node: ast.expr) -> bool:
    """Whether a class or a function is meant, rather than a plain value."""
    if isinstance(node, ast.BinOp):
        return wants_part(node.left) or wants_part(node.right)
    if isinstance(node, ast.Subscript):
        return not (isinstance(node.value, ast.Name) and node.value.id in GENERIC)
    return isinstance(node, ast.Name) and node.id not in (*SIMPLE, *ANYTHING)


def inside(node: ast.expr) -> ast.expr | None:
    """What the values of an annotated mapping are; None for anything else."""
    for side in (node.left, node.right) if isinstance(node, ast.BinOp) else (node,):
        if (
            isinstance(side, ast.Subscript)
            and isinstance(side.value, ast.Name)
            and side.value.id in ("dict", "Mapping")
        ):
            return side.slice.elts[1] if isinstance(side.slice, ast.Tuple) else None
    return None


def readable(node: ast.expr) -> str:
    """An annotation in words."""
    if isinstance(node, ast.BinOp):
        return f"{readable(node.left)} or {readable(node.right)}"
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return ("one of " if len(inner) > 1 else "") + ", ".join(ast.unparse(part) for part in inner)
        if node.value.id in ("list", "tuple", "Sequence"):
            return f"a list, each {readable(inner[0])}"
        if node.value.id in ("dict", "Mapping"):
            return f"{{{readable(inner[0])}: {readable(inner[1])}}}"
    words = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "None": "null"}
    words |= {"list": "a list", "dict": "a mapping {key: value}"}
    return words.get(ast.unparse(node), "a part, a mapping with _target_")


def shown(value: Any) -> str:
    """A plain value as YAML writes it."""
    words = {None: "null", True: "true", False: "false"}
    said = words[value] if value is None or isinstance(value, bool) else repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."

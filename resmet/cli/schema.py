"""Parameters of constructors, read from source text without importing it, and whether plain values are of the annotated types."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

from resmet.cli.conf_files import CONF, HYDRA_KEYS, ROOT, load

Signature = dict[str, str | None]
"""{parameter: its annotation as text, None where it has none}."""


@cache
def signature(target: str) -> Signature | None:
    """Returns the parameters of a class or function of this project, named as in ``_target_``; None for anything else."""
    module, _, name = target.rpartition(".")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not re.fullmatch(r"[\w.]+", target) or not file.is_file():
        return None
    tree = parse_file(file)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return parameters(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return class_signature(node, module, tree)
    return None


@cache
def parse_file(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def class_signature(node: ast.ClassDef, module: str, tree: ast.Module) -> Signature | None:
    """Returns the parameters of a class: of its ``__init__``, of its dataclass fields and those of its bases, or of its first base."""
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            return parameters(line)
    bases = [signature(base) for base in base_targets(node, module, tree)]
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return bases[0] if bases else None
    fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
    annotated = {ast.unparse(line.target): ast.unparse(line.annotation) for line in fields}
    return {name: kind for base in reversed(bases) for name, kind in (base or {}).items()} | annotated


def base_targets(node: ast.ClassDef, module: str, tree: ast.Module) -> list[str]:
    """Returns the bases of a class of `module`, named as in ``_target_``."""
    imports = [line for line in tree.body if isinstance(line, ast.ImportFrom)]
    imported = {alias.name: f"{line.module}.{alias.name}" for line in imports for alias in line.names}
    names = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return [imported.get(name, f"{module}.{name}") for name in names]


def class_attribute(target: str, name: str) -> Any:
    """Returns the value of an attribute that a class of this project, or a base of it, sets to a literal; None if none does."""
    module, _, class_name = target.rpartition(".")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        return None
    tree = parse_file(file)
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name):
        for line in node.body:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
                return ast.literal_eval(line.value)
            if isinstance(line, ast.AnnAssign) and line.value and ast.unparse(line.target) == name:
                return ast.literal_eval(line.value)
        values = (class_attribute(base, name) for base in base_targets(node, module, tree))
        return next((value for value in values if value is not None), None)
    return None


def parameters(node: ast.FunctionDef) -> Signature:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return {a.arg: ast.unparse(a.annotation) if a.annotation else None for a in arguments}


@cache
def third_party_defaults(target: str) -> dict[str, Any] | None:
    """Returns the keys and values that conf/ has for a class of another package; None for one that conf/ does not name."""
    known: dict[str, Any] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        for node in [load(file), *(value for value in load(file).values() if isinstance(value, dict))]:
            if node.get("_target_") == target:
                known |= {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    return known or None


def annotation_of(default: Any, whole_numbers: bool = False) -> str | None:
    """Returns the annotation that a default suggests: ``float`` for any number, unless `whole_numbers`."""
    kinds = {bool: "bool", int: "int" if whole_numbers else "float", float: "float", str: "str", dict: "dict"}
    if isinstance(default, list):
        return f"list[{annotation_of(default[0])}]" if default else "list"
    return kinds.get(type(default))


def parse(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


SIMPLE = {"bool": bool, "str": str, "int": int, "float": (int, float), "list": list, "dict": dict}
SEQUENCES, MAPPINGS = ("list", "tuple", "Sequence"), ("dict", "Mapping")
GENERIC = ("Literal", *SEQUENCES, *MAPPINGS)
ANYTHING = ("Any", "Path")


def is_object(value: Any) -> bool:
    """Whether `value` names a class or function to be instantiated."""
    return isinstance(value, dict) and "_target_" in value


def matches(value: Any, annotation: ast.expr) -> bool:
    """Whether a plain value is of the annotated type; where a class is annotated, whether it names something to instantiate."""
    if isinstance(annotation, ast.BinOp):
        return matches(value, annotation.left) or matches(value, annotation.right)
    if isinstance(annotation, ast.Constant):
        return value is None if annotation.value is None else value == annotation.value
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        if annotation.value.id in GENERIC:
            return matches_generic(value, annotation.value.id, type_arguments(annotation))
    elif isinstance(annotation, ast.Name) and annotation.id in SIMPLE:
        fits = isinstance(value, SIMPLE[annotation.id])  # type: ignore[arg-type]
        return fits and not is_object(value) and (annotation.id == "bool" or not isinstance(value, bool))
    return is_object(value) or (isinstance(annotation, ast.Name) and annotation.id in ANYTHING)


def matches_generic(value: Any, name: str, inner: list[ast.expr]) -> bool:
    if name == "Literal":
        return any(matches(value, part) for part in inner)
    if name in SEQUENCES:
        return isinstance(value, list) and all(matches(item, inner[0]) for item in value)
    if not isinstance(value, dict) or is_object(value):
        return False
    return all(matches(key, inner[0]) and matches(item, inner[1]) for key, item in value.items())


def type_arguments(annotation: ast.Subscript) -> list[ast.expr]:
    return annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]


def expects_object(annotation: ast.expr) -> bool:
    """Whether a class or function is annotated rather than a plain value."""
    if isinstance(annotation, ast.BinOp):
        return expects_object(annotation.left) or expects_object(annotation.right)
    if isinstance(annotation, ast.Subscript):
        return not (isinstance(annotation.value, ast.Name) and annotation.value.id in GENERIC)
    return isinstance(annotation, ast.Name) and annotation.id not in (*SIMPLE, *ANYTHING)


def mapping_values(annotation: ast.expr) -> ast.expr | None:
    """Returns the annotation of the values of an annotated mapping; None for anything else."""
    if isinstance(annotation, ast.BinOp):
        return mapping_values(annotation.left) or mapping_values(annotation.right)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in MAPPINGS:
        return type_arguments(annotation)[-1]
    return None


def describe(annotation: ast.expr) -> str:
    """Returns an annotation in words."""
    if isinstance(annotation, ast.BinOp):
        return f"{describe(annotation.left)} or {describe(annotation.right)}"
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        inner = type_arguments(annotation)
        if annotation.value.id == "Literal":
            return ("one of " if len(inner) > 1 else "") + ", ".join(ast.unparse(part) for part in inner)
        if annotation.value.id in SEQUENCES:
            return f"a list, each {describe(inner[0])}"
        if annotation.value.id in MAPPINGS:
            return f"{{{describe(inner[0])}: {describe(inner[1])}}}"
    words = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "None": "null"}
    words |= {"list": "a list", "dict": "a mapping {key: value}"}
    return words.get(ast.unparse(annotation), "a mapping with _target_")


def as_yaml(value: Any) -> str:
    """Returns a plain value as YAML writes it, shortened to 80 characters."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

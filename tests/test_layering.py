"""The structure of the code: imports go down only, no circles, small files, one owner of every attribute."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = (
    ("foundation.structures", "foundation.seeds", "foundation.hardware", "foundation.overrides", "resmet.renamed"),
    ("foundation.durations", "foundation.threads", "foundation.visualization.overlays"),
    ("foundation.contracts", "foundation.run_state", "foundation.targets", "foundation.storage", "foundation.parallel"),
    ("foundation.visualization",),
    ("backbones",),
    ("heads",),
    ("tasks.optim", "tasks.fsdp", "tasks.coco_map", "datamodules.decoding", "datamodules.splits"),
    ("tasks.base", "datamodules.transforms"),
    ("tasks.classification",),  # tasks.audio is a subclass
    ("tasks", "datamodules.cache"),
    ("datamodules.loading",),
    ("datamodules.base",),
    ("datamodules.shards",),
    ("datamodules.formats", "datamodules"),
    ("resmet.assembly",),
    ("resmet.checkpoints",),
    ("resmet.callbacks", "resmet.data_checks.model"),
    ("resmet.data_checks.scan",),
    ("resmet.data_checks.checks",),
    ("resmet.data_checks.report",),
    ("resmet.engine", "resmet.deploy", "resmet.data_checks.run"),
    ("resmet.cli",),
    ("resmet.sweeps",),
    ("resmet.commands",),
    ("train", "evaluate", "predict", "doctor", "pack", "benchmarks"),
)
"""From the bottom up. A module belongs to the longest prefix that fits; it imports from lower floors and from its own part of one floor."""

FLOOR = {prefix: number for number, floor in enumerate(FLOORS) for prefix in floor}
WINGS = ("tasks", "datamodules")
"""Two parts of the house that do not see each other."""

SIBLINGS = ("tasks", "datamodules.formats")
"""Folders whose files do not import each other; tasks.base and its helpers stand one floor below the tasks."""

SCRIPTS = ("train", "evaluate", "predict", "doctor", "pack")
FOLDERS = ("foundation", "backbones", "heads", "tasks", "datamodules", "resmet", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")) + [
    ROOT / f"{name}.py" for name in SCRIPTS
]
ONE_KIND = {"datamodules/formats", "resmet/callbacks", "resmet/data_checks/checks"}
"""Folders in which every file is one of a kind, so that their number is no matter."""

ADAPTER = "resmet/checkpoints/lightning_state.py"
"""The one file that writes into Lightning's own objects."""

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {module_of(path): path for path in FILES}


def part_of(module: str) -> str:
    """The entry of FLOORS that a module belongs to."""
    prefixes = [prefix for prefix in FLOOR if module == prefix or module.startswith(f"{prefix}.")]
    return max(prefixes, key=len)


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports at any depth, also for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return found & set(MODULES)


def goes_down(module: str, other: str) -> bool:
    own, theirs = part_of(module), part_of(other)
    if {module.split(".")[0], other.split(".")[0]} == set(WINGS):
        return False
    if own == theirs:
        return own not in SIBLINGS
    return FLOOR[theirs] < FLOOR[own]


@each_file
def test_imports_go_down(path: Path) -> None:
    module = module_of(path)
    wrong = {other for other in imports(path) if not goes_down(module, other)}
    assert not wrong, f"{module} imports {sorted(wrong)}"


def test_no_circles() -> None:
    graph = {module: imports(path) - {module} for module, path in MODULES.items()}
    while leaves := {module for module, others in graph.items() if not others}:
        graph = {module: others - leaves for module, others in graph.items() if module not in leaves}
    ends = {module for others in graph.values() for module in others}
    assert not graph, f"circles among {sorted(ends & set(graph))}"


def test_folders_are_narrow() -> None:
    widths = Counter(str(path.parent.relative_to(ROOT)) for path in FILES)
    wide = {folder: width for folder, width in widths.items() if width > 15 and folder not in ONE_KIND}
    assert not wide


@each_file
def test_small_files(path: Path) -> None:
    assert path.read_text().count("\n") <= 250


@each_file
def test_small_functions(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        place = f"{path.name}:{node.lineno} {node.name}"
        assert node.end_lineno - node.lineno < 40, f"{place} has more than 40 lines"
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        assert len([name for name in names if name not in ("self", "cls")]) <= 9, f"{place} has more than 9 parameters"
        assert depth(node) < 4, f"{place} is nested {depth(node)} deep"


def depth(node: ast.AST) -> int:
    """How deep statements with a body of their own are nested inside `node`; an elif is as deep as its if."""
    deepest = 0
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
                continue
            flat = isinstance(child, (ast.ExceptHandler, ast.match_case)) or (
                name == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If) and len(value) == 1
            )
            nests = isinstance(child, (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match))
            deepest = max(deepest, depth(child) + (nests and not flat))
    return deepest


OWN_ATTRIBUTES = {
    node.attr
    for path in FILES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute)
    and isinstance(node.ctx, ast.Store)
    and isinstance(node.value, ast.Name)
    and node.value.id == "self"
} - {"data", "grad"}
"""What our own objects store; ``data`` and ``grad`` are also torch's, which writes them from outside by design."""


@each_file
def test_no_attribute_is_written_from_outside(path: Path) -> None:
    """State has one owner: nobody writes into a task, a data module, a Trainer or any other object of ours but itself."""
    if str(path.relative_to(ROOT)) == ADAPTER:
        return
    wrong = [f"{path.name}:{line} {text}" for line, text in foreign_writes(ast.parse(path.read_text()))]
    assert not wrong, "\n".join(wrong)


def foreign_writes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every attribute of ours, or of a Trainer, that is set or deleted on anything but ``self`` or what the same function made."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        made = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if not (isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del))):
                continue
            owner = ast.unparse(node.value)
            inside_trainer = (
                "trainer" in owner.split(".") and node.attr != "should_stop"
            )  # Lightning documents that one
            if (node.attr in OWN_ATTRIBUTES or inside_trainer) and owner not in {"self", "cls", *made}:
                yield node.lineno, ast.unparse(node)


def test_class_names_are_unique() -> None:
    """One word a thing: no two public classes of the product share a name."""
    found = Counter(
        node.name
        for path in FILES
        if not str(path.relative_to(ROOT)).startswith("benchmarks")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, number in found.items() if number > 1]

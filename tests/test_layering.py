"""Imports go down only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("backbones", "heads", "tasks", "datamodules", "runs", "deploy", "health")
SCRIPTS = ("train", "evaluate", "predict", "doctor", "pack")
DATA_BASES = {
    "datamodules.base",
    "datamodules.cache_file",
    "datamodules.cache_folder",
    "datamodules.caching",
    "datamodules.collating",
    "datamodules.changes",
    "datamodules.checking",
    "datamodules.crew",
    "datamodules.loading",
    "datamodules.image_data",
    "datamodules.images",
    "datamodules.sounds",
    "datamodules.sharing",
    "datamodules.splits",
    "datamodules.sampling",
    "datamodules.augment",
    "datamodules.warping",
    "datamodules.items",
    "datamodules.file_data",
    "datamodules.placing",
    "datamodules.tiff",
    "datamodules.upright",
    "datamodules.tables",
    "datamodules.class_folders",
    "datamodules.sound_data",
    "datamodules.box_data",
    "datamodules.box_sizes",
    "datamodules.outlines",
    "datamodules.downloading",
    "datamodules.manifest",
    "datamodules.shard_cache",
    "datamodules.shard_file",
    "datamodules.shard_items",
    "datamodules.shard_order",
    "datamodules.shard_source",
}
MAY = {
    "structures": set(),
    "reading": {"structures"},
    "machine": set(),
    "drawing": {"structures", "marking"},
    "marking": {"structures"},
    "backbones": {"structures", "reading", "backbones.base", "backbones.weights"},
    "heads": {"structures", "backbones.base", "heads.across", "heads.dice", "heads.sampling", "heads.sizing"},
    "tasks": {
        "structures",
        "machine",
        "heads",
        "backbones.base",
        "tasks.base",
        "tasks.recipe",
        "tasks.freezing",
        "tasks.keeping",
        "tasks.learning",
        "tasks.mixing",
        "tasks.pacing",
        "tasks.balancing",
        "tasks.scoring",
        "tasks.sharing",
    },
    "datamodules": {"structures", "reading", "machine"} | DATA_BASES,
    "runs": {"structures", "reading", "machine", "drawing", "tasks.base", "runs"},
    "deploy": {"structures", "reading", "drawing", "tasks.base", "deploy"},
    "health": {"structures", "reading", "machine", "drawing", "datamodules", "health"},
    "assembly": {"structures", "reading", "tasks.base", "datamodules.base", "backbones.base"},
    "scripts": {
        "structures",
        "reading",
        "assembly",
        "runs",
        "deploy",
        "health",
        "datamodules.files",
        "datamodules.packing",
    },
}
EXCEPTIONS = {("tasks.audio", "tasks.classification")}
"""Audio is classification over one axis, and says so by inheritance."""

FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))] + sorted(ROOT.glob("*.py"))


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    ours = {*FOLDERS, *SCRIPTS, "structures", "reading", "machine", "assembly", "drawing", "marking"}
    return {name for name in found if name.split(".")[0] in ours}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    top = module.split(".")[0]
    allowed = MAY["scripts" if top in SCRIPTS else top]
    wrong = {
        name
        for name in imports(path)
        if name not in allowed and name.split(".")[0] not in allowed and (module, name) not in EXCEPTIONS
    }
    assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_small_and_flat(path: Path) -> None:
    assert path.read_text().count("\n") <= 260
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            words = len((ast.get_docstring(node) or "").splitlines())
            assert node.end_lineno - node.lineno - words <= 45, f"{path.name}: {node.name}"

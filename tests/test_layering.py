"""Imports go down only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("backbones", "heads", "tasks", "datamodules", "runs", "deploy", "health")
SCRIPTS = ("train", "evaluate", "predict", "doctor", "pack")
DATA_BASES = {
    "datamodules.base.datamodule",
    "datamodules.cache.item_file",
    "datamodules.cache.directory",
    "datamodules.cache.cache",
    "datamodules.loading.collate",
    "datamodules.transforms.base",
    "datamodules.base.validation",
    "datamodules.loading.workers",
    "datamodules.loading.dataloader",
    "datamodules.base.images",
    "datamodules.decoding.image",
    "datamodules.decoding.audio",
    "datamodules.splits.stratify",
    "datamodules.splits.splits",
    "datamodules.loading.sampler",
    "datamodules.transforms.augment",
    "datamodules.transforms.affine",
    "datamodules.base.dataset",
    "datamodules.base.files",
    "datamodules.decoding.resize",
    "datamodules.decoding.tiff",
    "datamodules.decoding.exif",
    "datamodules.base.csv_table",
    "datamodules.base.class_folders",
    "datamodules.base.audio",
    "datamodules.base.boxes",
    "datamodules.base.box_statistics",
    "datamodules.decoding.coco_masks",
    "datamodules.shards.download",
    "datamodules.shards.manifest",
    "datamodules.shards.cache",
    "datamodules.shards.tar_index",
    "datamodules.shards.codec",
    "datamodules.shards.sampler",
    "datamodules.shards.remote",
}
MAY = {
    "structures": set(),
    "reading": {"structures"},
    "machine": set(),
    "drawing": {"structures", "marking"},
    "marking": {"structures"},
    "backbones": {"structures", "reading", "backbones.base", "backbones.weights"},
    "heads": {
        "structures",
        "backbones.base",
        "foundation.parallel.collectives",
        "heads.dice_loss",
        "heads.anchor_sampler",
        "heads.rcnn_defaults",
    },
    "tasks": {
        "structures",
        "machine",
        "heads",
        "backbones.base",
        "tasks.base",
        "tasks.optim.recipe",
        "tasks.optim.freezing",
        "tasks.optim.feature_cache",
        "tasks.optim.optimization",
        "tasks.optim.mixup",
        "tasks.optim.schedule",
        "tasks.optim.class_weights",
        "tasks.coco_map",
        "tasks.fsdp",
    },
    "datamodules": {"structures", "reading", "machine"} | DATA_BASES,
    "runs": {"structures", "reading", "machine", "drawing", "tasks.base", "runs"},
    "deploy": {"structures", "reading", "drawing", "tasks.base", "deploy"},
    "health": {"structures", "reading", "machine", "drawing", "datamodules", "health"},
    "assembly": {"structures", "reading", "tasks.base", "datamodules.base.datamodule", "backbones.base"},
    "scripts": {
        "structures",
        "reading",
        "assembly",
        "runs",
        "deploy",
        "health",
        "datamodules.predict_files",
        "datamodules.shards.writer",
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

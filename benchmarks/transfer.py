"""Does pretraining help? Compares every recipe with training from scratch: same command, same number of epochs, several seeds.

    RESMET_DATA=DIR python -m benchmarks.transfer [--weights DIR] [--runs DIR] [--out docs/transfer.md] [--seeds 3]

Needs the data sets clothing, mnist_idx, mnist_png, membrane and nuclei_fluo in RESMET_DATA, and cifar10/resnet56.th in the folder
of weights. Runs that `--runs` already holds are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmarks.measure import ROOT, run_python
from benchmarks.tasks import copy

DATA = Path(os.environ.get("RESMET_DATA", ROOT.parent / "shared" / "data"))
SOURCE_SEED = 100
"""Not a seed of the comparison: a head with the initial weights of the source's head would already fit the features."""

RECIPES = {
    "scratch": ("recipe=scratch",),
    "scratch at lr 0.01": ("recipe=scratch", "recipe.optimizer.lr=0.01"),  # the learning rate of those below
    **{name: (f"recipe={name}",) for name in ("probe", "finetune", "lp_ft", "gradual")},
}
NAMES = "[zero,one,two,three,four,five,six,seven,eight,nine]"  # not the target's names: the head is not transferred
PIXELS = (
    *("task=segmentation", "data=mask_folder", "backbone.width=16", "task.head.widths=[64,32,16,16,16]"),
    "data.augment.random_crop=128",
)
MASK_VALUES = "data.values={0: membrane, 255: background}"
SOURCES = {
    "mnist_idx": ("data=idx", f"data.class_names={NAMES}", "backbone=resnet20", "trainer.max_epochs=2"),
    "nuclei_fluo": (*PIXELS, "trainer.max_epochs=12", "trainer.check_val_every_n_epoch=4"),
}
"""Runs whose weights are transferred, by their data set."""

HEAD = """# Does pretraining help?

Written by `python -m benchmarks.transfer`. Every row is the same command with another `recipe=`; all but `scratch` also have
`backbone.weights=`, and all run for the same number of epochs. The score is that of the best validation epoch. Seeds differ in initial
weights, order and augmentation; the splits are the same. Seconds are those of a whole run on one core, scan of the data and test included.
"""


class Comparison(NamedTuple):
    """One table: overrides that all runs share, the origin of the weights (a key of ``SOURCES`` or a file), and the epochs."""

    name: str
    title: str
    overrides: tuple[str, ...]
    weights: str | Path
    epochs: int
    score: str = "test accuracy"


def comparisons(runs: Path, weights: Path) -> Iterator[Comparison]:
    yield Comparison(
        "clothing",
        "clothing (600 photographs, 10 classes, 32 pixels) from CIFAR-10's resnet56",
        ("data=image_folder", f"data.root={DATA / 'clothing'}", "data.size=32", "backbone=resnet56"),
        weights / "cifar10" / "resnet56.th",
        4,
    )
    for count in (10, 50):
        root = first_of_each_class(DATA / "mnist_png", runs / f"mnist_png_{count}", count)
        digits = ("data=image_folder", f"data.root={root}", "data.batch_size=16", "data.augment.horizontal_flip=0")
        title = f"mnist_png, {count} images a class, from a resnet20 trained on mnist_idx"
        yield Comparison(f"mnist_{count}", title, (*digits, "backbone=resnet20"), "mnist_idx", 12)
    yield Comparison(
        "membrane",
        "membrane (24 micrographs) from a resnet18 trained on nuclei_fluo",
        (*PIXELS, f"data.root={DATA / 'membrane'}", MASK_VALUES, "trainer.check_val_every_n_epoch=12"),
        "nuclei_fluo",
        12,
        "validation dice",
    )


def first_of_each_class(source: Path, target: Path, count: int) -> Path:
    """Takes `count` training images of each class, the next 20 for validation, and the whole test split."""
    if target.is_dir():
        return target
    shutil.copytree(source / "test", target / "test")
    for folder in sorted((source / "train").iterdir()):
        paths = sorted(folder.iterdir(), key=lambda path: (len(path.stem), path.stem))
        for split, chosen in (("train", paths[:count]), ("val", paths[count : count + 20])):
            for path in chosen:
                copy(path, target / split / folder.name / path.name)
    return target


def train(folder: Path, overrides: tuple[str, ...], seeds: int | str) -> list[dict]:
    """Runs ``train.py -m`` with these seeds; returns the ``metrics.json`` of every run."""
    shared = ("trainer=cpu", "callbacks.visualize=null", f"seed={seeds}", f"run_dir={folder}")
    results = [folder / str(job) / "metrics.json" for job in range(str(seeds).count(",") + 1)]
    if not all(path.is_file() for path in results):
        shutil.rmtree(folder, ignore_errors=True)
        run_python("train.py", "-m", *overrides, *shared)
        print(f"{folder.name}: done", file=sys.stderr, flush=True)
    return [json.loads(path.read_text()) for path in results]


def compare(comparison: Comparison, runs: Path, seeds: int) -> list[str]:
    """Returns the lines of a table, a row a recipe; gains are relative to the better of the rows from scratch, which come first."""
    name, title, overrides, weights, epochs, score = comparison
    command = " ".join(portable(word) for word in (*overrides, f"trainer.max_epochs={epochs}"))
    lines = [f"## {title}", "", f"`python train.py {command}`", ""]
    lines += [f"| recipe | {score}, mean of {seeds} | range | against scratch | seconds |", "|---|---|---|---|---|"]
    path = runs / weights / "0" / "checkpoints" / "best.ckpt" if weights in SOURCES else weights
    base = 0.0
    for recipe, change in RECIPES.items():
        start = () if recipe.startswith("scratch") else (f"backbone.weights={path}",)
        words = (*overrides, *change, *start, f"trainer.max_epochs={epochs}")
        found = train(runs / f"{name}_{recipe.replace(' ', '_')}", words, ",".join(map(str, range(seeds))))
        scores = [result["score"] for result in found]
        gain = f"{mean(scores) - base:+.3f}" if start else ""
        base = base if start else max(base, mean(scores))
        seconds = mean(result["seconds"] for result in found)
        spread = f"{min(scores):.3f} to {max(scores):.3f}"
        lines.append(f"| {recipe} | **{mean(scores):.3f}** | {spread} | {gain} | {seconds:.0f} |")
    return [*lines, ""]


def portable(word: str) -> str:
    """Returns an override without this machine's folders, quoted for a shell."""
    key, _, value = word.partition("=")
    return f"{key}={Path(value).name}" if key == "data.root" else f"'{word}'" if " " in word else word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared" / "weights")
    parser.add_argument("--runs", type=Path, help="saves the runs here; default is a temporary folder")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "transfer.md")
    parser.add_argument("--only", help="one comparison, by its name")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        runs = (given.runs or Path(temporary)).resolve()
        runs.mkdir(parents=True, exist_ok=True)
        chosen = [c for c in comparisons(runs, given.weights.resolve()) if given.only in (None, c.name)]
        for source in SOURCES.keys() & {comparison.weights for comparison in chosen}:
            train(runs / source, (*SOURCES[source], f"data.root={DATA / source}"), SOURCE_SEED)
        tables = [compare(comparison, runs, given.seeds) for comparison in chosen]
    given.out.write_text("\n".join([HEAD, *(line for table in tables for line in table)]))
    print(given.out.read_text())


if __name__ == "__main__":
    main()

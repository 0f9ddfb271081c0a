"""Does transfer pay? Every recipe against training from scratch, by the same command, for as many epochs, with several seeds.

    RESMET_DATA=DIR python -m benchmarks.transfer [--weights DIR] [--runs DIR] [--out docs/transfer.md] [--seeds 3]

Needs the data sets clothing, mnist_idx, mnist_png, membrane and nuclei_fluo in RESMET_DATA, and cifar10/resnet56.th in the folder
of weights. Writes what it finds, whatever that is. Runs that `--runs` already holds are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("RESMET_DATA", ROOT.parent / "shared" / "data"))
SOURCE_SEED = 100
"""None of those compared: a head that begins as the source's did would already fit the features."""

NAMES = "[zero,one,two,three,four,five,six,seven,eight,nine]"  # other names than the target's: the head stays behind
RECIPES = {
    "scratch": ("recipe=scratch",),
    "scratch at lr 0.01": ("recipe=scratch", "recipe.optimizer.lr=0.01"),  # the rate of those below
    **{name: (f"recipe={name}",) for name in ("probe", "finetune", "lp_ft", "gradual")},
}


@dataclass(frozen=True)
class Comparison:
    """One table: the words that all runs share, where the weights come from, and which recipes are compared."""

    name: str
    title: str
    words: tuple[str, ...]
    weights: Path
    epochs: int
    score: str = "test accuracy"
    recipes: dict[str, tuple[str, ...]] = field(default_factory=lambda: RECIPES)


@dataclass(frozen=True)
class Source:
    """A run that makes the weights for a comparison."""

    name: str
    words: tuple[str, ...]

    def weights(self, runs: Path) -> Path:
        return runs / self.name / "0" / "checkpoints" / "best.ckpt"


DIGITS = Source(
    "mnist_idx",
    (
        "data=idx",
        f"data.root={DATA / 'mnist_idx'}",
        f"data.class_names={NAMES}",
        "backbone=resnet20",
        "trainer.max_epochs=2",
    ),
)
PIXELS = (
    "task=segmentation",
    "data=mask_folder",
    "backbone.width=16",
    "task.head.widths=[64,32,16,16,16]",
    "data.augment.random_crop=128",
)
NUCLEI = Source(
    "nuclei_fluo", (*PIXELS, f"data.root={DATA / 'nuclei_fluo'}", "trainer.max_epochs=12", "trainer.every=4")
)


def comparisons(runs: Path, weights: Path) -> Iterator[Comparison]:
    yield Comparison(
        "clothing",
        "clothing (600 photographs, 10 classes, 32 pixels) from CIFAR-10's resnet56",
        ("data=image_folder", f"data.root={DATA / 'clothing'}", "data.size=32", "backbone=resnet56"),
        weights / "cifar10" / "resnet56.th",
        4,
    )
    for count in (10, 50):
        root = few(DATA / "mnist_png", runs / f"mnist_png_{count}", count)
        yield Comparison(
            f"mnist_{count}",
            f"mnist_png, {count} images a class, from a resnet20 trained on mnist_idx",
            (
                "data=image_folder",
                f"data.root={root}",
                "data.batch_size=16",
                "data.augment.horizontal_flip=0",
                "backbone=resnet20",
            ),
            DIGITS.weights(runs),
            12,
        )
    yield Comparison(
        "membrane",
        "membrane (24 micrographs) from a resnet18 trained on nuclei_fluo",
        (*PIXELS, f"data.root={DATA / 'membrane'}", "data.values={0: membrane, 255: background}", "trainer.every=12"),
        NUCLEI.weights(runs),
        12,
        score="validation dice",
    )


def few(source: Path, target: Path, count: int) -> Path:
    """A copy of an image folder with `count` training images a class, the next 20 to validate with, and the whole test split."""
    if not target.is_dir():
        shutil.copytree(source / "test", target / "test")
        for folder in sorted((source / "train").iterdir()):
            paths = sorted(folder.iterdir(), key=lambda path: (len(path.stem), path.stem))
            for split, chosen in (("train", paths[:count]), ("val", paths[count : count + 20])):
                (target / split / folder.name).mkdir(parents=True)
                for path in chosen:
                    shutil.copy(path, target / split / folder.name)
    return target


def train(folder: Path, words: tuple[str, ...], seeds: Sequence[int]) -> list[dict]:
    """Run ``train.py`` as a person would, once a seed; what ``metrics.json`` says of every run."""
    found = [folder / str(job) / "metrics.json" for job in range(len(seeds))]
    if not all(path.is_file() for path in found):
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        shared = (
            "trainer=cpu",
            "callbacks.pictures=null",
            f"seed={','.join(map(str, seeds))}",
            f"run_dir={folder}",
        )
        command = [sys.executable, str(ROOT / "train.py"), "-m", *words, *shared]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        print(f"{folder.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return [json.loads(path.read_text()) for path in found]


def compare(comparison: Comparison, runs: Path, seeds: int) -> list[str]:
    """The lines of a table, a row a recipe; what pays is told against the better of the rows from scratch."""
    found: dict[str, list[dict]] = {}
    for recipe, change in comparison.recipes.items():
        words = (*comparison.words, *change, f"trainer.max_epochs={comparison.epochs}")
        if not recipe.startswith("scratch"):
            words += (f"backbone.weights={comparison.weights}",)
        found[recipe] = train(runs / f"{comparison.name}_{recipe.replace(' ', '_')}", words, range(seeds))
    means = {recipe: mean(result["score"] for result in results) for recipe, results in found.items()}
    base = max(value for recipe, value in means.items() if recipe.startswith("scratch"))
    lines = [
        f"## {comparison.title}",
        "",
        f"`python train.py {' '.join(shown(word) for word in comparison.words)} trainer.max_epochs={comparison.epochs}`",
        "",
        f"| recipe | {comparison.score}, mean of {seeds} | lowest to highest | against scratch | seconds |",
        "|---|---|---|---|---|",
    ]
    for recipe, results in found.items():
        scores = [result["score"] for result in results]
        gain = "" if recipe.startswith("scratch") else f"{means[recipe] - base:+.3f}"
        seconds = mean(result["seconds"] for result in results)
        spread = f"{min(scores):.3f} to {max(scores):.3f}"
        lines.append(f"| {recipe} | **{means[recipe]:.3f}** | {spread} | {gain} | {seconds:.0f} |")
    return [*lines, ""]


def shown(word: str) -> str:
    """A word of a command as the reader of another machine would write it."""
    key, _, value = word.partition("=")
    return f"{key}={Path(value).name}" if key == "data.root" else f"'{word}'" if " " in word else word


HEAD = """# Does transfer pay?

Written by `benchmarks/transfer.py`, whatever came out. Every row is the same command with another `recipe=`; all but `scratch`
also have `backbone.weights=`, and all run for as many epochs. The score decides by the best validation epoch. Seeds differ in
initial weights, order and random changes; the images of every split are the same.
Seconds are of a whole run on one core, the reading of the data and the test included.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared" / "weights")
    parser.add_argument("--runs", type=Path, help="keep the runs here; default is a temporary folder")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "transfer.md")
    parser.add_argument("--only", help="one comparison, by its name")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        runs = (given.runs or Path(temporary)).resolve()
        runs.mkdir(parents=True, exist_ok=True)
        chosen = [c for c in comparisons(runs, given.weights.resolve()) if given.only in (None, c.name)]
        for source in (DIGITS, NUCLEI):
            if any(comparison.weights == source.weights(runs) for comparison in chosen):
                train(runs / source.name, source.words, [SOURCE_SEED])
        tables = [compare(comparison, runs, given.seeds) for comparison in chosen]
    given.out.write_text("\n".join([HEAD, *(line for table in tables for line in table)]))
    print(given.out.read_text())


if __name__ == "__main__":
    main()

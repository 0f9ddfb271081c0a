"""How fast is it on a GPU? One command, under 9 minutes; numbers of one card are only comparable with those of the same run.

    python -m benchmarks.gpu                          ResNet-50 at 224 against timm's, the four tasks' steps, resume
    python -m benchmarks.gpu --device cpu --tiny      the same in small, to see that it runs

ResNet-50: bf16, channels last, compiled, synthetic pictures on the device. One A100 does 2,470 pictures a second with NVIDIA's recipe.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.beside import Steps
from benchmarks.ours import ROOT, STILL, STILL_SOUND, Memory, has, run
from benchmarks.rivals.plain import stepping
from benchmarks.rivals.synthetic import Synthetic
from benchmarks.rounds import Result, Settings, compared

FOUR = {
    "classification": STILL,
    "detection": ("task=detection", *STILL),
    "segmentation": ("task=segmentation", *STILL),
    "audio": ("task=audio", *STILL_SOUND),
}


class Card:
    """What is measured and how large.

    Args:
        device: ``cuda`` or ``cpu``.
        tiny: Whether small sizes will do.
        settings: Rounds and scratch.
    """

    def __init__(self, device: str, tiny: bool, settings: Settings) -> None:
        self.device, self.tiny, self.settings = device, tiny, settings
        self.engine = ("trainer=gpu" if device == "cuda" else "trainer=cpu", "trainer.max_epochs=1")

    def resnet50(self) -> Result:
        """Steps of ours against those of timm's resnet50 in a plain loop, compiled both where the project can."""
        size, batch, turn = (32, 4, 1) if self.tiny else (224, 256, 20)
        compiled = has("compile") and not self.tiny
        words = ("backbone=resnet50", "recipe/optimizer=sgd", f"data.size={size}", f"data.batch_size={batch}", *STILL)
        words = (*self.engine, *words, "data.channels=3", *(("compile=true",) if compiled else ()))
        beside = Steps(lambda trainer, first: Synthetic(first, self.device, compiled).step, turn)
        self.fit(words, beside, turn)
        notes = [
            f"compiled: {'both' if compiled else 'neither'}",
            f"our first {turn} steps {turn * beside.first:.0f} s",
        ]
        return compared(beside.ours, beside.theirs, "pictures/s", batch, notes)

    def task(self, words: tuple[str, ...]) -> Result:
        """Steps of a task on its house data at default settings against a plain loop of the same arithmetic."""
        turn = 1 if self.tiny else 20
        few = ("data.batch_size=2",) if self.tiny else ()
        beside = Steps(stepping, turn)
        self.fit((*self.engine, *words, *few), beside, turn)
        return compared([1000 * x for x in beside.ours], [1000 * x for x in beside.theirs], "ms/step")

    def fit(self, words: tuple[str, ...], beside: Steps, turn: int) -> None:
        run(words, self.settings.scratch, beside, Memory(2, turn * (self.settings.rounds + 1), self.device))

    def resume(self) -> Result:
        """The largest difference of a weight between a run that was stopped and resumed and one that was not."""
        few = ("trainer.limit=3", "backbone=resnet20", "data.batch_size=8") if self.tiny else ()
        words = (self.engine[0], "trainer.max_epochs=2", "callbacks.visualize=null", *few)
        stop, (whole, parted) = (4 if self.tiny else 30), (self.settings.scratch / name for name in ("whole", "parted"))
        call(0, "train.py", *words, f"run_dir={whole}")
        call(143, "-m", "benchmarks.leaving", str(stop), "term", *words, f"run_dir={parted}")
        call(0, "train.py", f"resume={parted}")
        one, other = (weights(folder / "checkpoints" / "last.ckpt") for folder in (whole, parted))
        apart = max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
        return Result(apart, "", notes=["largest difference of a weight; 0 is bit for bit"])


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return found


def call(code: int, *words: str) -> None:
    """Run Python with these words, which must end with `code`."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode} instead of {code}: {done.stderr[-2000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path, default=ROOT / "outputs" / "benchmarks_gpu.json")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.gpu: no GPU is here: say --device cpu --tiny to see that it runs", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        card = Card(given.device, given.tiny, Settings(Path(), Path(scratch), 1 if given.tiny else given.rounds))
        found = measure(card)
    name = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({"device": name, "tiny": given.tiny, "rows": found}, indent=2) + "\n")
    Console(width=None if sys.stdout.isatty() else 160).print(as_table(found, name))
    return 1 if any("failed" in result for result in found.values()) else 0


def measure(card: Card) -> dict[str, dict[str, Any]]:
    """All rows; one that fails leaves the others be."""
    work = {"gpu.resnet50": card.resnet50}
    work |= {f"gpu.{name}": lambda words=words: card.task(words) for name, words in FOUR.items()}  # type: ignore[misc]
    work["gpu.resume"] = card.resume
    found: dict[str, dict[str, Any]] = {}
    for name, function in work.items():
        try:
            found[name] = function().as_dict()
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        print(f"{name}: {found[name].get('failed', 'done')}", file=sys.stderr, flush=True)
    return found


def as_table(found: dict[str, dict[str, Any]], name: str) -> Table:
    table = Table("row", "ours", "plain loop", "ratio", "lowest to highest", "notes", title=name)
    for row, result in found.items():
        if "failed" in result:
            table.add_row(row, "failed", "", "", "", result["failed"][:200])
            continue
        both = result["ratio"] is not None
        table.add_row(
            row,
            f"{result['ours']:.4g} {result['unit']}",
            f"{result['theirs']:.4g} {result['unit']}" if both else "",
            f"{result['ratio']:.3f}" if both else "",
            f"{result['low']:.3f} to {result['high']:.3f}" if both else "",
            "; ".join(result["notes"]),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())

"""Going on with a run: the youngest checkpoint that can be read, and whether it belongs to this data and these processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.storage.safe_load import safe_load
from foundation.structures import InputError, Spec
from resmet.checkpoints.layout import candidates
from tasks.base import Task


@dataclass(frozen=True)
class Start:
    """Where a run goes on.

    Attributes:
        path: The checkpoint.
        notes: What a person should know.
        epoch: The epoch that comes next or is not done, from 0.
        batch: The batch of it that comes next.
        processes: How many processes trained it.
        stopped: Whether early stopping had ended it.
        precision: What it computed in; empty where the run did not say.
    """

    path: Path
    notes: tuple[str, ...]
    epoch: int
    batch: int
    processes: int
    stopped: bool
    precision: str = ""


def find_start(folder: Path, task: Task, data: Any) -> Start:
    """The youngest checkpoint of a run folder that can be read.

    Raises:
        InputError: If there is none, or the data describes itself otherwise than the run's did.
    """
    notes: list[str] = []
    for path in candidates(folder / "checkpoints"):
        try:
            content = safe_load(path)
            position = content["position"]
            task.run_state.load_state_dict(content["run_state"])
        except (InputError, KeyError, TypeError) as error:
            said = error if isinstance(error, InputError) else "it is no checkpoint of a run"
            notes.append(f"{path.name} can't be read ({said})")
            continue
        refuse_other_data(content, task, data)
        if notes:
            notes.append(f"the run goes on from {path.name}, epoch {position['epoch'] + 1}, batch {position['batch']}")
        keys = ("epoch", "batch", "processes", "stopped")
        return Start(
            path,
            tuple(notes),
            **{key: position[key] for key in keys},
            precision=position.get("precision", ""),
        )
    raise InputError(
        f"{folder}/checkpoints holds nothing to go on from ({'; '.join(notes) or 'no last.ckpt'}): start anew with another run_dir"
    )


def recall(folder: Path, data: Any) -> None:
    """Let `data` leave out what the run in `folder` had left out, and nothing else: items keep their numbers. Call before `prepare`."""
    for path in candidates(folder / "checkpoints"):
        try:
            content = safe_load(path, mapped=True)
            names, spec = content["excluded_names"], Spec.from_dict(content["spec"])
        except Exception:  # `find_start` says so
            continue
        for name, part in data.parts.items():
            part.exclude_items(set(names), spec.parts.get(name) if name else spec)
        return


def excluded_names(data: Any) -> list[str]:
    """The names of all items that were left out; of all parts where data is joint."""
    return [name for part in data.parts.values() for name in part.excluded_names]


def refuse_other_data(content: dict[str, Any], task: Task, data: Any) -> None:
    """Stop where the data is not what the run was trained on."""
    old, new = Spec.from_dict(content["spec"]).to_dict(), task.spec.to_dict()
    differ = [f"{key}: was {old[key]}, is {new[key]}" for key in new if plain(old[key]) != plain(new[key])]
    was = content.get("items", {})
    differ += [
        f"{split}: items have other names or sizes than those of the run"
        for split, mark in marks(data).items()
        if not alike(was.get(split, mark), mark)
    ]
    if differ:
        raise InputError(
            f"the data is not what this run was trained on ({'; '.join(differ)[:300]}): bring it back, or start a new run"
        )


def alike(one: str, other: str) -> bool:
    """Whether two fingerprints agree in what both have; one that was taken where files may break has no sizes."""
    return all(a == b or not (a and b) for a, b in zip(one.split(":"), other.split(":"), strict=False))


def marks(data: Any) -> dict[str, str]:
    """A fingerprint of the items of every split."""
    return {
        f"{name}/{split}" if name else split: items.mark()
        for name, part in data.parts.items()
        for split, items in part.splits.items()
    }


def refuse_other_processes(start: Start, world: int) -> None:
    """Stop where a position in the middle of an epoch means other items."""
    if start.batch and start.processes != world:
        raise InputError(
            f"this run was stopped in the middle of epoch {start.epoch + 1} by {start.processes} processes, now there are {world}, "
            f"which would repeat some items and lose others: go on with trainer.devices={start.processes}; "
            "at the end of an epoch their number may change"
        )


def plain(value: Any) -> Any:
    """Tuples as lists, as a checkpoint may have them."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value

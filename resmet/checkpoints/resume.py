"""Where a run resumes: the most recent checkpoint that can be read, if it belongs to this data and these processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.base.datamodule import DataModule
from foundation.structures import InputError, Spec
from resmet.assembly import read_checkpoint
from resmet.checkpoints.layout import candidates
from tasks.base import Task


@dataclass(frozen=True)
class ResumePoint:
    """Where a run resumes.

    Attributes:
        notes: Messages for the log.
        epoch: The epoch to start or to continue, from 0.
        batch: The next batch of it.
        stopped: Whether early stopping had ended it.
        precision: Lightning's precision; empty where the run did not record it.
    """

    path: Path
    notes: tuple[str, ...]
    epoch: int
    batch: int
    processes: int
    stopped: bool
    precision: str = ""

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch}"


def find_resume_point(folder: Path, task: Task, data: DataModule) -> ResumePoint:
    """Returns the most recent checkpoint of a run folder that can be read, after restoring the task's `RunState` from it.

    Raises:
        InputError: If no checkpoint can be read, or the data differs from the run's.
    """
    notes: list[str] = []
    for path in candidates(folder / "checkpoints"):
        try:
            content = read_checkpoint(path)
            position = {key: content["position"][key] for key in ("epoch", "batch", "processes", "stopped")}
            task.run_state.load_state_dict(content["run_state"])
        except InputError as error:
            notes.append(str(error))
            continue
        except (KeyError, TypeError):
            notes.append(f"{path} has no position to resume from")
            continue
        check_data(content, task, data)
        point = ResumePoint(path, tuple(notes), **position, precision=content["position"].get("precision", ""))
        more = (f"the run resumes from {path.name}, {point}",) if notes else ()
        return replace(point, notes=(*notes, *more))
    causes = "; ".join(notes) or "no last.ckpt"
    text = f"{folder}/checkpoints holds nothing to resume from ({causes}): start again with another run_dir"
    raise InputError("checkpoint.none", text)


def restore_exclusions(folder: Path, data: DataModule) -> None:
    """Lets `data` exclude the items that the run in `folder` had excluded, and no others, so that the indices of items stay the same.

    Call before the data is read.
    """
    for path in candidates(folder / "checkpoints"):
        try:
            content = read_checkpoint(path, mmap=True)
            names, spec = content["excluded_names"], Spec.from_dict(content["spec"])
        except (InputError, KeyError, TypeError):  # reported by `find_resume_point`
            continue
        for name, part in data.parts.items():
            part.exclude_items(set(names), spec.parts.get(name) if name else spec)
        return


def excluded_names(data: DataModule) -> list[str]:
    """Returns the names of all excluded items."""
    return [name for part in data.parts.values() for name in part.excluded_names]


def fingerprints(data: DataModule) -> dict[str, str]:
    """Returns a fingerprint of the items of every split, by ``split`` or ``part/split``."""
    return {
        f"{name}/{split}" if name else split: items.fingerprint()
        for name, part in data.parts.items()
        for split, items in part.datasets.items()
    }


def check_data(content: dict[str, Any], task: Task, data: DataModule) -> None:
    """Refuses data that differs from what the run was trained on."""
    old, new = (Spec.from_dict(spec).to_dict() for spec in (content["spec"], task.spec.to_dict()))
    differ = [f"{key}: was {old[key]}, is {new[key]}" for key in new if old[key] != new[key]]
    saved = content.get("items", {})
    differ += [
        f"{split}: the names or sizes of its items differ from the run's"
        for split, fingerprint in fingerprints(data).items()
        if not equal_fingerprints(saved.get(split, fingerprint), fingerprint)
    ]
    if differ:
        found = "; ".join(differ)[:300]
        text = f"the data is not what this run was trained on ({found}): restore it, or start a new run"
        raise InputError("checkpoint.other_data", text)


def equal_fingerprints(one: str, other: str) -> bool:
    """Whether two fingerprints agree in the fields that both have; one of data with unreadable files has no sizes."""
    return all(a == b or not (a and b) for a, b in zip(one.split(":"), other.split(":"), strict=False))


def check_processes(point: ResumePoint, world_size: int) -> None:
    """Refuses another number of processes in the middle of an epoch, whose remaining items each process numbers differently."""
    if point.batch and point.processes != world_size:
        text = f"can't resume in the middle of epoch {point.epoch + 1} with another number of processes: the checkpoint has"
        remedy = f"use trainer.devices={point.processes}; at the end of an epoch the number may change"
        raise InputError("checkpoint.other_processes", f"{text} {point.processes}, this run {world_size}: {remedy}")

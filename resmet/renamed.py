"""Old names of config keys, classes and checkpoint entries, so that old command lines, configs and checkpoints are understood.

Imports nothing, so that a command can answer an old key before torch is imported.

To rename something, add one line in the commit that renames it:

- a config key: to `KEYS`, both sides dotted as on the command line (``data.`` also covers ``data.parts.<name>.``, and ``task.``
  covers ``task.tasks.<name>.``). A key that moves into a node that did not exist before also needs that node in `NODES`;
  one that only some classes rename needs `ONLY`; a value that is written differently now needs `VALUES`.
- a class or function that conf/ names: to `TARGETS`.
- an entry of a checkpoint: to `CHECKPOINT_KEYS`; a callback class with a state dict: to `CALLBACKS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from typing import Any

KEYS: dict[str, str | tuple[str, ...]] = {
    "every": "checkpoint_every",
    "budget": "time_budget",
    "pictures": ("image_format", "draw"),  # of pack and of predict
    "data.workers": "data.num_workers",
    "data.on_bad": "data.on_error",
    "data.nearby": "data.shuffle_shards",
    "data.augment.flip": "data.augment.horizontal_flip",
    "data.augment.flip_vertical": "data.augment.vertical_flip",
    "data.augment.colour": "data.augment.color_jitter",
    "data.augment.policy": "data.augment.auto_augment",
    "data.augment.erase": "data.augment.random_erasing",
    "data.augment.rotate": "data.augment.degrees",
    "data.augment.shift": "data.augment.translate",
    "data.augment.crop": "data.augment.random_crop",
    "data.augment.mask": "data.augment.time_mask",
    "recipe.floor": "recipe.min_lr_ratio",
    "recipe.clip": "recipe.gradient_clip_norm",
    "recipe.stage_decay": "recipe.layer_decay",
    "recipe.deep_head": "recipe.deep_head_lr_scale",
    "recipe.scaling": "recipe.lr_scaling",
    "recipe.base_batch": "recipe.base_batch_size",
    "recipe.plan": "recipe.freeze",
    "recipe.plan.waking": "recipe.freeze.unfreezing",
    "recipe.plan.keep": "recipe.freeze.cache_features",
    "trainer.accumulate": "trainer.accumulate_grad_batches",
    "trainer.every": "trainer.check_val_every_n_epoch",
    "trainer.limit": ("trainer.limit_train_batches", "trainer.limit_val_batches", "trainer.limit_test_batches"),
    "callbacks.saving": "callbacks.checkpoint",
    "callbacks.guard": "callbacks.nan_guard",
    "callbacks.guard.slower": "callbacks.nan_guard.lr_factor",
    "callbacks.pictures": "callbacks.visualize",
    "callbacks.progress": "callbacks.progress_bar",
    "task.head.width": "task.head.fpn.out_channels",
    "task.head.strides": "task.head.fpn.strides",
    "task.head.pool": "task.head.fpn.extra_pool_level",
    "task.head.anchor": "task.head.anchors.size",
    "task.head.ratios": "task.head.anchors.aspect_ratios",
    "task.head.proposals": "task.head.sampling.post_nms_top_n",
    "task.head.sampled": "task.head.sampling.batch_size_per_image",
    "task.head.hidden": "task.head.representation_size",
    "task.head.threshold": "task.head.score_threshold",
    "sweep.launcher.cards": "sweep.launcher.gpus",
    "sweep.launcher.partition": "sweep.launcher.sbatch.partition",
    "sweep.launcher.account": "sweep.launcher.sbatch.account",
    "sweep.launcher.qos": "sweep.launcher.sbatch.qos",
    "sweep.launcher.constraint": "sweep.launcher.sbatch.constraint",
    "sweep.startup": "sweep.startup_trials",
    "sweep.warmup": "sweep.warmup_epochs",
}
"""{old key: new key, or all of them where it was split}."""

ONLY: dict[str, str] = {"data.augment.shift": "Augment"}
"""{old key: name of the class whose key it was}, where other classes of the same group still have a key of that name."""

NODES: dict[str, str] = {
    "task.head.fpn": "heads.rcnn_defaults.FPNOptions",
    "task.head.anchors": "heads.rcnn_defaults.AnchorOptions",
    "task.head.sampling": "heads.rcnn_defaults.SamplingOptions",
}
"""{new node: its ``_target_``}, for nodes that old configs do not have."""

VALUES: dict[str, dict[Any, Any]] = {"data.augment.auto_augment": {"trivial": "trivialaugment"}}
"""{new key: {old value: new value}}, for values that are written differently now."""

TARGETS = {
    "datamodules.audio_csv.AudioCsv": "datamodules.formats.audio_csv.AudioCsv",
    "datamodules.audio_folder.AudioFolder": "datamodules.formats.audio_folder.AudioFolder",
    "datamodules.augment.Augment": "datamodules.transforms.augment.Augment",
    "datamodules.augment.SoundAugment": "datamodules.transforms.augment.AudioAugment",
    "datamodules.coco.Coco": "datamodules.formats.coco.Coco",
    "datamodules.house.Digits": "datamodules.synthetic.Digits",
    "datamodules.house.Scenes": "datamodules.synthetic.Scenes",
    "datamodules.house.Tones": "datamodules.synthetic.Tones",
    "datamodules.idx.Idx": "datamodules.formats.idx.Idx",
    "datamodules.image_csv.ImageCsv": "datamodules.formats.image_csv.ImageCsv",
    "datamodules.image_folder.ImageFolder": "datamodules.formats.image_folder.ImageFolder",
    "datamodules.joint.JointData": "datamodules.joint.JointDataModule",
    "datamodules.mask_folder.MaskFolder": "datamodules.formats.mask_folder.MaskFolder",
    "datamodules.sharded.Sharded": "datamodules.formats.sharded.Sharded",
    "datamodules.splits.Splits": "datamodules.splits.splits.Splits",
    "datamodules.voc.Voc": "datamodules.formats.voc.Voc",
    "datamodules.yolo.Yolo": "datamodules.formats.yolo.Yolo",
    "runs.guard.Guard": "resmet.callbacks.nan_guard.NanGuard",
    "runs.launching.Local": "resmet.sweeps.launchers.LocalLauncher",
    "runs.launching.Slurm": "resmet.sweeps.launchers.SlurmLauncher",
    "runs.loggers.mlflow": "resmet.engine.loggers.mlflow",
    "runs.loggers.tensorboard": "resmet.engine.loggers.tensorboard",
    "runs.loggers.wandb": "resmet.engine.loggers.wandb",
    "runs.pictures.Pictures": "resmet.callbacks.visualize.Visualize",
    "runs.progress.Progress": "resmet.callbacks.progress_bar.RunProgressBar",
    "runs.saving.Saving": "resmet.callbacks.checkpoint.CheckpointWriter",
    "runs.searching.Grid": "resmet.sweeps.search.Grid",
    "runs.searching.Optuna": "resmet.sweeps.search.Optuna",
    "runs.trainer.make_trainer": "resmet.engine.trainer.TrainerConfig",
    "tasks.freezing.Plan": "tasks.optim.freezing.FreezeSchedule",
    "tasks.recipe.Recipe": "tasks.optim.recipe.Recipe",
}
"""{old ``_target_``: new one}, of classes and functions that conf/ named."""

CHECKPOINT_KEYS: dict[str, str] = {"slower": "lr_scale"}
"""{old dotted key of a checkpoint: new one}."""

CALLBACKS: dict[str, str] = {}
"""{old class name: new one} of callbacks whose state dict a checkpoint holds."""

PARTS = {"data": "parts", "task": "tasks"}
"""Groups whose node may hold further nodes of the group, by name, and under which key."""


def new_name(key: str, known: Collection[str] = ()) -> str | None:
    """Returns the present name of an old config key, several joined by "and"; None for a key that was not renamed.

    Args:
        key: Dotted, as on the command line; it may lie below a node that was renamed.
        known: Keys of the command, among which the new name of a top-level key must be.
    """
    sections = key.split(".")
    prefix = ""
    if len(sections) > 3 and PARTS.get(sections[0]) == sections[1]:  # data.parts.shapes.workers is data.workers
        prefix, sections = ".".join(sections[:3]) + ".", [sections[0], *sections[3:]]
    for end in range(len(sections), 0, -1):
        new = KEYS.get(".".join(sections[:end]))
        if new is None:
            continue
        found = [new] if isinstance(new, str) else list(new)
        found = [".".join([name, *sections[end:]]) for name in found]
        if prefix:
            found = [prefix + name.partition(".")[2] for name in found]
        if known and "." not in key:  # commands have top-level keys of one name and different meanings
            found = [name for name in found if name in known]
        return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]])) or None
    return None


def convert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a run's config with present names. A config that has no old name is returned unchanged.

    Args:
        config: Plain values, as a checkpoint or a run folder's ``config.yaml`` holds them.
    """
    converted: dict[str, Any] = deepcopy(dict(config))
    _rename(converted, "")
    for group, key in PARTS.items():
        node = converted.get(group)
        parts = node.get(key) if isinstance(node, dict) else None
        for part in parts.values() if isinstance(parts, dict) else ():
            if isinstance(part, dict):
                _rename(part, f"{group}.")
    for node in _nodes(converted):
        target = node.get("_target_")
        if isinstance(target, str) and target in TARGETS:
            node["_target_"] = TARGETS[target]
    return converted


def convert_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint with present names, its config's included; tensors are shared with the argument."""
    converted = dict(checkpoint)
    if isinstance(converted.get("config"), Mapping):
        converted["config"] = convert_config(converted["config"])
    if isinstance(converted.get("callbacks"), Mapping):
        converted["callbacks"] = {CALLBACKS.get(name, name): state for name, state in converted["callbacks"].items()}
    for old, new in CHECKPOINT_KEYS.items():
        found, value = _take(converted, old)
        if found:
            _put(converted, new, value)
    return converted


def _rename(unit: dict[str, Any], prefix: str) -> None:
    """Renames the keys of `unit` in place; `prefix` is the group whose node it is, with a dot."""
    moved: list[tuple[str, Any]] = []
    for old in sorted(KEYS, key=lambda name: -name.count(".")):  # what a node holds before the node
        if not old.startswith(prefix):
            continue
        path = old.removeprefix(prefix)
        if old in ONLY and not _class_of(unit, path.rpartition(".")[0]).endswith(f".{ONLY[old]}"):
            continue
        found, value = _take(unit, path)
        new = KEYS[old]
        if found:
            moved += [(name, value) for name in ([new] if isinstance(new, str) else new)]
    for name, value in sorted(moved, key=lambda item: item[0].count(".")):
        options = VALUES.get(name, {})
        value = options[value] if isinstance(value, str | int | float | None) and value in options else value
        _put(unit, name.removeprefix(prefix), value, prefix)


def _take(node: Any, path: str) -> tuple[bool, Any]:
    """Removes the value at the dotted `path`; returns whether it was there, and it."""
    *above, last = path.split(".")
    for key in above:
        node = node.get(key) if isinstance(node, dict) else None
    return (True, node.pop(last)) if isinstance(node, dict) and last in node else (False, None)


def _put(node: dict[str, Any], path: str, value: Any, prefix: str = "") -> None:
    """Sets the value at the dotted `path`, making the nodes above it."""
    *above, last = path.split(".")
    for depth, key in enumerate(above, start=1):
        target = NODES.get(prefix + ".".join(above[:depth]))
        if not isinstance(node.get(key), dict):
            node[key] = {"_target_": target} if target else {}
        node = node[key]
    if isinstance(value, dict) and isinstance(node.get(last), dict):
        value = value | node[last]
    node[last] = value


def _class_of(node: Any, path: str) -> str:
    """The ``_target_`` of the node at `path`, with a dot before it; "" where there is none."""
    for key in path.split(".") if path else ():
        node = node.get(key) if isinstance(node, dict) else None
    return f".{node.get('_target_', '')}" if isinstance(node, dict) else ""


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a config."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nodes(inner)
    if isinstance(value, dict):
        yield value

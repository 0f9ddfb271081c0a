"""Old names of config keys, classes and checkpoint entries, so that old command lines, configs and checkpoints are understood.

Imports nothing, so that a command can answer an old key before torch is imported.

To rename something, add one line in the commit that renames it:

- a config key: to `KEYS`, both sides dotted as on the command line (``data.`` also covers ``data.parts.<name>.``, and ``task.``
  covers ``task.tasks.<name>.``). A key that moves into a node that did not exist before also needs that node in `NODES`;
  one that only some classes rename needs `ONLY`; a value that is written differently now needs `VALUES`.
- a class or function that conf/ names: to `TARGETS`.
- a top-level entry of a checkpoint: to `CHECKPOINT_KEYS`.
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
    "task.head.fpn": "heads.rcnn_options.FPNOptions",
    "task.head.anchors": "heads.rcnn_options.AnchorOptions",
    "task.head.sampling": "heads.rcnn_options.SamplingOptions",
}
"""{new node: its ``_target_``}, for nodes that old configs do not have."""

VALUES: dict[str, dict[str, str]] = {"data.augment.auto_augment": {"trivial": "trivialaugment"}}
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
    "heads.rcnn_defaults.AnchorOptions": "heads.rcnn_options.AnchorOptions",
    "heads.rcnn_defaults.FPNOptions": "heads.rcnn_options.FPNOptions",
    "heads.rcnn_defaults.SamplingOptions": "heads.rcnn_options.SamplingOptions",
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
"""{old key of a checkpoint: new one}."""

PARTS = {"data": "parts", "task": "tasks"}
"""Groups whose node may hold further nodes of the group, by name, and under which key."""

KeyPath = tuple[str, ...]


def new_name(key: str, known: Collection[str] = ()) -> str | None:
    """Returns the present name of an old config key, several joined by "and"; None for a key that was not renamed.

    Args:
        key: Dotted, as on the command line; it may lie below a node that was renamed.
        known: Keys of the command, among which the new name of a top-level key must be.
    """
    found = [".".join(path) for path in _present(tuple(key.split(".")))]
    if known and "." not in key:  # commands have top-level keys of one name and different meanings
        found = [name for name in found if name in known]
    return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]])) if found and found != [key] else None


def convert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a run's config with present names. A config that has no old name is returned unchanged.

    Args:
        config: Plain values, as a checkpoint or a run folder's ``config.yaml`` holds them.
    """
    leaves = dict(_leaves(config, ()))
    converted: dict[str, Any] = {}
    for path, value in leaves.items():
        owner = ONLY.get(_canonical(path))
        exempt = owner and not str(leaves.get((*path[:-1], "_target_"))).endswith(f".{owner}")
        for new in [path] if exempt else _present(path):
            _put(converted, new, deepcopy(value), replace=new == path)
    return converted


def convert_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint with present names, its config's included; tensors are shared with the argument."""
    converted = {CHECKPOINT_KEYS.get(key, key): value for key, value in checkpoint.items()}
    if isinstance(converted.get("config"), Mapping):
        converted["config"] = convert_config(converted["config"])
    return converted


def _leaves(node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yields (path, value) of all values below a node; lists and empty mappings are values."""
    if not isinstance(node, Mapping) or (path and not node):
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, (*path, key))


def _put(config: dict[str, Any], path: KeyPath, value: Any, replace: bool) -> None:
    """Sets the value at `path`, making the nodes above it; a value that is there is replaced only if `replace`."""
    node = config
    for depth, key in enumerate(path[:-1], start=1):
        target = NODES.get(_canonical(path[:depth]))
        if not isinstance(node.get(key), dict):
            node[key] = {"_target_": target} if target else {}
        node = node[key]
    if isinstance(value, str):
        value = (TARGETS if path[-1] == "_target_" else VALUES.get(_canonical(path), {})).get(value, value)
    if replace or path[-1] not in node:
        node[path[-1]] = value


def _canonical(path: KeyPath) -> str:
    """Returns a dotted key; of a part of joint data, or of a joint task, that of the group: data.parts.shapes.size is data.size."""
    return ".".join(map(str, path[:1] + path[3:] if _in_part(path) else path))


def _in_part(path: KeyPath) -> bool:
    return len(path) > 3 and PARTS.get(path[0]) == path[1]


def _present(path: KeyPath) -> list[KeyPath]:
    """Returns the present paths of a config key; of one that was not renamed, `path`."""
    for end in range(len(path), 0, -1):
        if new := KEYS.get(_canonical(path[:end])):
            names = [tuple(name.split(".")) for name in ([new] if isinstance(new, str) else new)]
            return [(*(path[:3] + name[1:] if _in_part(path) else name), *path[end:]) for name in names]
    return [path]

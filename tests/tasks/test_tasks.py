"""Laws of all tasks."""

import pytest
import torch
from refusals import refused
from small_runs import SMALL_RCNN
from torch import nn

from backbones.resnet import ResNet
from datamodules.joint import JointDataModule
from datamodules.loading.collate import collate
from datamodules.synthetic import Digits, Scenes, Tones
from foundation.structures import IGNORE, Spec
from foundation.targets.kinds import TARGETS
from tasks.audio import Audio
from tasks.classification import Classification
from tasks.detection import Detection
from tasks.joint import Joint
from tasks.segmentation import Segmentation

RGB = {"ndim": 2, "channels": 3}


def net(spec: Spec, **more: object) -> ResNet:
    return ResNet(18, width=8, ndim=spec.ndim, in_channels=spec.channels, **more)


def make(kind: type, spec: Spec):
    torch.manual_seed(0)
    return kind(net(spec), spec).eval()


def house(kind: str, count: int = 20):
    data = {
        "classification": lambda: Digits(),
        "detection": lambda: Scenes(target="boxes", count=count),
        "segmentation": lambda: Scenes(target="mask", count=count),
        "audio": lambda: Tones(count=200),
        "multilabel": lambda: Scenes(target="labels", count=count),
    }[kind]()
    data.setup("fit")
    return data


TASKS = {
    "classification": Classification,
    "detection": Detection,
    "segmentation": Segmentation,
    "audio": Audio,
    "multilabel": Classification,
}


def score(task, data, stage: str = "test") -> dict[str, float]:
    with torch.inference_mode():
        for batch in data.dataloader(stage):
            task.evaluate_batch(stage, batch)
    return task.compute_metrics(stage)


@pytest.mark.parametrize("kind", TASKS)
def test_losses_are_finite_and_reach_every_parameter(kind: str) -> None:
    data = house(kind)
    task = make(TASKS[kind], data.spec).train()
    batch = next(iter(data.dataloader("train")))
    losses = task.losses(task.encode(batch), batch)
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert not [name for name, p in task.named_parameters() if p.grad is None]


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("classification", 0.02, 0.25), ("audio", 0.1, 0.35), ("detection", 0.0, 0.05), ("segmentation", 0.0, 0.3)],
)
def test_an_untrained_head_is_at_chance(kind: str, low: float, high: float) -> None:
    data = house(kind, 100)
    task = make(TASKS[kind], data.spec)
    assert low <= score(task, data)[task.score] <= high


def test_targets_as_predictions_score_one() -> None:
    for kind in ("detection", "segmentation"):
        data = house(kind, 50)
        task = make(TASKS[kind], data.spec)
        for batch in data.dataloader("test"):
            if kind == "detection":
                predictions = [t | {"scores": torch.ones(len(t["labels"]))} for t in batch["target"]]
            else:
                predictions = [{"mask": mask.long()} for mask in batch["target"]]
            task.update("test", predictions, batch)
        assert all(value == pytest.approx(1.0) for value in task.compute_metrics("test").values())


def test_metrics_are_computed_over_the_whole_set() -> None:
    """Not as the mean of the batches' means."""
    spec = Spec(**RGB, class_names=("a", "b"))
    task = make(Classification, spec)
    certain = torch.tensor([1.0, 0.0])
    for labels in ([0, 0, 0, 0], [1]):
        batch = {"target": torch.tensor(labels)}
        task.update("test", [{"probabilities": certain} for _ in labels], batch)
    assert task.compute_metrics("test")["accuracy"] == pytest.approx(4 / 5)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 1), (5, 90)])
@pytest.mark.parametrize("names", [("background", "cell"), ("background", "a", "b"), ("a", "b")])
@pytest.mark.parametrize("stem", ["large", "small"])
def test_segmentation_of_any_size(size: tuple[int, int], names: tuple[str, ...], stem: str) -> None:
    spec = Spec(**RGB, class_names=names, target="mask")
    task = Segmentation(net(spec, stem=stem), spec).eval()
    image, mask = torch.zeros(3, *size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    batch = collate([(image, mask, "a"), (image[:, :1, :1], mask[:1, :1], "b")], TARGETS["mask"])
    masks = [prediction["mask"].shape for prediction in task(batch)]
    assert masks == [torch.Size(size), torch.Size((1, 1))]
    assert all(torch.isfinite(v) for v in task.losses(task.encode(batch), batch).values())


@pytest.mark.parametrize("names", [("background", "cell"), ("a", "b", "c")])
def test_ignored_pixels_change_neither_loss_nor_metrics(names: tuple[str, ...]) -> None:
    spec = Spec(**RGB, class_names=names, target="mask")
    task = make(Segmentation, spec)
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    mask = torch.randint(0, 2, (32, 32), dtype=torch.uint8)
    mask[:16] = IGNORE
    features = task.encode(collate([(image, mask, "x")], TARGETS["mask"]))
    head = task.head
    logits = head(features).detach()
    other = logits.clone()
    other[:, :, :16] += torch.randn_like(other[:, :, :16]) * 9
    results = []
    for values in (logits, other):
        task.logits = lambda features, batch, values=values: values  # type: ignore[method-assign]
        batch = collate([(image, mask, "x")], TARGETS["mask"])
        losses = task.losses(features, batch)
        task.update("test", task.predict(features, batch), batch)
        results.append((float(sum(losses.values())), task.compute_metrics("test")))
        task.metrics["test"].reset()
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert results[0][1] == results[1][1]
    del task.logits
    empty = collate([(image, torch.full((32, 32), IGNORE, dtype=torch.uint8), "x")], TARGETS["mask"])
    assert all(torch.isfinite(v) for v in task.losses(task.encode(empty), empty).values())


def test_detection_without_any_object_has_finite_losses() -> None:
    spec = Spec(**RGB, class_names=("a",), target="boxes")
    task = make(Detection, spec).train()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    batch = collate([(torch.zeros(3, 64, 64, dtype=torch.uint8), nothing, "x")] * 2, TARGETS["boxes"])
    losses = task.losses(task.encode(batch), batch)
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())


@pytest.mark.slow
def test_detection_shifts_labels_past_the_background() -> None:
    """If label 0 were the background, nothing would be detected."""
    spec = Spec(**RGB, class_names=("thing",), target="boxes", mean=(128.0,) * 3, std=(64.0,) * 3)
    torch.manual_seed(0)
    task = Detection(ResNet(18, width=16), spec, head=SMALL_RCNN)
    image = torch.full((3, 64, 64), 30, dtype=torch.uint8)
    image[:, 16:48, 16:48] = 220
    target = {"boxes": torch.tensor([[16.0, 16.0, 48.0, 48.0]]), "labels": torch.tensor([0])}
    batch = collate([(image, target, "x")] * 2, TARGETS[spec.target])
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(task.losses(task.encode(batch), batch).values()).backward()
        optimizer.step()
    task.eval().evaluate_batch("test", batch)
    assert set(task(batch)[0]["labels"].tolist()) == {0}
    assert task.compute_metrics("test")["map_50"] > 0.9


def test_joint_has_one_backbone() -> None:
    parts = {
        "digits": Digits(channels=3),
        "shapes": Scenes(target="boxes", count=20),
        "regions": Scenes(target="mask", count=20),
    }
    data = JointDataModule(parts)
    data.setup("fit")
    spec, backbone = data.spec, ResNet(18, width=8)
    tasks = {"digits": Classification, "shapes": Detection, "regions": Segmentation}
    joint = Joint(backbone, spec, tasks, {"shapes": 0.5})
    keys = [name for name in joint.state_dict() if name.endswith("conv1.weight") and "layer" not in name]
    assert keys == ["backbone.conv1.weight"]
    batch = next(iter(data.dataloader("train")))[0]
    assert {name: len(part["names"]) for name, part in batch.items()} == {"digits": 32, "shapes": 8, "regions": 8}
    losses = joint.losses(joint.encode(batch), batch)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    alone = joint.parts["shapes"].losses(joint.encode(batch)["shapes"], batch["shapes"])
    assert {f"shapes/{name}" for name in alone} < set(losses)
    joint.eval()
    with torch.inference_mode():
        for test in data.dataloader("test"):
            joint.evaluate_batch("test", test[0])
    results = joint.compute_metrics("test")
    scores = [results["digits/accuracy"], results["shapes/map_50"], results["regions/dice"]]
    assert results["mean"] == pytest.approx(sum(scores) / 3)


def test_joint_refuses_other_names() -> None:
    spec = Spec(**RGB, target="parts", parts={"a": Spec(**RGB, class_names=("x", "y"))})
    with refused("config.parts_differ"):
        Joint(ResNet(18, width=8), spec, {"b": Classification})


@pytest.mark.parametrize(
    ("kind", "target"), [(Classification, "boxes"), (Detection, "label"), (Segmentation, "boxes"), (Audio, "mask")]
)
def test_data_of_another_task_is_refused(kind: type[nn.Module], target: str) -> None:
    with refused("task.wrong_target"):
        kind(ResNet(18, width=8), Spec(**RGB, class_names=("a", "b"), target=target))


def test_missing_strides_are_refused() -> None:
    spec = Spec(**RGB, class_names=("a",), target="boxes")
    with refused("backbone.missing_strides"):
        Detection(ResNet(20, width=8, stem="small"), spec)

"""COCO mAP equals torchmetrics', except that undefined values are NaN."""

import pytest
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from tasks import coco_map
from tasks.coco_map import NAMES, CocoMeanAveragePrecision

Image = dict[str, Tensor]


def random_detections(seed: int, images: int, classes: int, most: int, found: int) -> tuple[list[Image], list[Image]]:
    """Returns detections near objects, some of a wrong class, with many equal scores, and the objects; some images have none."""
    generator = torch.Generator().manual_seed(seed)

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    predicted, true = [], []
    for _ in range(images):
        objects, detections = int(whole(most + 1)), int(whole(found + 1))
        corner = torch.rand(objects, 2, generator=generator) * 200
        boxes = torch.cat([corner, corner + 5 + torch.rand(objects, 2, generator=generator) * 90], 1)
        labels = whole(max(1, classes - 1), objects)  # the last class has no object
        near = whole(objects, detections) if objects else whole(1, 0)
        moved = boxes[near] + torch.randn(len(near), 4, generator=generator) * 4
        ordered = torch.cat([torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])], 1)
        right = torch.rand(len(near), generator=generator) < 0.7
        predicted.append(
            {
                "boxes": ordered,
                "labels": torch.where(right, labels[near], whole(classes, len(near))),
                "scores": whole(50, len(near)) / 50,
            }
        )
        true.append({"boxes": boxes, "labels": labels})
    return predicted, true


def reference(predicted: list[Image], true: list[Image], classes: int) -> dict:
    metric = MeanAveragePrecision(backend="faster_coco_eval", class_metrics=True, extended_summary=True)
    metric.warn_on_many_detections = False
    metric.update(predicted, true)
    values = metric.compute()
    curves = torch.full((classes, 101), float("nan"))
    present = values["classes"].reshape(-1).tolist()
    curves[present] = torch.as_tensor(values["precision"])[0, :, :, 0, -1].T.float()
    curves[curves < 0] = float("nan")
    return {name: float(values[name]) if values[name] >= 0 else float("nan") for name in NAMES} | {"precision": curves}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("images", "classes", "most", "found"),
    [(40, 5, 6, 30), (12, 1, 5, 20), (30, 3, 1, 5), (6, 2, 8, 150), (20, 3, 4, 0), (4, 3, 0, 0), (25, 80, 6, 10)],
)
def test_values_equal_torchmetrics(seed: int, images: int, classes: int, most: int, found: int) -> None:
    predicted, true = random_detections(seed, images, classes, most, found)
    metric = CocoMeanAveragePrecision(classes)
    for i in range(0, images, 3):
        metric.update(predicted[i : i + 3], true[i : i + 3])
    ours, expected = metric.compute(), reference(predicted, true, classes)
    for name in NAMES:
        assert ours[name] == pytest.approx(expected[name], abs=1e-6, nan_ok=True)
    torch.testing.assert_close(ours["precision"], expected["precision"], atol=1e-6, rtol=0, equal_nan=True)


def test_no_items_give_nan() -> None:
    values = CocoMeanAveragePrecision(3).compute()
    assert all(values[name] != values[name] for name in NAMES)
    assert values["precision"].isnan().all()


def test_an_epoch_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, evaluate = [], coco_map.evaluate_coco
    monkeypatch.setattr(coco_map, "evaluate_coco", lambda *given: calls.append(1) or evaluate(*given))
    predicted, true = random_detections(0, 8, 3, 4, 10)
    metric = CocoMeanAveragePrecision(3)
    metric.update(predicted, true)
    first = metric.compute()
    assert metric.compute() is first
    assert len(calls) == 1
    metric.update(predicted, true)
    metric.compute()
    assert len(calls) == 2
    metric.reset()
    assert metric.compute()["map"] != metric.compute()["map"]

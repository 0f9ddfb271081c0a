"""Mixed items, and class weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from backbones.resnet import ResNet
from datamodules.loading.collate import collate
from foundation.structures import Spec
from foundation.targets.kinds import TARGETS
from tasks.classification import Classification
from tasks.optim.class_weights import compute_class_weights
from tasks.optim.mixup import Mixup
from tasks.segmentation import Segmentation

SHAPES = {1: (2, 300), 2: (3, 20, 30), 3: (1, 8, 10, 12)}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3]), st.floats(0.1, 4), st.booleans(), st.booleans())
def test_targets_are_mixed_as_inputs_are(seed: int, ndim: int, alpha: float, cuts: bool, several: bool) -> None:
    """Items are all zeros or all ones in turn, so the mean of a mixed item is the fraction of ones in it."""
    torch.manual_seed(seed)
    x = torch.zeros(4, *SHAPES[ndim])
    x[1::2] = 1.0
    target = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]]) if several else torch.tensor([0, 1, 0, 1])
    mixup = Mixup(0.0 if cuts else alpha, alpha if cuts else 0.0, 2, TARGETS["labels" if several else "label"])
    batch = mixup({"input": x, "target": target, "names": list("abcd")})
    assert batch["input"].shape == x.shape
    assert torch.isfinite(batch["target"]).all()
    torch.testing.assert_close(batch["input"].flatten(1).mean(1), batch["target"][:, 1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(batch["target"].sum(1), torch.ones(4))
    assert batch["names"] == list("abcd")
    if cuts:
        assert set(batch["input"].unique().tolist()) <= {0.0, 1.0}


def test_mixup_can_be_off_and_follows_the_seed() -> None:
    batch = {"input": torch.rand(4, 3, 8, 8), "target": torch.tensor([0, 1, 2, 0])}
    assert Mixup(0.0, 0.0, 3, TARGETS["label"])(batch) is batch
    both = Mixup(1, 1, 3, TARGETS["label"])
    inputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        inputs.append(both(batch)["input"])
    assert torch.equal(inputs[0], inputs[1])
    assert not torch.equal(inputs[0], inputs[2])


@pytest.mark.parametrize("target", ["label", "labels"])
def test_a_mixed_batch_has_a_finite_loss(target: str) -> None:
    spec = Spec(2, 3, ("a", "b", "c"), target=target, counts=(10, 20, 30))
    task = Classification(
        ResNet(18, width=8), spec, label_smoothing=0.1, mixup=0.2, cutmix=1.0, class_weights="balanced"
    )
    truth = torch.tensor([0, 1, 2]) if target == "label" else torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]])
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    batch = collate(
        [(x, y if target == "labels" else int(y), "x") for x, y in zip(images, truth, strict=True)], TARGETS[target]
    )
    for seed in range(4):
        torch.manual_seed(seed)
        mixed = task.mix(batch)
        assert mixed["target"].shape == (3, 3)
        assert all(torch.isfinite(v) for v in task.losses(task.encode(mixed), mixed).values())


def test_balanced_classes_contribute_equally() -> None:
    spec = Spec(2, 3, ("a", "b", "c"), counts=(10, 30, 0))
    weights = compute_class_weights(spec, "balanced")
    assert weights is not None
    assert weights[0] * 10 == pytest.approx(weights[1] * 30)
    assert weights[2] == 1.0
    assert compute_class_weights(spec, "none") is None


@pytest.mark.parametrize("names", [("background", "x"), ("a", "b", "c")])
def test_balanced_weights_raise_the_loss_of_a_rare_class(names: tuple[str, ...]) -> None:
    counts = (99, 1) if len(names) == 2 else (98, 1, 1)
    spec = Spec(2, 3, names, target="mask", counts=counts)
    plain, balanced = (Segmentation(ResNet(18, width=8), spec, class_weights=kind) for kind in ("none", "balanced"))
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[:3] = 1
    batch = collate([(torch.zeros(3, 32, 32, dtype=torch.uint8), mask, "x")], TARGETS["mask"])
    costs = {}
    for name, task in (("plain", plain), ("balanced", balanced)):
        # All pixels are predicted as the frequent class.
        logits = torch.full((1, 1 if task.binary else 3, 32, 32), -4.0)
        logits[:, 0] = -4.0 if task.binary else 4.0
        task.logits = lambda features, batch, logits=logits: logits  # type: ignore[method-assign]
        costs[name] = float(task.losses({}, batch)["cross_entropy"])
    assert costs["balanced"] > 3 * costs["plain"]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"mixup": -1.0}, "config.out_of_range"),
        ({"cutmix": float("nan")}, "config.out_of_range"),
        ({"class_weights": "balanced"}, "task.classes_not_counted"),
        ({"class_weights": "some"}, "task.unknown_class_weights"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict, code: str) -> None:
    with refused(code):
        Classification(ResNet(18, width=8), Spec(2, 3, ("a", "b")), **wrong)

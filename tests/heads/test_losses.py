"""Losses, sampling and batch statistics on one rank equal those of the libraries."""

import pytest
import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn
from torchvision.models.detection.rpn import RegionProposalNetwork

from foundation.parallel.collectives import local_only, mean_over_ranks, sum_over_ranks, world_size
from foundation.parallel.sync_batchnorm import (
    CpuSyncBatchNorm,
    GpuSyncBatchNorm,
    convert_sync_batchnorm,
    synced_batch_norm,
)
from foundation.structures import IGNORE
from heads.balanced_sampler import BalancedSampler
from heads.dice_loss import dice_loss


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
def test_dice_equals_the_library(classes: int, ignored: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, classes, 8, 9)
    target = torch.randint(0, max(2, classes - 1), (3, 8, 9))  # the last of four classes does not occur
    target[torch.rand(target.shape) < ignored] = IGNORE
    theirs = DiceLoss("binary" if classes == 1 else "multiclass", ignore_index=IGNORE)
    ours, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = dice_loss(ours, target)
    expected = theirs(other, target.unsqueeze(1) if classes == 1 else target)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, other.grad)


def test_reductions_on_one_rank_return_their_input() -> None:
    x = torch.randn(3, requires_grad=True)
    assert sum_over_ranks(x) is x
    assert mean_over_ranks(x, 7) is x
    with local_only():
        assert world_size() == 1


def labels() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(-1, 2, (n,), generator=generator).float() for n in (200, 300, 12)]


def test_a_sample_depends_on_the_image_and_not_on_the_batch() -> None:
    sampler, own = BalancedSampler(64, 0.25), labels()
    sampler.set_seeds([5, 6, 7])
    positive, negative = sampler(own)
    again = BalancedSampler(64, 0.25)
    again.set_seeds([7, 5])
    other, _ = again([own[2], own[0]])
    assert torch.equal(other[0], positive[2])
    assert torch.equal(other[1], positive[0])
    again.set_seeds([8, 5])
    assert not torch.equal(again([own[1], own[0]])[1][0], negative[1])


def test_samples_have_the_sizes_of_torchvisions() -> None:
    sampler, own = BalancedSampler(64, 0.25), labels()
    positive, negative = sampler(own)
    theirs = RegionProposalNetwork(None, None, 0.7, 0.3, 64, 0.25, {}, {}, 0.7).fg_bg_sampler(own)  # type: ignore[arg-type]
    for mine, other, value in zip((positive, negative), theirs, (1, 0), strict=True):
        assert [int(mask.sum()) for mask in mine] == [int(mask.sum()) for mask in other]
        assert all((label[mask.bool()] == value).all() for label, mask in zip(own, mine, strict=True))
    assert sampler.sampled == sum(int(mask.sum()) for mask in (*positive, *negative))


@pytest.mark.parametrize(("ndim", "kind"), [(1, nn.BatchNorm1d), (2, nn.BatchNorm2d), (3, nn.BatchNorm3d)])
@pytest.mark.parametrize("affine", [True, False])
def test_statistics_are_torchs_on_one_rank(ndim: int, kind: type, affine: bool) -> None:
    torch.manual_seed(0)
    theirs = kind(4, affine=affine, momentum=0.2)
    holder = nn.Sequential(kind(4, affine=affine, momentum=0.2))
    names = list(holder.state_dict())
    convert_sync_batchnorm(holder, gpu=False)
    ours = holder[0]
    assert type(ours) is CpuSyncBatchNorm
    assert list(holder.state_dict()) == names
    x = 30 + 3 * torch.randn(5, 4, *[6] * ndim)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = synced_batch_norm(ours, a), theirs(b)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    (found**3).sum().backward()
    (expected**3).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_dropout_and_activation_of_timms_norms_are_preserved() -> None:
    import timm

    net = timm.create_model("mobilenetv3_small_050", features_only=True)
    x, names = torch.randn(2, 3, 64, 64), list(net.state_dict())
    net.train()
    torch.manual_seed(0)
    before = [y.detach() for y in net(x)]
    convert_sync_batchnorm(net, gpu=False)
    assert not any(type(module) is nn.BatchNorm2d for module in net.modules())
    assert sum(isinstance(module, CpuSyncBatchNorm) for module in net.modules()) > 20
    assert list(net.state_dict()) == names
    for y, z in zip(before, net(x), strict=True):
        torch.testing.assert_close(y, z)
    convert_sync_batchnorm(holder := nn.Sequential(nn.BatchNorm2d(3)), gpu=True)
    assert type(holder[0]) is GpuSyncBatchNorm

"""ResNet has torchvision's names and outputs, the paper's sizes, and any number of axes."""

from copy import deepcopy

import pytest
import torch
import torchvision
from refusals import refused
from torch import nn

from backbones.resnet import ResNet
from backbones.weights import load_weights

COUNTS = {18: 11.69, 34: 21.80, 50: 25.56, 101: 44.55, 152: 60.19}
CIFAR_COUNTS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.73}


@pytest.mark.slow
@pytest.mark.parametrize("depth", COUNTS)
def test_equals_torchvision(depth: int) -> None:
    peer = getattr(torchvision.models, f"resnet{depth}")().eval()
    state = {name: value for name, value in peer.state_dict().items() if not name.startswith("fc.")}
    net = ResNet(depth).eval()
    assert list(net.state_dict()) == list(state)
    net.load_state_dict(state)
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        logits = peer.fc(net(x)[32].mean((2, 3)))
        assert (logits - peer(x)).abs().max() == 0.0
    head = nn.Linear(net.channels[32], 1000)
    count = sum(p.numel() for module in (net, head) for p in module.parameters())
    assert round(count / 1e6, 2) == COUNTS[depth]


@pytest.mark.parametrize("depth", CIFAR_COUNTS)
def test_cifar_nets_have_the_papers_size(depth: int) -> None:
    net = ResNet(depth, width=16, stem="small")
    count = sum(p.numel() for module in (net, nn.Linear(64, 10)) for p in module.parameters())
    assert round(count / 1e6, 2) == CIFAR_COUNTS[depth]
    assert net.channels == {1: 16, 2: 32, 4: 64}
    assert not any("downsample" in name for name in net.state_dict())


@pytest.mark.parametrize("depth", [18, 20, 50])
@pytest.mark.parametrize("stem", ["large", "small"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_channels_and_strides_are_known_before_a_forward_pass(depth: int, stem: str, ndim: int) -> None:
    net = ResNet(depth, width=8, stem=stem, ndim=ndim, in_channels=2).eval()
    features = net(torch.zeros(1, 2, *[32] * ndim))
    assert {stride: y.shape[1] for stride, y in features.items()} == net.channels
    for stride, y in features.items():
        assert y.shape[2:] == (32 // stride,) * ndim


@pytest.mark.parametrize("depth", [18, 20, 50])
def test_plain_net_has_the_same_depth_and_no_shortcuts(depth: int) -> None:
    plain, residual = ResNet(depth, width=8, shortcut=False), ResNet(depth, width=8)
    kernels = [name for name in residual.state_dict() if "conv" in name]
    assert kernels == [name for name in plain.state_dict() if "conv" in name]
    assert not any("downsample" in name for name in plain.state_dict())
    block = plain.layer1[-1].eval()
    for name, parameter in block.named_parameters():
        if "bn" in name:
            parameter.data.zero_()
    assert block(torch.ones(1, block.conv1.in_channels, 8, 8)).abs().max() == 0.0


def middle(y: torch.Tensor, dim: int) -> torch.Tensor:
    return y.select(dim, y.shape[dim] // 2)


@pytest.mark.parametrize("axes", [1, 3])
def test_a_constant_axis_changes_nothing(tmp_path, axes: int) -> None:
    """Weights adapted to 1 or 3 axes have the same output for a signal that is constant along the removed or added axis, except at borders."""
    flat = ResNet(18, width=8).eval()
    for name, buffer in flat.named_buffers():
        if buffer.ndim:
            buffer.uniform_(0.5, 1.5) if "var" in name else buffer.uniform_(-0.2, 0.2)
    torch.save(flat.state_dict(), tmp_path / "flat.pt")
    other = ResNet(18, width=8, ndim=axes, weights=str(tmp_path / "flat.pt")).eval()
    assert other.match.matched == other.match.total
    with torch.inference_mode():
        if axes == 3:
            image = torch.randn(1, 3, 32, 32)
            want, got = flat(image), other(image.unsqueeze(2).expand(-1, -1, 512, -1, -1))
        else:
            line = torch.randn(1, 3, 64)
            want, got = other(line), flat(line.unsqueeze(2).expand(-1, -1, 512, -1))
        for stride in (2, 4, 8):
            torch.testing.assert_close(middle(got[stride], 2), want[stride], atol=1e-4, rtol=1e-4)


def plain_cifar_logits(state: dict, x: torch.Tensor) -> torch.Tensor:
    """The CIFAR network of the paper as functions of a state dict."""
    f = nn.functional

    def norm(y, name):
        return f.batch_norm(y, *(state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))

    y = f.relu(norm(f.conv2d(x, state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(sum(name.startswith(f"layer{stage}.") and name.endswith("conv1.weight") for name in state)):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            z = f.relu(norm(f.conv2d(y, state[f"{at}.conv1.weight"], stride=stride, padding=1), f"{at}.bn1"))
            z = norm(f.conv2d(z, state[f"{at}.conv2.weight"], padding=1), f"{at}.bn2")
            if stride == 2:
                quarter = z.shape[1] // 4
                y = f.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            y = f.relu(y + z)
    return f.linear(y.mean((2, 3)), state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize("depth", [20, 56])
def test_published_cifar_weights(real_weights, depth: int) -> None:
    path = real_weights / f"resnet{depth}.th"
    net = ResNet(depth, width=16, stem="small").eval()
    match = load_weights(net, str(path))
    assert match.matched == match.total
    assert not match.missing
    assert not match.mismatched
    raw = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in raw.items()}
    assert set(match.unused) == {"linear.weight", "linear.bias"}
    x = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        logits = nn.functional.linear(net(x)[4].mean((2, 3)), **match.head)
        torch.testing.assert_close(logits, plain_cifar_logits(state, x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"depth": 19}, "backbone.unknown_depth"),
        ({"ndim": 4}, "backbone.wrong_axes"),
        ({"stem": "huge"}, "config.unknown_value"),
        ({"width": 4}, "config.out_of_range"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict, code: str) -> None:
    with refused(code):
        ResNet(**arguments)


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("depth", [18, 20, 50])
def test_one_axis_equals_torchs_layers(depth: int, width: int) -> None:
    """Audio goes through layers of height 1, whose output is that of Conv1d, BatchNorm1d and MaxPool1d with the same weights."""
    torch.manual_seed(0)
    net = ResNet(depth, width, ndim=1, in_channels=2).eval()
    plain = deepcopy(net)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv1d):
                made = nn.Conv1d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size[0],
                    child.stride[0],
                    child.padding[0],
                    bias=False,
                )
            elif isinstance(child, nn.BatchNorm2d):
                made = nn.BatchNorm1d(child.num_features).eval()
            elif isinstance(child, nn.MaxPool1d):
                made = nn.MaxPool1d(child.kernel_size, child.stride, child.padding)
            else:
                continue
            made.load_state_dict(child.state_dict())
            setattr(module, name, made)
    sound = torch.randn(2, 2, 333)
    expected = plain.features(sound)
    for stride, y in net(sound).items():
        assert y.shape == (2, net.channels[stride], expected[stride].shape[2])
        torch.testing.assert_close(y, expected[stride], rtol=1e-3, atol=1e-4)

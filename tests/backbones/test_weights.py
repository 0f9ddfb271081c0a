"""Weights from any source, with a correct report."""

import socket

import huggingface_hub
import pytest
import torch
from refusals import refused
from safetensors.torch import save_file

from backbones.resnet import ResNet
from backbones.timm_features import TimmFeatures


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.backbone.", "state.module."])
@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_prefixes_and_containers(tmp_path, prefix: str, wrap: str | None) -> None:
    source = ResNet(18, width=8)
    state = {prefix + name: value for name, value in source.state_dict().items()} | {
        prefix + "fc.weight": torch.zeros(7, 64),
        prefix + "fc.bias": torch.zeros(7),
    }
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "w.pth")
    net = ResNet(18, width=8, weights=str(tmp_path / "w.pth"))
    assert net.match.matched == net.match.total
    assert net.match.head["weight"].shape == (7, 64)
    for name, value in source.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)


def test_safetensors(tmp_path) -> None:
    source = ResNet(18, width=8)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    assert (
        ResNet(18, width=8, weights=str(tmp_path / "w.safetensors")).match.matched == source.state_dict().__len__() - 20
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_input_channels(tmp_path, channels: int) -> None:
    """A gray image copied to every channel has the output that the RGB network has for gray."""
    source = ResNet(18, width=8).eval()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    net = ResNet(18, width=8, in_channels=channels, weights=str(tmp_path / "w.pt")).eval()
    assert net.match.matched == net.match.total
    gray = torch.randn(1, 1, 32, 32)
    if channels == 1:
        torch.testing.assert_close(net(gray)[32], source(gray.expand(-1, 3, -1, -1))[32], atol=1e-5, rtol=1e-4)
    else:
        assert net.conv1.weight.shape[1] == channels


def test_adapted_kernels_are_reported(tmp_path) -> None:
    source = ResNet(18, width=8)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    expected = {
        (2, 3): [],
        (1, 1): ["20 kernels collapsed from 2 to 1 axes", "the first kernel's 3 input channels summed to 1"],
        (3, 3): ["20 kernels inflated from 2 to 3 axes"],
        (2, 5): ["the first kernel's 3 input channels repeated to 5"],
    }
    for (ndim, channels), words in expected.items():
        net = ResNet(18, width=8, ndim=ndim, in_channels=channels, weights=str(tmp_path / "w.pt"))
        assert list(net.match.adapted) == words
        assert all(word in str(net.match) for word in words)


def test_nothing_matching_is_an_error(tmp_path) -> None:
    torch.save({"a": torch.zeros(3), "b": torch.zeros(2, 2)}, tmp_path / "w.pt")
    with refused("weights.no_match"):
        ResNet(18, width=8, weights=str(tmp_path / "w.pt"))


def test_another_depth_is_reported(tmp_path) -> None:
    torch.save(ResNet(18, width=8).state_dict(), tmp_path / "w.pt")
    match = ResNet(34, width=8, weights=str(tmp_path / "w.pt")).match
    assert 0 < match.matched < match.total
    assert match.missing
    assert f"{match.matched} of {match.total}" in str(match)


def test_pickled_code_is_not_run(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "w.pt")
    with refused("weights.unreadable"):
        ResNet(18, width=8, weights=str(tmp_path / "w.pt"))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("tag", ["resnet18.a1_in1k", "ResNet18_Weights.IMAGENET1K_V1"])
def test_offline_error_names_the_cache(tag: str, monkeypatch, tmp_path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("backbones.weights.torchvision_state", lambda tag: offline())
    monkeypatch.setattr("timm.create_model", offline)
    with refused("weights.not_downloaded"):
        ResNet(18, weights=tag)


def test_unknown_tag_names_the_nearest() -> None:
    with refused("weights.missing") as error:
        ResNet(18, weights="resnet18.a1in1k")
    assert "resnet18.a1_in1k" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "vgg11", "swin_tiny_patch4_window7_224"])
def test_timm_backbones_have_the_interface_of_a_backbone(name: str) -> None:
    net = TimmFeatures(name, in_channels=1).eval()
    with torch.inference_mode():
        features = net(torch.zeros(1, 1, 224, 224))
    assert {stride: y.shape[1] for stride, y in features.items()} == net.channels
    for stride, y in features.items():
        assert y.shape[2:] == (224 // stride, 224 // stride)


def test_channels_come_first_also_where_the_height_equals_the_number_of_channels() -> None:
    """timm's MambaOut returns (N, H, W, C); its first features have 48 channels at a stride of 4."""
    backbone = TimmFeatures("mambaout_femto").eval()
    x = torch.rand(1, 3, 48 * 4, 48 * 4)
    with torch.no_grad():
        assert torch.equal(backbone(x)[4], backbone.net(x)[0].permute(0, 3, 1, 2))


def test_invalid_timm_arguments_are_refused() -> None:
    with refused("backbone.unknown_model") as error:
        TimmFeatures("mobilenetv3_smal_100")
    assert "mobilenetv3_small_100" in str(error.value)
    with refused("backbone.wrong_axes"):
        TimmFeatures("vgg11", ndim=1)


def test_offline_nothing_is_printed_and_nothing_is_retried(monkeypatch, tmp_path, capfd) -> None:
    """Neither timm's own weights nor torchvision's: the clients themselves, on a machine without a network."""

    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for make in (
        lambda: TimmFeatures("mobilenetv3_small_100", weights="pretrained"),
        lambda: ResNet(18, weights="ResNet18_Weights.IMAGENET1K_V1"),
    ):
        with refused("weights.not_downloaded"):
            make()
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert capfd.readouterr() == ("", "")


def test_errors_of_libraries_are_explained(tmp_path) -> None:
    (tmp_path / "w.pt").write_bytes(b"PK no weights")
    with refused("weights.unreadable") as caught:
        ResNet(18, width=8, weights=str(tmp_path / "w.pt"))
    assert "Error" not in str(caught.value)

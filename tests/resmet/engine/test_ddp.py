"""Two processes train and evaluate like one."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import ddp_worker
import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results of one process, and of each of two; the two evaluate the weights of the one."""
    folder, one = tmp_path_factory.mktemp("ddp"), {}
    for kind in ddp_worker.DATA:
        one[kind] = ddp_worker.train_and_record(kind, 1, folder)
        one[kind]["test"] = ddp_worker.evaluate(kind, 1, folder, one[kind]["weights"])
        torch.save(one[kind]["weights"], folder / f"{kind}.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"}
    commands = [[sys.executable, ddp_worker.__file__, str(rank), "2", port, str(folder)] for rank in range(2)]
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors[0][-3000:] + errors[1][-3000:]
    return one, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("kind", ddp_worker.DATA)
def test_losses_of_two_processes_equal_those_of_one(kind: str, runs: Any) -> None:
    one, two = runs
    first, second = two[0][kind], two[1][kind]
    assert len(one[kind]["losses"]) == 6
    assert first["losses"] == pytest.approx(one[kind]["losses"], rel=1e-3)  # a rounding may pick another proposal
    assert first["losses"] == second["losses"]
    for name, value in one[kind]["metrics"].items():
        if name.startswith("train/"):
            assert first["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("kind", ddp_worker.DATA)
def test_both_processes_end_with_equal_weights(kind: str, runs: Any) -> None:
    """Weights and BatchNorm statistics, bit for bit."""
    one, two = runs
    first, second = two[0][kind]["weights"], two[1][kind]["weights"]
    assert list(first) == list(one[kind]["weights"])
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for name, value in one[kind]["weights"].items():
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ddp_worker.DATA)
def test_evaluation_is_equal_bit_for_bit(kind: str, runs: Any) -> None:
    one, two = runs
    assert len(one[kind]["test"]) >= 4
    for results in two:
        first, second = (torch.tensor([*found[kind]["test"].values()]) for found in (results, one))
        assert torch.equal(first, second), (results[kind]["test"], one[kind]["test"])


def test_a_joint_part_on_one_rank_only(runs: Any) -> None:
    """No rank blocks, every weight has a gradient, and that of the part's head is that of its own batch."""
    first, second = (results["gradients_of_part"] for results in runs[1])
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    _, task = ddp_worker.make("joint", 2)
    data = ddp_worker.DATA["joint"](batch_size=4)
    data.setup("fit")
    part, batch = task.parts["a"], next(iter(data.parts["a"].dataloader("train")))
    losses = part.losses(task.backbone(part.normalize(batch)), batch)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in part.head.named_parameters():
        torch.testing.assert_close(first[f"parts.a.head.{name}"], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ddp_worker.FSDP)
def test_fsdp_trains_like_ddp(kind: str, runs: Any) -> None:
    """Its checkpoint is one file of plain values, too."""
    whole, shared = runs[1][0][kind], runs[1][0][f"{kind}, fsdp"]
    assert shared["losses"] == pytest.approx(whole["losses"], rel=2e-4)
    assert list(shared["weights"]) == list(whole["weights"])
    for name, value in whole["weights"].items():
        torch.testing.assert_close(shared["weights"][name], value, rtol=1e-3, atol=2e-3)

"""Two processes come to what one comes to."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import ddp_worker
import pytest
import torch

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process found, and what each of two found; the two judge the weights of the one."""
    folder, one = tmp_path_factory.mktemp("several"), {}
    for kind in ddp_worker.DATA:
        one[kind] = ddp_worker.learn(kind, 1, folder)
        one[kind]["test"] = ddp_worker.judge(kind, 1, folder, one[kind]["weights"])
        torch.save(one[kind]["weights"], folder / f"{kind}.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"}
    words = [[sys.executable, ddp_worker.__file__, str(rank), "2", port, str(folder)] for rank in range(2)]
    started = [subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) for line in words]
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said[0][-3000:] + said[1][-3000:]
    return one, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("kind", ddp_worker.DATA)
def test_two_processes_lose_what_one_loses(kind: str, runs: Any) -> None:
    one, two = runs
    first, second = two[0][kind], two[1][kind]
    assert len(one[kind]["losses"]) == 6
    assert first["losses"] == pytest.approx(one[kind]["losses"], rel=1e-3)  # a rounding may pick another proposal
    assert first["losses"] == second["losses"]
    for name, value in one[kind]["figures"].items():
        if name.startswith("train/"):
            assert first["figures"][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("kind", ddp_worker.DATA)
def test_names_stay_and_both_end_with_the_same(kind: str, runs: Any) -> None:
    """Weights and running statistics alike, bit for bit."""
    one, two = runs
    first, second = two[0][kind]["weights"], two[1][kind]["weights"]
    assert list(first) == list(one[kind]["weights"])
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for name, value in one[kind]["weights"].items():
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ddp_worker.DATA)
def test_two_processes_judge_as_one_to_the_last_bit(kind: str, runs: Any) -> None:
    one, two = runs
    assert len(one[kind]["test"]) >= 4
    for found in two:
        same = torch.equal(torch.tensor([*found[kind]["test"].values()]), torch.tensor([*one[kind]["test"].values()]))
        assert same, (found[kind]["test"], one[kind]["test"])


def test_a_part_that_one_process_has_alone(runs: Any) -> None:
    """Nobody waits, every weight has a gradient, and that of the part's head is its own batch's."""
    first, second = (found["part_alone"] for found in runs[1])
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    _, task = ddp_worker.make("joint", 2)
    data = ddp_worker.DATA["joint"](4)
    data.prepare()
    part, batch = task.parts["a"], next(iter(data.parts["a"].dataloader("train")))
    losses = part.losses(task.backbone(part.normalise(batch)), batch)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in part.head.named_parameters():
        torch.testing.assert_close(first[f"parts.a.head.{name}"], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ddp_worker.SHARDED)
def test_shared_out_weights_learn_as_copies_do(kind: str, runs: Any) -> None:
    """And make a checkpoint like any other, in one file of plain values."""
    whole, shared = runs[1][0][kind], runs[1][0][f"{kind}, fsdp"]
    assert shared["losses"] == pytest.approx(whole["losses"], rel=2e-4)
    assert list(shared["weights"]) == list(whole["weights"])
    for name, value in whole["weights"].items():
        torch.testing.assert_close(shared["weights"][name], value, rtol=1e-3, atol=2e-3)

"""Limits of memory and cores."""

from pathlib import Path

import pytest

from foundation import hardware


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/slurm/job/step", {"slurm/job/memory.max": 900, "slurm/job/step/memory.max": "max"}),
        ("4:memory:/slurm/job", {"memory/slurm/memory.limit_in_bytes": 900}),
        ("0::/not/visible", {"memory.max": 900}),
    ],
)
def test_limits_are_those_of_the_own_group_and_its_parents(
    line: str, files: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    monkeypatch.setattr(hardware, "OWN_CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text(f"{line}\n")
    for name, limit in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(limit))
        used = path.with_name("memory.current" if path.name == "memory.max" else "memory.usage_in_bytes")
        used.write_text("300")
        path.with_name("cpu.max").write_text("100000 100000")
    assert hardware.free_memory() == 600
    assert hardware.cores() == 1 or line.startswith("4:")

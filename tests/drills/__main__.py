"""Break runs on purpose and compare them with uninterrupted ones: python -m tests.drills [--tasks a,b] [--moments 25] [--only WORD] [--seed 0].

Some drills mount small disks and make network namespaces, which needs the permission to do so.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.drills import disks, processes
from tests.drills.runner import OVERRIDES, Outcome, differences, kill_at_random, run_uninterrupted

ON_A_RUN: tuple[Callable[[str, Path, Path], Outcome], ...] = (
    disks.full_disk,
    disks.full_to_the_end,
    disks.read_only,
    disks.killed_while_saving,
    disks.truncated_checkpoint,
    processes.signalled,
)
KILLS_PER_RUN = 5


def kills(kind: str, reference: Path, span: float, place: Path, moments: int, seed: int) -> Outcome:
    """SIGKILL at random moments."""
    rng, killed, equal, runs = random.Random(f"{seed} {kind}"), 0, 0, 0
    while killed < moments:
        folder = place / f"killed-{runs}"
        killed += kill_at_random(kind, folder, min(KILLS_PER_RUN, moments - killed), span, rng)
        equal += not differences(reference, folder)
        runs += 1
    return Outcome("SIGKILL at a random moment", kind, killed, equal, runs, "time since the last checkpoint")


def outcomes(options: argparse.Namespace, place: Path) -> Iterator[Outcome]:
    """Runs the requested drills."""
    for kind in options.tasks.split(","):
        folder = place / kind
        folder.mkdir()
        span = run_uninterrupted(kind, folder / "uninterrupted")
        if wanted(options, kills):
            yield kills(kind, folder / "uninterrupted", span, folder, options.moments, options.seed)
        for drill in ON_A_RUN if kind == "segmentation" else ():
            if wanted(options, drill):
                yield drill(kind, folder / "uninterrupted", folder)
        if kind == "classification" and wanted(options, processes.rank_killed):
            yield processes.rank_killed(kind, folder)
        if kind == "classification" and wanted(options, processes.host_cut_off):
            yield processes.host_cut_off(kind, folder)
        if kind == "audio" and wanted(options, processes.worker_killed):
            yield processes.worker_killed(folder)


def wanted(options: argparse.Namespace, drill: Callable) -> bool:
    return not options.only or options.only in drill.__name__


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("--tasks", default=",".join(OVERRIDES))
    parser.add_argument("--moments", type=int, default=25)
    parser.add_argument("--only", default="", help="drills whose name has this in it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="drills-"))
    print("| drill | task | times | runs equal to the uninterrupted one | lost |\n|---|---|---|---|---|")
    results = []
    for outcome in outcomes(options, place):
        print(outcome.row(), flush=True)
        results.append(outcome)
    if all(outcome.equal == outcome.runs for outcome in results):
        shutil.rmtree(place)
        return 0
    print(f"the runs are in {place}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())

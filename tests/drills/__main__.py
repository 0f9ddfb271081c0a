"""Break runs on purpose and count what is lost: python -m tests.drills [--tasks a,b] [--moments 25] [--only WORD] [--seed 0].

Some drills mount small disks and make network namespaces; without the right to do so they fail, and say so.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.drills import disks, processes
from tests.drills.runner import WORDS, Outcome, differences, kill_at_random, whole

ON_A_RUN: tuple[Callable[[str, Path, Path], Outcome], ...] = (
    disks.full_disk,
    disks.full_to_the_end,
    disks.read_only,
    disks.killed_while_saving,
    disks.cut_checkpoint,
    processes.signalled,
)
PER_RUN = 5
"""So often a run is killed before it may end."""


def kills(kind: str, reference: Path, span: float, place: Path, moments: int, seed: int) -> Outcome:
    """SIGKILL at random moments."""
    dice, struck, equal, runs = random.Random(f"{seed} {kind}"), 0, 0, 0
    while struck < moments:
        folder = place / f"killed-{runs}"
        struck += kill_at_random(kind, folder, min(PER_RUN, moments - struck), span, dice)
        equal += not differences(reference, folder)
        runs += 1
    return Outcome("kill -9 at a random moment", kind, struck, equal, runs, "time since the last checkpoint")


def outcomes(options: argparse.Namespace, place: Path) -> Iterator[Outcome]:
    """All drills that were asked for, one after the other."""
    for kind in options.tasks.split(","):
        folder = place / kind
        folder.mkdir()
        span = whole(kind, folder / "whole")
        if wanted(options, kills):
            yield kills(kind, folder / "whole", span, folder, options.moments, options.seed)
        for drill in ON_A_RUN if kind == "segmentation" else ():
            if wanted(options, drill):
                yield drill(kind, folder / "whole", folder)
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
    parser.add_argument("--tasks", default=",".join(WORDS))
    parser.add_argument("--moments", type=int, default=25)
    parser.add_argument("--only", default="", help="drills whose name has this in it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="drills-"))
    print("| drill | task | times | equal to the run that nothing broke | lost |\n|---|---|---|---|---|")
    found = []
    for outcome in outcomes(options, place):
        print(outcome.row(), flush=True)
        found.append(outcome)
    if all(outcome.equal == outcome.runs for outcome in found):
        shutil.rmtree(place)
        return 0
    print(f"what differs lies in {place}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())

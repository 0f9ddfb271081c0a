"""The loop of a sweep: start trials, watch them, end the hopeless ones, keep the books."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from resmet.callbacks import signals
from resmet.checkpoints.layout import has_checkpoint
from resmet.cli import exit_codes
from resmet.sweeps.launchers import Handle
from resmet.sweeps.plots import show, write_chart
from resmet.sweeps.search import Search
from resmet.sweeps.search_space import Space
from resmet.sweeps.trial import (
    DONE,
    FAILED,
    PRUNED,
    REFUSED,
    RUNNING,
    STOPPED,
    Trial,
    scores,
    unseen_seconds,
    write_trials,
)

POLL = 0.2  # seconds
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOPS = {exit_codes.INTERRUPTED, signals.TERMINATED, -signal.SIGTERM, -signal.SIGINT}
"""Exit codes of a trial that somebody ended."""

log = logging.getLogger("resmet")


class Loop:
    """Go through the trials of a sweep.

    Args:
        folder: The sweep's; trial k writes to ``folder/k``, what it says goes to ``folder/logs/k.err``.
        program: The command of a trial, which its words follow.
        space: What varies.
        search: Which trial comes next.
        trials: Those that an earlier part of the sweep has begun.
        lock: The file that trials on this machine hold open.
    """

    def __init__(
        self, folder: Path, program: list[str], space: Space, search: Search, trials: list[Trial], lock: int
    ) -> None:
        self.folder, self.program, self.space, self.search, self.lock = folder, program, space, search, lock
        self.trials, self.total = trials, max(search.total(space), len(trials))
        self.cut = [trial for trial in trials if not trial.ended]  # these come first
        self.running: dict[int, Handle] = {}
        self.began: dict[int, tuple[float, int]] = {}  # when, and after how many epochs
        self.judged: dict[int, int] = {}  # the last epoch that the search has seen
        self.hopeless: set[int] = set()
        self.signals: list[int] = []
        self.forwarded = 0

    def run(self) -> int:
        """Returns the sweep's exit code."""
        log.info(
            f"sweep: {self.folder}, {self.total} trials, {sum(trial.ended for trial in self.trials)} of them ended"
        )
        before = {number: signal.signal(number, self.note) for number in SIGNALS}
        try:
            while True:
                self.forward()
                if not self.signals:
                    self.fill()
                if not self.running:
                    break
                self.watch()
                time.sleep(POLL)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.keep()
        show(self.trials, self.folder)
        if self.signals:
            log.info(f"stopped by a signal; go on with resume={self.folder}")
            if self.signals[0] == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
                signals.requeue()
            return exit_codes.INTERRUPTED if self.signals[0] == signal.SIGINT else signals.TERMINATED
        return exit_code(self.trials)

    def note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def forward(self) -> None:
        """Hand a signal on to the trials, so that they save and end; the second one ends them at once."""
        if len(self.signals) == self.forwarded:
            return
        first = self.forwarded == 0
        self.forwarded = len(self.signals)
        log.info("a signal: the running trials save and end" if first else "a second signal: the trials are ended")
        for handle in self.running.values():
            if first:
                handle.stop(signal.SIGINT if self.signals[0] == signal.SIGINT else signal.SIGTERM)
            else:
                handle.kill()

    def fill(self) -> None:
        """Start as many trials as may run at a time."""
        while len(self.running) < self.search.jobs and not self.signals:
            if self.cut:
                self.go_on(self.cut.pop(0))
            elif len(self.trials) < self.total:
                number = len(self.trials)
                trial = Trial(number, self.search.propose(number))
                self.trials.append(trial)
                self.start(trial, self.anew(trial))
            else:
                return

    def go_on(self, trial: Trial) -> None:
        """Take up a trial that was cut short: it may be done by now, or still in the queue."""
        folder = self.folder / str(trial.number)
        left = trial.state == RUNNING  # the sweep died, not the trial
        handle = self.search.launcher.find(trial.job, self.folder / "logs", trial.number) if left else None
        if (folder / "metrics.json").is_file():
            trial.seconds += unseen_seconds(folder) if left else 0.0
            self.end(trial, DONE, 0)
        elif handle and handle.poll() not in STOPS:
            self.follow(trial, handle)
        elif has_checkpoint(folder) and (folder / "config.yaml").is_file():
            self.start(trial, [f"resume={quoted(folder)}"])
        else:
            shutil.rmtree(folder, ignore_errors=True)  # it died before its first checkpoint
            self.start(trial, self.anew(trial))

    def anew(self, trial: Trial) -> list[str]:
        return [*self.space.line(trial.values), f"run_dir={quoted(self.folder / str(trial.number))}"]

    def start(self, trial: Trial, words: Sequence[str]) -> None:
        line, beside = [*self.program, *words], list(self.running.values())
        self.follow(trial, self.search.launcher.start(line, self.folder / "logs", trial.number, self.lock, beside))

    def follow(self, trial: Trial, handle: Handle) -> None:
        trial.state, trial.code, trial.said, trial.job = RUNNING, None, "", handle.job
        trial.read(self.folder / str(trial.number))
        self.running[trial.number] = handle
        self.began[trial.number] = time.monotonic(), trial.epochs
        self.judged[trial.number] = 0
        log.info(f"trial {trial.number} of {self.total} starts: {trial.words} -> {self.folder / str(trial.number)}")
        write_trials(self.folder, self.trials)

    def watch(self) -> None:
        """Look at every running trial once."""
        for number, handle in list(self.running.items()):
            code, trial = handle.poll(), self.trials[number]
            self.judge(trial, handle)  # after the end, too: others are compared with what it came to
            if code is None:
                continue
            del self.running[number]
            began, epochs = self.began.pop(number)
            trial.seconds += time.monotonic() - began
            trial.said = handle.said or last_words(self.folder / "logs" / f"{number}.err")
            self.end(trial, self.state_of(trial, code), code)
            if trial.state == STOPPED and self.search.launcher.goes_on and not self.signals and trial.epochs > epochs:
                self.cut.append(trial)

    def judge(self, trial: Trial, handle: Handle) -> None:
        """Report new epochs to the search, and ask a hopeless trial to end."""
        if trial.number in self.hopeless:
            return
        for epoch, score in scores(self.folder / str(trial.number)):
            if epoch <= self.judged[trial.number]:
                continue
            self.judged[trial.number] = epoch
            if self.search.hopeless(trial.number, epoch, score) and handle.poll() is None:
                log.info(f"trial {trial.number}: ended as hopeless, score {score:.4f} after {epoch} epochs")
                self.hopeless.add(trial.number)
                handle.stop(signal.SIGTERM)
                return

    def state_of(self, trial: Trial, code: int) -> str:
        """How a trial stands that has left with `code`."""
        if code == exit_codes.SUCCESS:
            return DONE
        if trial.number in self.hopeless:
            return PRUNED
        if self.signals or code in STOPS:
            return STOPPED
        return REFUSED if code == exit_codes.INVALID_REQUEST else FAILED

    def end(self, trial: Trial, state: str, code: int) -> None:
        trial.state, trial.code = state, code
        trial.read(self.folder / str(trial.number))
        if state in (DONE, PRUNED):
            trial.said = ""
        if trial.ended:
            self.search.tell(trial)
        score = "no score" if trial.score is None else f"score {trial.score:.4f}"
        log.info(
            f"trial {trial.number}: {state}, {score}, {trial.epochs} epochs, {trial.seconds:.0f} s"
            + (f" (exit code {code}: {trial.said})" if state in (FAILED, REFUSED) else "")
        )
        self.keep()

    def keep(self) -> None:
        write_trials(self.folder, self.trials)
        write_chart(self.folder, self.trials, self.space)


def exit_code(trials: Sequence[Trial]) -> int:
    """Of a sweep whose trials have ended so."""
    states = {trial.state for trial in trials}
    if states & {FAILED, STOPPED, RUNNING}:
        return exit_codes.FAILURE
    return exit_codes.INVALID_REQUEST if REFUSED in states else exit_codes.SUCCESS


def quoted(path: Path) -> str:
    """A path as a value of Hydra's grammar."""
    text = str(path)
    if re.fullmatch(r"[\w./+@%-]+", text):
        return text
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", text) + "'"


def last_words(path: Path) -> str:
    """The last line that a trial wrote to its standard error."""
    if not path.is_file():
        return ""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""

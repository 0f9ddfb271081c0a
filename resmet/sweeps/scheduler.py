"""The loop of a sweep: starts trials, watches them, prunes them, and stores how each ended."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from foundation.overrides import format_value
from resmet.callbacks.signals import requeue
from resmet.checkpoints.layout import has_checkpoint
from resmet.cli.exit_codes import FAILURE, INTERRUPTED, INVALID_REQUEST, SUCCESS, TERMINATED
from resmet.sweeps.launchers import Handle
from resmet.sweeps.plots import print_table, write_plots
from resmet.sweeps.study import SweepStudy
from resmet.sweeps.trial import Status, Trial, read_metrics, validation_scores, with_results, write_csv

POLL_SECONDS = 0.2
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOPPED_CODES = {INTERRUPTED, TERMINATED, -signal.SIGTERM, -signal.SIGINT}
"""Exit codes of a trial that a signal ended."""

log = logging.getLogger("resmet")


class RunningTrial(NamedTuple):
    """A trial as it was when it started, its process or job, and when that was (``time.monotonic()``)."""

    trial: Trial
    handle: Handle
    started: float


class Scheduler:
    """Runs the trials of a sweep, each as the command `program` with its overrides.

    Trial k writes to ``folder/k``, its output goes to ``folder/logs``. Trials on this machine keep the file descriptor `lock` open.
    """

    def __init__(self, folder: Path, program: list[str], study: SweepStudy, lock: int) -> None:
        self.folder, self.program, self.study, self.lock = folder, program, study, lock
        self.search, self.launcher, self.logs = study.search, study.search.launcher, folder / "logs"
        self.trials = {trial.number: trial for trial in study.trials()}
        self.total = max(self.search.total(study.space), len(self.trials))
        self.unfinished = [trial for trial in self.trials.values() if not trial.ended]  # these come first
        self.running: dict[int, RunningTrial] = {}
        self.pruned: set[int] = set()
        self.signals: list[int] = []
        self.forwarded = 0

    def run(self) -> int:
        """Returns the sweep's exit code."""
        log.info(f"sweep: {self.folder}, {self.total} trials, {len(self.trials) - len(self.unfinished)} of them ended")
        before = {number: signal.signal(number, self.on_signal) for number in SIGNALS}
        try:
            while self.start_trials() or self.running:
                self.watch()
                time.sleep(POLL_SECONDS)
                self.forward_signals()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.write_results()
        print_table(list(self.trials.values()), self.folder)
        if not self.signals:
            return self.exit_code()
        log.info(f"stopped by a signal; resume with resume={self.folder}")
        if self.signals[0] == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
            requeue()
        return INTERRUPTED if self.signals[0] == signal.SIGINT else TERMINATED

    def exit_code(self) -> int:
        statuses = {trial.status for trial in self.trials.values()}
        if statuses & {"failed", "stopped", "running"}:
            return FAILURE
        return INVALID_REQUEST if "refused" in statuses else SUCCESS

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def forward_signals(self) -> None:
        """Forwards a signal to the trials, so that they save and end; the second one ends them at once."""
        if len(self.signals) == self.forwarded:
            return
        first = self.forwarded == 0
        self.forwarded = len(self.signals)
        log.info("a signal: the running trials save and end" if first else "a second signal: the trials are killed")
        for running in self.running.values():
            if first:
                running.handle.send_signal(signal.SIGINT if self.signals[0] == signal.SIGINT else signal.SIGTERM)
            else:
                running.handle.kill()

    def start_trials(self) -> bool:
        """Starts as many trials as may run at a time; returns whether it started one."""
        started = False
        while len(self.running) < self.search.jobs and not self.signals:
            if self.unfinished:
                self.resume(self.unfinished.pop(0))
            elif len(self.trials) < self.total:
                self.start(self.study.ask())
            else:
                break
            started = True
        return started

    def resume(self, trial: Trial) -> None:
        """Resumes a trial that did not end: it may be done by now, or still in the queue."""
        folder = self.folder / str(trial.number)
        survived = trial.status == "running"  # the sweep died, not the trial
        handle = self.launcher.find(trial.job, self.logs, trial.number) if survived and trial.job else None
        if (folder / "metrics.json").is_file():
            seconds = float(read_metrics(folder).get("seconds") or 0.0) if survived else 0.0
            done = replace(trial, status="done", code=SUCCESS, message="", seconds=trial.seconds + seconds)
            self.end(with_results(done, folder))
        elif handle and handle.poll() not in STOPPED_CODES:
            self.follow(trial, handle)
        elif has_checkpoint(folder) and (folder / "config.yaml").is_file():
            self.start(trial, f"resume={format_value(str(folder))}")
        else:
            shutil.rmtree(folder, ignore_errors=True)  # it ended before its first checkpoint
            self.start(trial)

    def start(self, trial: Trial, *overrides: str) -> None:
        """Starts a trial with its values, or with other `overrides`."""
        place = f"run_dir={format_value(str(self.folder / str(trial.number)))}"
        arguments = overrides or (*self.study.space.overrides_of(trial.values), place)
        self.follow(trial, self.launcher.start([*self.program, *arguments], self.logs, trial.number, self.lock))

    def follow(self, trial: Trial, handle: Handle) -> None:
        folder = self.folder / str(trial.number)
        trial = with_results(replace(trial, status="running", code=None, message="", job=handle.job), folder)
        self.running[trial.number] = RunningTrial(trial, handle, time.monotonic())
        log.info(f"trial {trial.number} of {self.total} starts: {trial.overrides} -> {folder}")
        self.save(trial)

    def watch(self) -> None:
        """Polls every running trial once."""
        for number, running in list(self.running.items()):
            code = running.handle.poll()
            scores = validation_scores(self.folder / str(number))
            behind = self.study.report(number, scores)  # also after its end: other trials are compared with it
            if code is not None:
                del self.running[number]
                self.end(self.with_outcome(running, code))
            elif behind and number not in self.pruned:
                log.info(f"trial {number}: pruned, score {scores[max(scores)]:.4f} after {max(scores)} epochs")
                self.pruned.add(number)
                running.handle.send_signal(signal.SIGTERM)

    def with_outcome(self, running: RunningTrial, code: int) -> Trial:
        """Returns a trial as it ended with `code`; one that the queue stopped is put back if it finished an epoch."""
        number, status = running.trial.number, self.status_of(running.trial, code)
        seconds = running.trial.seconds + time.monotonic() - running.started
        message = (
            "" if status in ("done", "pruned") else running.handle.message or last_line(self.logs / f"{number}.err")
        )
        trial = replace(running.trial, status=status, code=code, seconds=seconds, message=message)
        trial = with_results(trial, self.folder / str(number))
        if status == "stopped" and self.launcher.requeues and trial.epochs > running.trial.epochs:
            self.unfinished.append(trial)
        return trial

    def status_of(self, trial: Trial, code: int) -> Status:
        if code == SUCCESS:
            return "done"
        if trial.number in self.pruned:
            return "pruned"
        if self.signals or code in STOPPED_CODES:
            return "stopped"
        return "refused" if code == INVALID_REQUEST else "failed"

    def end(self, trial: Trial) -> None:
        score = "no score" if trial.score is None else f"score {trial.score:.4f}"
        reason = f" (exit code {trial.code}: {trial.message})" if trial.status in ("failed", "refused") else ""
        log.info(f"trial {trial.number}: {trial.status}, {score}, {trial.epochs} epochs, {trial.seconds:.0f} s{reason}")
        self.save(trial)
        self.write_results()

    def save(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.study.save(trial)

    def write_results(self) -> None:
        write_csv(self.folder, list(self.trials.values()))
        write_plots(self.folder, self.study.study)


def last_line(path: Path) -> str:
    """Returns the last line of a file, shortened to 400 characters."""
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    return next((line.strip()[:400] for line in reversed(lines) if line.strip()), "")

"""The loop of a sweep: starts trials, watches them, prunes them, and stores how each ended."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

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


class RunningTrial:
    """A trial that runs.

    Args:
        trial: As it was when it started.
        handle: Its process or job.
        folder: Its run folder.
    """

    def __init__(self, trial: Trial, handle: Handle, folder: Path) -> None:
        self.trial, self.handle, self.folder = trial, handle, folder
        self.started, self.reported_epoch, self.pruned = time.monotonic(), 0, False

    def new_scores(self) -> list[tuple[int, float]]:
        """Returns (epoch, score) of the epochs that were validated since the last call."""
        scores = [(epoch, score) for epoch, score in validation_scores(self.folder) if epoch > self.reported_epoch]
        self.reported_epoch = max([epoch for epoch, _ in scores], default=self.reported_epoch)
        return scores

    def prune(self) -> None:
        self.pruned = True
        self.handle.stop(signal.SIGTERM)

    def ended(self, code: int, status: Status, log_file: Path) -> Trial:
        """Returns the trial as it ended."""
        seconds = self.trial.seconds + time.monotonic() - self.started
        message = "" if status in ("done", "pruned") else self.handle.message or last_line(log_file)
        return with_results(
            replace(self.trial, status=status, code=code, seconds=seconds, message=message), self.folder
        )


class Scheduler:
    """Runs the trials of a sweep.

    Args:
        folder: The sweep's; trial k writes to ``folder/k``, its output goes to ``folder/logs``.
        program: The command of a trial, which its overrides follow.
        study: The trials, and which comes next.
        lock: The file descriptor that trials on this machine keep open.
    """

    def __init__(self, folder: Path, program: list[str], study: SweepStudy, lock: int) -> None:
        self.folder, self.program, self.study, self.lock = folder, program, study, lock
        self.search, self.logs = study.search, folder / "logs"
        self.trials = {trial.number: trial for trial in study.trials()}
        self.total = max(self.search.total(study.space), len(self.trials))
        self.unfinished = [trial for trial in self.trials.values() if not trial.ended]  # these come first
        self.running: dict[int, RunningTrial] = {}
        self.signals: list[int] = []
        self.forwarded = 0

    def run(self) -> int:
        """Returns the sweep's exit code."""
        ended = sum(trial.ended for trial in self.trials.values())
        log.info(f"sweep: {self.folder}, {self.total} trials, {ended} of them ended")
        before = {number: signal.signal(number, self.on_signal) for number in SIGNALS}
        try:
            while self.start_trials() or self.running:
                self.watch()
                time.sleep(POLL_SECONDS)
                self.forward_signals()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        trials = list(self.trials.values())
        self.write_results()
        print_table(trials, self.folder)
        if not self.signals:
            return exit_code(trials)
        log.info(f"stopped by a signal; resume with resume={self.folder}")
        if self.signals[0] == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
            requeue()
        return INTERRUPTED if self.signals[0] == signal.SIGINT else TERMINATED

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
                running.handle.stop(signal.SIGINT if self.signals[0] == signal.SIGINT else signal.SIGTERM)
            else:
                running.handle.kill()

    def start_trials(self) -> bool:
        """Starts as many trials as may run at a time; returns whether it started one."""
        started = False
        while len(self.running) < self.search.jobs and not self.signals:
            if self.unfinished:
                self.resume(self.unfinished.pop(0))
            elif len(self.trials) < self.total:
                self.start(self.study.ask(len(self.trials)))
            else:
                break
            started = True
        return started

    def resume(self, trial: Trial) -> None:
        """Resumes a trial that did not end: it may be done by now, or still in the queue."""
        folder = self.folder / str(trial.number)
        survived = trial.status == "running"  # the sweep died, not the trial
        handle = self.search.launcher.find(trial.job, self.logs, trial.number) if survived else None
        if (folder / "metrics.json").is_file():
            seconds = float(read_metrics(folder).get("seconds") or 0.0) if survived else 0.0
            done = replace(trial, status="done", code=SUCCESS, message="", seconds=trial.seconds + seconds)
            self.end(with_results(done, folder))
        elif handle and handle.poll() not in STOPPED_CODES:
            self.follow(trial, handle)
        elif has_checkpoint(folder) and (folder / "config.yaml").is_file():
            self.start(trial, [f"resume={format_value(str(folder))}"])
        else:
            shutil.rmtree(folder, ignore_errors=True)  # it ended before its first checkpoint
            self.start(trial)

    def start(self, trial: Trial, overrides: Sequence[str] = ()) -> None:
        """Starts a trial with its values, or with other `overrides`."""
        own = [
            *self.study.space.overrides_of(trial.values),
            f"run_dir={format_value(str(self.folder / str(trial.number)))}",
        ]
        command, others = [*self.program, *(overrides or own)], [running.handle for running in self.running.values()]
        self.follow(trial, self.search.launcher.start(command, self.logs, trial.number, self.lock, others))

    def follow(self, trial: Trial, handle: Handle) -> None:
        folder = self.folder / str(trial.number)
        trial = with_results(replace(trial, status="running", code=None, message="", job=handle.job), folder)
        self.running[trial.number] = RunningTrial(trial, handle, folder)
        log.info(f"trial {trial.number} of {self.total} starts: {trial.overrides} -> {folder}")
        self.save(trial)

    def watch(self) -> None:
        """Polls every running trial once."""
        for number, running in list(self.running.items()):
            code = running.handle.poll()
            for epoch, score in running.new_scores():  # also after its end: other trials are compared with it
                if self.study.report(number, epoch, score) and code is None and not running.pruned:
                    log.info(f"trial {number}: pruned, score {score:.4f} after {epoch} epochs")
                    running.prune()
            if code is not None:
                del self.running[number]
                trial = running.ended(code, self.status_of(running, code), self.logs / f"{number}.err")
                self.end(trial)
                if trial.status == "stopped" and self.search.launcher.requeues and not self.signals:
                    self.unfinished += [trial] if trial.epochs > running.trial.epochs else []

    def status_of(self, running: RunningTrial, code: int) -> Status:
        """Returns the status of a trial that ended with `code`."""
        if code == SUCCESS:
            return "done"
        if running.pruned:
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


def exit_code(trials: Sequence[Trial]) -> int:
    """Returns the exit code of a sweep whose trials ended so."""
    statuses = {trial.status for trial in trials}
    if statuses & {"failed", "stopped", "running"}:
        return FAILURE
    return INVALID_REQUEST if "refused" in statuses else SUCCESS


def last_line(path: Path) -> str:
    """Returns the last line of a file, shortened to 400 characters."""
    if not path.is_file():
        return ""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""

"""From a command to its answer, in processes of their own."""

from statistics import median

from benchmarks.measure import Result, Settings, row, run_python, summarize, timed

IMPORTS = "import torch, torchvision, torchmetrics, lightning.pytorch"


@row("startup.help", "none: a target in seconds", "Seconds of `python train.py --help`.", max_value=0.8)
def help_seconds(settings: Settings) -> Result:
    return summarize([timed(lambda: run_python("train.py", "--help")) for _ in range(settings.rounds + 1)][1:], "s")


@row(
    "startup.first_step",
    "importing torch, Lightning and torchvision alone",
    "Seconds of `python train.py` until the end of the first step on the digits, less those of importing torch and Lightning.",
    max_value=6.0,
)
def first_step_seconds(settings: Settings) -> Result:
    rest, imports = [], []
    for turn in range(settings.rounds + 1):
        run = ("-m", "benchmarks.exit_drill", "1", "SIGKILL", f"run_dir={settings.scratch}/first-{turn}")
        whole = timed(lambda run=run: run_python(*run, code=-9))  # type: ignore[misc]
        imports.append(timed(lambda: run_python("-c", IMPORTS)))
        rest.append(whole - imports[-1])
    return summarize(rest[1:], "s", [f"imports alone {median(imports):.1f} s"])

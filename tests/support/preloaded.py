"""Runs the project's scripts in forks of a process that has imported torch and the other libraries already, which saves seconds a run.

python preloaded.py reads requests from stdin, one JSON object a line, and answers each with the exit code of a fork.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    "hydra",
    "lightning.pytorch",
    "matplotlib.pyplot",
    "optuna",
    "segmentation_models_pytorch",
    "sklearn.datasets",
    "timm",
)
TIMEOUT = 300
"""Seconds after which a run is killed."""


class Preloaded:
    """A process that runs scripts one after another, each in a fork of its own with its own folder, arguments and environment."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def run(self, folder: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
        """Runs ``python SCRIPT.py WORDS`` in `folder`."""
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
        arguments = [str(ROOT / f"{script}.py"), *words]
        with tempfile.TemporaryDirectory() as output:
            request = {"arguments": arguments, "folder": str(folder), "output": output, "environment": variables}
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
            texts = [(Path(output) / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(arguments, code, *texts)


@contextmanager
def start_preloaded() -> Iterator[Preloaded]:
    words = [sys.executable, __file__]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Preloaded(process)
        process.stdin.close()  # ends it


def run_fork(request: dict) -> None:
    """Does in this fork what a new Python process would do."""
    signal.alarm(TIMEOUT)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{request['output']}/{name}", os.O_WRONLY | os.O_CREAT), number)
    sys.argv = request["arguments"]
    sys.path[0] = str(ROOT)
    code: object = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))  # to free all modules one by one takes a second


def main() -> None:
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()
    for line in sys.stdin:
        if not (pid := os.fork()):
            run_fork(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

"""``train.py`` that sends itself a signal after some steps: python -m benchmarks.exit_drill STEPS SIGNAL OVERRIDES."""

import os
import signal
import sys
from typing import Any
from unittest.mock import patch

from resmet.cli.entrypoint import command
from resmet.commands import train


def run(cfg: Any) -> None:
    from lightning.pytorch import Callback, LightningModule

    class SignalSelf(Callback):
        def on_train_batch_end(self, trainer: Any, *batch: Any) -> None:
            if trainer.global_step == steps:
                os.kill(os.getpid(), signal.Signals[name])

    with patch.object(LightningModule, "configure_callbacks", lambda self: [SignalSelf()]):
        train.run(cfg)


if __name__ == "__main__":
    steps, name = int(sys.argv[1]), sys.argv[2]
    sys.argv = ["train.py", *sys.argv[3:]]
    command("train", run)

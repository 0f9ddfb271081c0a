"""``train.py`` that ends early: python -m benchmarks.exit_drill STEPS exit|term OVERRIDES.

After STEPS steps it exits at once (``exit``), or sends itself SIGTERM, as a scheduler does (``term``).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any
from unittest.mock import patch


def main() -> None:
    from resmet.cli.entrypoint import command
    from resmet.commands import train

    steps, how = int(sys.argv[1]), sys.argv[2]
    sys.argv = ["train.py", *sys.argv[3:]]

    def run(cfg: Any) -> None:
        from lightning.pytorch import Callback, LightningModule

        class EndEarly(Callback):
            def on_train_batch_end(self, trainer: Any, *batch: Any) -> None:
                if trainer.global_step == steps:
                    os._exit(0) if how == "exit" else os.kill(os.getpid(), signal.SIGTERM)

        with patch.object(LightningModule, "configure_callbacks", lambda self: [EndEarly()]):
            train.run(cfg)

    command("train", run)


if __name__ == "__main__":
    main()

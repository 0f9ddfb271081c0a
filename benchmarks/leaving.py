"""`train.py` that does not stay: python -m benchmarks.leaving STEPS exit|term WORDS.

After so many steps it ends at once (``exit``), or is asked to end as a scheduler asks (``term``).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def main() -> None:
    steps, how = int(sys.argv[1]), sys.argv[2]
    from resmet.cli.entrypoint import command
    from resmet.commands import train

    sys.argv = ["train.py", *sys.argv[3:]]

    def leave(cfg: Any) -> None:
        from lightning.pytorch import Callback, LightningModule

        class Leave(Callback):
            def on_train_batch_end(self, trainer: Any, *what: Any) -> None:
                if trainer.global_step == steps and how == "exit":
                    os._exit(0)
                if trainer.global_step == steps:
                    os.kill(os.getpid(), signal.SIGTERM)

        LightningModule.configure_callbacks = lambda self: [Leave()]  # type: ignore[method-assign]
        train.run(cfg)

    command("train", leave)


if __name__ == "__main__":
    main()

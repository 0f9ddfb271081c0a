"""Pack data of any format into shards: python pack.py data=voc data.root=DIR out=DIR [shard_mb=64]."""

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from foundation.storage.safe_load import printable
from foundation.structures import InputError
from resmet.callbacks.signals import TERMINATED
from resmet.cli.conf_files import choices
from resmet.cli.entrypoint import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(cfg: "DictConfig") -> None:
    if not cfg.get("data"):
        text = f"data is required: set data=..., one of {', '.join(choices('data'))}"
        raise InputError("config.no_data", text)
    from datamodules.shards.writer import check_output_folder, pack
    from resmet.assembly import assemble_data

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # exiting removes the unfinished folder
    check_output_folder(str(cfg.out))  # before the data is read
    manifest = pack(assemble_data(cfg), str(cfg.out), cfg.shard_mb, cfg.seed, cfg.image_format)
    for note in manifest.notes:
        print(printable(f"note: {note}"))
    counts = ", ".join(f"{sum(s.items for s in shards)} {split}" for split, shards in manifest.splits.items())
    size = sum(shard.bytes for shards in manifest.splits.values() for shard in shards)
    format = "sharded" if manifest.spec.ndim == 2 else "sharded_audio"
    print(f"{counts}; {size / 1e6:.1f} MB; train on them: python train.py ... data={format} data.root={cfg.out}")


def main() -> NoReturn:
    command("pack", run)

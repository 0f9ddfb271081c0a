"""Files to predict: no labels, opened the way the checkpoint's Spec says."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from datamodules.decoding.audio import SUFFIXES as SOUND_SUFFIXES
from datamodules.decoding.audio import fit_length, read_audio
from datamodules.decoding.image import SUFFIXES as IMAGE_SUFFIXES
from datamodules.decoding.image import read_image, read_resized
from datamodules.decoding.resize import ResizeGeometry
from datamodules.loading.collate import collate
from foundation.structures import Batch, InputError, Spec


class Files:
    """The images or sounds of a file or folder, in batches of one shape.

    Args:
        source: A file, or a folder that is searched with all folders below it.
        spec: How a task's data was read.
        batch_size: Files a batch, where they come to the same size; others go alone.

    Raises:
        InputError: If there is nothing at `source`, or a file can't be read.
    """

    def __init__(self, source: str, spec: Spec, batch_size: int) -> None:
        self.spec, self.batch_size = spec, batch_size
        root = Path(source).expanduser()
        suffixes = IMAGE_SUFFIXES if spec.ndim == 2 else SOUND_SUFFIXES
        kind = "images" if spec.ndim == 2 else "sounds"
        everything = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        self.paths = [path for path in everything if path.suffix.lower() in suffixes]
        self.skipped = len(everything) - len(self.paths)
        if not root.exists():
            raise InputError("source.missing_file", f"source={source}: there is no such file or folder")
        if not self.paths:
            raise InputError(
                "source.no_items",
                f"source={source}: this checkpoint reads {kind} ({', '.join(sorted(suffixes))}), there are none",
            )

    def __len__(self) -> int:
        return len(self.paths)

    def original(self, path: Path) -> Tensor:
        """A file's picture as uint8 (C, H, W), upright, to draw an answer on; RGB wherever it is no more than that."""
        if self.spec.channels in (1, 3):
            return read_image(path, 3, self.spec.window)
        return read_image(path, self.spec.channels, self.spec.window)

    def open(self, path: Path) -> tuple[Tensor, ResizeGeometry | None]:
        if self.spec.ndim == 1:
            return fit_length(read_audio(path, self.spec.sample_rate), self.spec.size[0]), None
        return read_resized(path, self.spec.channels, self.spec.window, self.spec.size, self.spec.resize)

    def __iter__(self) -> Iterator[tuple[Batch, list[ResizeGeometry | None], list[tuple[Path, InputError]]]]:
        """Batches, how every picture got its size, and what could not be read since the last batch."""
        waiting: list[tuple[Tensor, None, str]] = []
        places: list[ResizeGeometry | None] = []
        wrong: list[tuple[Path, InputError]] = []
        for path in self.paths:
            try:
                signal, placement = self.open(path)
            except InputError as error:
                wrong.append((path, error))
                continue
            if waiting and (len(waiting) == self.batch_size or waiting[0][0].shape != signal.shape):
                yield collate(waiting), places, wrong
                waiting, places, wrong = [], [], []
            waiting.append((signal, None, str(path)))
            places.append(placement)
        if waiting or wrong:
            yield collate(waiting) if waiting else Batch(names=[]), places, wrong

"""Files to predict: without labels, opened as the checkpoint's Spec requires."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from datamodules.decoding.audio import SUFFIXES as AUDIO_SUFFIXES
from datamodules.decoding.audio import fit_length, read_audio
from datamodules.decoding.image import SUFFIXES as IMAGE_SUFFIXES
from datamodules.decoding.image import read_image, read_resized
from datamodules.decoding.resize import ResizeGeometry
from datamodules.loading.collate import collate
from foundation.storage.paths import find_files
from foundation.structures import Batch, InputError, Spec


class Files:
    """The images or audio files of a file or folder, in batches of one shape.

    Args:
        source: A file, or a folder that is searched recursively, without what is hidden.
        spec: The Spec of the checkpoint.
        batch_size: Files per batch; a file of another shape starts a new batch.

    Raises:
        InputError: If there is nothing at `source`, or a file can't be read.
    """

    def __init__(self, source: str, spec: Spec, batch_size: int) -> None:
        self.spec, self.batch_size = spec, batch_size
        root = Path(source).expanduser()
        suffixes, kind = (IMAGE_SUFFIXES, "images") if spec.ndim == 2 else (AUDIO_SUFFIXES, "audio files")
        everything = [root] if root.is_file() else find_files(root)
        self.paths = [path for path in everything if path.suffix.lower() in suffixes]
        self.skipped = len(everything) - len(self.paths)
        if not root.exists():
            raise InputError("source.missing_file", f"source={source}: there is no such file or folder")
        if not self.paths:
            message = f"source={source}: this checkpoint reads {kind} ({', '.join(sorted(suffixes))}), there are none"
            raise InputError("source.no_items", message)

    def __len__(self) -> int:
        return len(self.paths)

    def original(self, path: Path) -> Tensor:
        """Returns an image at its own size, uint8 (C, H, W), upright, to draw a prediction on; gray images as RGB."""
        return read_image(path, 3 if self.spec.channels == 1 else self.spec.channels, self.spec.window)

    def open(self, path: Path) -> tuple[Tensor, ResizeGeometry | None]:
        if self.spec.ndim == 1:
            return fit_length(read_audio(path, self.spec.sample_rate), self.spec.size[0]), None
        return read_resized(path, self.spec.channels, self.spec.window, self.spec.size, self.spec.resize)

    def __iter__(self) -> Iterator[tuple[Batch, list[ResizeGeometry | None], list[tuple[Path, InputError]]]]:
        """Yields batches, how every image was resized, and the files that could not be read since the last batch."""
        samples: list[tuple[Tensor, None, str]] = []
        geometries: list[ResizeGeometry | None] = []
        errors: list[tuple[Path, InputError]] = []
        for path in self.paths:
            try:
                signal, geometry = self.open(path)
            except InputError as error:
                errors.append((path, error))
                continue
            if samples and (len(samples) == self.batch_size or samples[0][0].shape != signal.shape):
                yield collate(samples), geometries, errors
                samples, geometries, errors = [], [], []
            samples.append((signal, None, str(path)))
            geometries.append(geometry)
        if samples or errors:
            yield collate(samples), geometries, errors

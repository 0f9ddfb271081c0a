"""A pickle that shows whether it was opened."""

import os
from pathlib import Path
from typing import Any


class Payload:
    """Creates the folder `mark` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)

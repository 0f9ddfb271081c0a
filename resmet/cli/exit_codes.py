"""Exit codes of the commands and of the trials of a sweep."""

from resmet.callbacks.signals import INTERRUPTED as INTERRUPTED
from resmet.callbacks.signals import TERMINATED as TERMINATED

SUCCESS = 0
FAILURE = 1
"""The program failed."""

INVALID_REQUEST = 2
"""What was asked can't be done: a wrong key, path or data set. One message, no traceback."""

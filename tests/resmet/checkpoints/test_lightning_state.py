"""The installed version of Lightning is the one whose private state was checked."""

import lightning

from resmet.checkpoints.lightning_state import CHECKED_VERSION


def test_lightning_has_the_version_that_was_checked() -> None:
    assert lightning.__version__ == CHECKED_VERSION, (
        f"Lightning is {lightning.__version__} now: check every function of resmet/checkpoints/lightning_state.py against it, "
        "run the tests of tests/resmet/checkpoints and the drills, then set CHECKED_VERSION"
    )

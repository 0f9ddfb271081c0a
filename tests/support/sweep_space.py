"""Search spaces as a command line describes them."""

from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from resmet.sweeps.search_space import Space, read_space

CONF = Path(__file__).parents[2] / "conf"


def space_of(*overrides: str) -> Space:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        return read_space(parser.parse_overrides(list(overrides)))

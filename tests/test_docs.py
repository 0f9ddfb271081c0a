"""The documentation agrees with the code: tables, commands, keys, paths and links."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from docs.tables import choices, fill

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ("train", "evaluate", "predict", "doctor", "pack")
GROUPS = "(?:data|trainer|callbacks|recipe|backbone|task|sweep)"
NOT_KEYS = {"data.yaml", "sweep.csv", "sweep.png", "data.missing_class"}
"""Names of files and codes of errors that look like keys."""


def commands(page: Path) -> list[str]:
    """Returns every ``python SCRIPT.py ...`` in a page, without the explanation after two spaces."""
    text = page.read_text().replace("\\\n", " ")
    fenced = [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    pattern = rf"(?:srun |exec )?python ({'|'.join(SCRIPTS)})\.py\b.*"
    lines = [re.sub(r"(?<=\S)\.py +", ".py ", re.sub(r"^(?:srun|exec) ", "", line.strip())) for line in fenced + inline]
    return [re.split(r"\s{3,}|\s+#", line)[0] for line in lines if re.fullmatch(pattern, line)]


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


def test_the_tables_of_the_readme_are_those_of_conf() -> None:
    text = (ROOT / "README.md").read_text()
    assert text == fill(text), "run python docs/tables.py"


def test_commands_are_found() -> None:
    assert {command.split()[1] for command in COMMANDS} == {f"{script}.py" for script in SCRIPTS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_documented_command_composes(command: str) -> None:
    """Every key and choice of it exists, and is spelled as today."""
    optional = re.sub(r"\[([\w.]+=[^\]]*)\]", r"\1", command)
    _, script, *words = shlex.split(optional)
    overrides = [word for word in words if "=" in word]
    if "-m" in words:
        overrides = [re.sub(r"=(tag\(.*|[^\[].*,.*)$", "=1", word) for word in overrides if not names_a_group(word)]
    overrides = [word.replace("sweep.launcher=", "sweep/launcher=") for word in overrides]  # both are understood
    sweep = [word for word in overrides if word.lstrip("+").startswith("sweep")]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose(script.removesuffix(".py"), [word for word in overrides if word not in sweep])
        compose("sweep", sweep)


def names_a_group(word: str) -> bool:
    """Whether a word of a sweep lists choices of a group, such as ``backbone=resnet18,resnet34``; each must exist."""
    group, _, names = word.partition("=")
    if not (ROOT / "conf" / group).is_dir() or "," not in names:
        return False
    assert all((ROOT / "conf" / group / f"{name}.yaml").is_file() for name in names.split(","))
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_documented_modules_exist(page: Path) -> None:
    modules = {*re.findall(r"python -m ([\w.]+)", page.read_text())} - {"pytest"}
    assert not [module for module in modules if find_spec(module) is None]


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """The dotted path of every key of every task, backbone, data format and kind of sweep."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = [
            *(
                compose("train", [f"{group}={path.stem}"])
                for group in ("task", "backbone", "data")
                for path in choices(group)
            ),
            *(compose("sweep", ["sweep=optuna", f"sweep/launcher={name}"]) for name in ("local", "slurm")),
        ]
    return {key for cfg in configs for key in dotted(OmegaConf.to_container(cfg, resolve=False))}


def dotted(value: Any, path: str = "") -> Iterator[str]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from dotted(inner, f"{path}.{key}".lstrip("."))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "performance.md"], ids=lambda path: path.name)
def test_keys_exist(page: Path, keys: set[str]) -> None:
    words = [word for text in re.findall(r"`([^`\n]+)`", page.read_text()) for word in text.split()]
    named = {match[1] for word in words if (match := re.fullmatch(rf"({GROUPS}(?:\.\w+)+)(?:=.*)?", word))}
    assert not named - keys - NOT_KEYS


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    paths = re.findall(r"`((?:[\w.]+/)+[\w.]*)`", text)
    top = {path.name for path in ROOT.iterdir()}
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [
        path for path in paths if path.split("/")[0] in top and "NAME" not in path and not (ROOT / path).exists()
    ]
    assert not missing

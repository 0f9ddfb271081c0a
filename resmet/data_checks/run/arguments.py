"""The doctor's command line: what was answered before is answered at once, a folder's name becomes keys.

The standard library alone, and nothing that needs more.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from foundation.storage.atomic import write_json
from foundation.storage.safe_load import printable
from resmet.data_checks.run.result_cache import recall
from resmet.data_checks.scan.file_tree import read_tree
from resmet.data_checks.scan.formats import detect


def repeat(words: list[str]) -> None:
    """Give the remembered answer to this command line and leave; return where there is none."""
    answer = recall(words)
    if answer is None:
        return
    try:
        say(answer)
    except OSError:
        return  # the way that looks again says what is wrong
    sys.exit(2 if answer["refusal"] else 0)


def say(answer: dict[str, Any]) -> None:
    """Print a report and write its JSON, where one was asked for."""
    if answer["json"]:
        path = Path(answer["json"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, answer["data"])
    print(printable(answer["text"]))
    if answer["refusal"]:
        print(printable(f"doctor.py: {answer['refusal']}"), file=sys.stderr)


def spell_out(words: list[str]) -> list[str]:
    """The words as keys: DIR as ``root=``, and the format that was found in it as ``data=`` where none was named."""
    found = next((word for word in words if not word.startswith("-") and ("=" not in word or Path(word).is_dir())), "")
    if not found:
        return words
    spelled = [f"root={quoted(found)}" if word == found else word for word in words]
    root = Path(found).expanduser()
    if any(word.startswith("data=") for word in words):
        return [*spelled, f"data.root={quoted(found)}"]
    guesses = [guess for guess in detect(root, read_tree(root)) if guess.format] if root.is_dir() else []
    if not guesses:
        return spelled
    return [*spelled, f"data={guesses[0].format}", f"data.root={quoted(found)}"]


def quoted(word: str) -> str:
    """A value in the quotes of Hydra's grammar."""
    escaped = word.replace("'", "\\'")
    return f"'{escaped}'"

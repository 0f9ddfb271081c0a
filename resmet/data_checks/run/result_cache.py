"""What the doctor remembers: its answers by the state of the whole tree, facts of single files by their size and time.

The standard library alone: an answer that is remembered is given before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from foundation.hardware import user_cache_dir
from resmet.data_checks.scan.file_tree import fingerprint, read_tree, stamp

JSON = "json="

ROOT = Path(__file__).parents[3]
OWN = ("health", "datamodules", "conf/data")
"""What an answer depends on besides the data: a changed doctor looks again."""

TABLES = """
CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, answer TEXT);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, state TEXT, facts TEXT, thumb BLOB);
"""

Facts = dict[str, Any]
"""What one item showed when it was opened: plain values, and ``thumb``, bytes, where it has one."""


class Memory:
    """A file a data folder below the user's cache. Where that can't be written or read, nothing is remembered.

    Args:
        root: The folder of the data.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        name = hashlib.blake2b(str(root.resolve()).encode(), digest_size=12).hexdigest()
        self.path = user_cache_dir() / "doctor" / f"{name}.sqlite"

    def open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=5)
        connection.executescript(TABLES)
        return connection

    def answer(self, question: str) -> dict[str, Any] | None:
        """What was last answered to `question`."""
        if not self.path.is_file():
            return None
        try:
            with closing(self.open()) as connection:
                row = connection.execute("SELECT answer FROM answers WHERE question = ?", (question,)).fetchone()
            return json.loads(row[0]) if row else None
        except (OSError, sqlite3.Error, ValueError):
            return None

    def keep_answer(self, question: str, answer: dict[str, Any]) -> None:
        try:
            with closing(self.open()) as connection, connection:
                connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (question, json.dumps(answer)))
        except (OSError, sqlite3.Error):
            return

    def facts(self, states: Mapping[str, str]) -> dict[str, Facts]:
        """{item: facts} for the items of {item: state} that are still in that state."""
        try:
            with closing(self.open()) as connection:
                rows = connection.execute("SELECT name, state, facts, thumb FROM facts").fetchall()
            return {
                name: json.loads(text) | ({} if thumb is None else {"thumb": thumb})
                for name, state, text, thumb in rows
                if states.get(name) == state
            }
        except (OSError, sqlite3.Error, ValueError):
            return {}

    def keep_facts(self, found: Mapping[str, Facts], states: Mapping[str, str]) -> None:
        """Remember `found`, and forget items that are no longer among `states`."""
        rows = [
            (name, states[name], json.dumps({k: v for k, v in facts.items() if k != "thumb"}), facts.get("thumb"))
            for name, facts in found.items()
            if name in states
        ]
        try:
            with closing(self.open()) as connection, connection:
                known = [name for (name,) in connection.execute("SELECT name FROM facts")]
                connection.executemany(
                    "DELETE FROM facts WHERE name = ?", [(name,) for name in known if name not in states]
                )
                connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error):
            return


def tree_state(root: Path, written: Iterable[Path]) -> str:
    """A word that changes with any file below `root` and with the doctor itself; files that it has `written` don't count."""
    return fingerprint(read_tree(root, list(written))) + own_state()


def own_state() -> str:
    """A word that changes with the doctor and the readers it asks."""
    files = {f"{folder}/{name}": found for folder in OWN for name, found in read_tree(ROOT / folder).items()}
    return fingerprint({name: found for name, found in files.items() if name.endswith((".py", ".yaml"))})


def recall(words: list[str]) -> dict[str, Any] | None:
    """The answer to this command line, where nothing has changed since it was given.

    Returns:
        ``text`` for standard output, ``refusal`` for standard error or "", ``data`` and ``json``, the path it goes to or "";
        None where the doctor has to look.
    """
    folders = [word for word in words if Path(word).is_dir()]
    if len(folders) != 1 or any(word.startswith("-") for word in words):
        return None
    root = Path(folders[0])
    kept = Memory(root).answer(question(words))
    if kept is None or (kept["sheet"] and kept["sheet_stamp"] != list(stamp(Path(kept["sheet"])) or ())):
        return None
    wanted = next((word.removeprefix(JSON) for word in words if word.startswith(JSON)), "")
    written = [*map(Path, kept["written"]), *([Path(wanted)] if wanted else [])]
    return kept | {"json": wanted} if kept["state"] == tree_state(root, written) else None


def question(words: list[str]) -> str:
    """The command line and where it was given: paths in it may be relative. Where a copy of the answer goes does not change it."""
    return json.dumps([os.getcwd(), sorted(word for word in words if not word.startswith(JSON))])

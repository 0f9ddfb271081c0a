"""Each script as a person types it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ("train", "evaluate", "predict", "doctor", "pack")
Run = Callable[..., subprocess.CompletedProcess]
TINY = ("backbone.width=8", "trainer.accelerator=cpu")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers(run: Run, script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    assert f"python {script}.py" in done.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["trainer.max_epoch=3"], 2),
        (["+trainer.max_epoch=3"], 2),
        (["task=detecton"], 2),
        (["-m", "seed=1,2", "trainer.max_epoch=3"], 2),
        (["-m", "seed=1,2", "sweep=optuna", "sweep.trial=3"], 2),
    ],
)
def test_answers_come_before_torch(words: list[str], code: int) -> None:
    program = (
        "import sys, runpy\nsys.argv = ['train.py'] + sys.argv[1:]\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as end:\n    print('torch' in sys.modules or 'lightning' in sys.modules, end.code or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == f"False {code}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.max_epoch=3"], "no key trainer.max_epoch. Nearest: trainer.max_epochs"),
        (["+trainer.max_epoch=3"], "no key trainer.max_epoch. Nearest: trainer.max_epochs"),
        (["trainer.max_epochs=abc"], "trainer.max_epochs='abc' must be a whole number"),
        (["task=detecton"], "Nearest: detection"),
        (["+experiment=foo"], "foo"),
        (["time_budget=8x"], "budget=8x is no time for a run: say 90s, 10m or 2h"),
        (["time_budget=0s"], "budget=0s is no time for a run"),
        (["taks=detection"], "no key taks. Nearest: task"),
        (["+frobnicate=1"], "no key frobnicate"),
        (["recipe.optimizer.lr=fast"], "must be a number"),
        (["task=detection", "task.head.anchor=-1"], "task.head.anchor must be above 0, got -1"),
        (["data=voc"], "data.root is required: say data.root=..."),
        (["data=voc", "data.root=nowhere"], "data.root=nowhere: there is no such folder"),
        (["backbone.depth=19"], "backbone.depth must be one of"),
        (["task=audio", "data=classification"], "choose another task"),
    ],
)
def test_refusals(run: Run, tmp_path: Path, words: list[str], said: str) -> None:
    done = run("train", *words, "run_dir=made")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()


def test_a_run_from_end_to_end(run: Run, image_folder: Path, tmp_path: Path) -> None:
    data = ("data=image_folder", f"data.root={image_folder}", "data.batch_size=4", "data.size=32")
    command = (*data, *TINY, "trainer.max_epochs=2", "logger=tensorboard")
    done = run("train", *command, "run_dir=one")
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stderr
    folder = tmp_path / "one"
    for name in (
        "config.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "metrics.csv",
        "metrics.json",
        "report.html",
        "train.log",
    ):
        assert (folder / name).is_file(), name
    for name in ("inputs", "predictions", "curves", "confusion", "precision_recall"):
        assert (folder / "pictures" / f"{name}.png").is_file(), name
    assert list((folder / "tensorboard").glob("events*"))
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page
    assert "https://" not in page

    again = run("train", *command, "run_dir=one")
    assert again.returncode == 2
    assert "already holds" in again.stderr

    twin = run("train", *command, "run_dir=two")
    assert twin.returncode == 0
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for result in (first, second):
        for timed in ("seconds", "samples_per_second", "peak_memory_mb"):
            assert result.pop(timed) > 0
        assert {"data", "compute"} == set(result.pop("waits"))
    assert first == second
    assert (folder / "metrics.csv").read_text() == (tmp_path / "two" / "metrics.csv").read_text()

    longer = run("train", "resume=one", "trainer.max_epochs=3")
    assert longer.returncode == 0, longer.stderr
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 3
    assert len((folder / "metrics.csv").read_text().splitlines()) == 4

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"}
    for words, code, said in (
        (["resume=one"], 0, "this run is finished after 3 epochs"),
        ([*command, "trainer.max_epochs=3", "resume=one"], 0, "this run is finished"),
        (["resume=one", "trainer=cpu"], 0, "this run is finished"),
        (["resume=one/checkpoints/last.ckpt"], 0, "this run is finished after 3 epochs, see one/report.html"),
        (["resume=one/checkpoints/best.ckpt"], 2, "goes on from its last.ckpt alone: say resume=one"),
        (["resume=one", "data.on_error=skip"], 0, "this run is finished"),
        (
            [*TINY, "run_dir=one", "resume=auto"],
            2,
            "resume=auto takes all the words that began the run: say them again",
        ),
        (["resume=one", "backbone.width=16"], 2, "is another run: backbone.width was 8, is 16"),
        (["resume=one", "backbone=resnet34"], 2, "is another run: backbone.depth was 18, is 34"),
        (["resume=one", "recipe.optimizer.lr=1"], 2, "is another run: recipe.optimizer.lr was 0.001, is 1"),
        (["resume=one", "trainer.max_epoch=9"], 2, "no key trainer.max_epoch. Nearest: trainer.max_epochs"),
        (["resume=one", "trainer.max_epochs=abc"], 2, "must be a whole number"),
    ):
        gone_on = run("train", *words)
        assert gone_on.returncode == code, gone_on.stderr
        assert said in gone_on.stdout + gone_on.stderr
        assert before == {path: path.read_bytes() for path in before}

    (folder / "checkpoints").rename(tmp_path / "away")
    for words in (["resume=one"], [*command, "trainer.max_epochs=3", "run_dir=one", "resume=auto"]):
        lost = run("train", *words)
        assert lost.returncode == 2
        assert "one holds a finished run (metrics.json) whose last.ckpt is gone" in lost.stderr
    (tmp_path / "away").rename(folder / "checkpoints")

    moved = image_folder.rename(image_folder.with_name("elsewhere"))
    further = run("train", "resume=one", f"data.root={moved}", "trainer.max_epochs=4")
    assert further.returncode == 0, further.stderr
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 4
    moved.rename(image_folder)

    judged = run(
        "evaluate", "ckpt=one/checkpoints/best.ckpt", f"data.root={image_folder}", "data=image_folder", "run_dir=judged"
    )
    assert judged.returncode == 0, judged.stderr
    figures = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert figures["test"] == json.loads((folder / "metrics.json").read_text())["test"]

    told = run("predict", "ckpt=one/checkpoints/best.ckpt", f"source={image_folder / 'test'}", "run_dir=told")
    assert told.returncode == 0, told.stderr
    lines = [json.loads(line) for line in (tmp_path / "told" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert all(abs(sum(line["probabilities"].values()) - 1) < 1e-3 for line in lines)
    assert len(list((tmp_path / "told" / "pictures").glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("sent", "code", "more"),
    [
        (signal.SIGTERM, 143, ()),
        (signal.SIGINT, 130, ()),
        (signal.SIGINT, 130, ("trainer=ddp", "trainer.accelerator=cpu")),
    ],
)
def test_a_signal_has_its_exit_code_and_leaves_a_checkpoint(
    tmp_path: Path, sent: signal.Signals, code: int, more: tuple[str, ...]
) -> None:
    """Sent to all processes of the run at once, as a terminal does."""
    words = [sys.executable, str(ROOT / "train.py"), *more, *TINY, "trainer.max_epochs=200", "run_dir=run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    heard = partial(
        signal.signal, sent, signal.SIG_DFL
    )  # what was started in the background inherits deafness to SIGINT
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
        start_new_session=True,
    ) as process:
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("epoch 2/"):
                os.killpg(process.pid, sent)
    assert process.returncode == code, said
    assert "go on with resume=run" in said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_judge_a_small_set(run: Run, tmp_path: Path, image_folder: Path, way: str) -> None:
    """Two validation pictures between two processes, in one batch: none is left out, none is taken twice."""
    data = ("data=image_folder", f"data.root={image_folder}", "data.batch_size=4", "data.size=32", *TINY)
    done = run("train", *data, f"trainer={way}", "trainer.accelerator=cpu", "trainer.max_epochs=1", "run_dir=two")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "pictures"] == ["two"]
    result = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert result["val"]["accuracy"] in (0.0, 0.5, 1.0)
    assert result["test"]["accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert (tmp_path / "two" / "checkpoints" / "last.ckpt").is_file()


def test_a_sweep_leaves_a_folder_a_run(run: Run, tmp_path: Path, image_folder: Path) -> None:
    data = ("data=image_folder", f"data.root={image_folder}", "data.size=32", *TINY, "trainer.max_epochs=1")
    done = run("train", "-m", *data, "seed=1,2", "run_dir=sweep", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == ["0", "1", "logs"]
    table = (tmp_path / "sweep" / "sweep.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in table[1:]] == [["0", "done"], ["1", "done"]]
    score, test = table[1].split(",")[2:4]
    result = json.loads((tmp_path / "sweep" / "0" / "metrics.json").read_text())
    assert (float(score), float(test)) == (result["val"]["score"], result["test"]["score"])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 cut"])
def test_a_checkpoint_that_is_none(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.ckpt").write_bytes(content)
    for script, more in (("evaluate", ()), ("predict", ("source=.",))):
        done = run(script, "ckpt=bad.ckpt", *more)
        assert done.returncode == 2
        assert "can't be read as a checkpoint" in done.stderr
        assert "Traceback" not in done.stderr


def test_imperfect_data_stops_or_is_left_out_and_listed(run: Run, image_folder: Path, tmp_path: Path) -> None:
    bad = image_folder / "train" / "dark" / "bad.png"
    bad.write_bytes(b"no picture")
    words = [
        "data=image_folder",
        f"data.root={image_folder}",
        "trainer.max_epochs=1",
        f"run_dir={tmp_path / 'run'}",
        *TINY,
    ]
    refused = run("train", *words)
    assert refused.returncode == 2
    assert "bad.png can't be read as an image" in refused.stderr
    assert "data.on_error=skip" in refused.stderr
    assert not (tmp_path / "run").exists()
    done = run("train", *words, "data.on_error=skip")
    assert done.returncode == 0, done.stderr
    assert str(bad) in (tmp_path / "run" / "skipped.txt").read_text()
    assert "1 item can't be used, left out" in (tmp_path / "run" / "report.html").read_text().replace("&#39;", "'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hlep"], "there is no option --hlep. Nearest: --help"),
        (
            ["trainer=cpu", "--cfg", "job", "seed=1"],
            "options stand before all words: train.py --cfg job trainer=cpu seed=1",
        ),
        (["task=null"], "task=null: there is no such choice. Allowed: audio, "),
        (["recipe.optimizer=sgd"], "say recipe/optimizer=sgd"),
    ],
)
def test_what_a_parser_does_not_take_is_one_line(run: Run, words: list[str], said: str) -> None:
    done = run("train", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1

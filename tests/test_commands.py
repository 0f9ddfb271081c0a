"""Each command as a person types it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from fixture_files import write_image
from preloaded import Preloaded

ROOT = Path(__file__).parents[1]
SCRIPTS = ("train", "evaluate", "predict", "doctor", "pack")
Run = Callable[..., subprocess.CompletedProcess]
TINY = ("backbone.width=8", "trainer.accelerator=cpu")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers(run: Run, script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    assert f"python {script}.py" in done.stdout


def test_completion_and_help_leave_shared_files_out(run: Run) -> None:
    assert " _" not in run("train", "--help").stdout.partition("== Config ==")[0]
    completed = run("train", "-sc", "query=bash", COMP_LINE="python train.py data=", COMP_POINT="21")
    assert "data=voc" in completed.stdout
    assert "data=_" not in completed.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["trainer=cpu", "--cfg", "job", "seed=1"], 0),
        (["trainer.max_epoch=3"], 2),
        (["+trainer.max_epoch=3"], 2),
        (["budget=3m"], 2),
        (["task=detecton"], 2),
        (["-m", "seed=1,2", "trainer.max_epoch=3"], 2),
        (["-m", "seed=1,2", "sweep=optuna", "sweep.trial=3"], 2),
    ],
)
def test_errors_are_reported_before_torch_is_imported(arguments: list[str], code: int) -> None:
    program = (
        "import sys, runpy\nsys.argv = ['train.py'] + sys.argv[1:]\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as end:\n    print('torch' in sys.modules or 'lightning' in sys.modules, end.code or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == f"False {code}"


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["trainer.max_epoch=3"], "config.unknown_key", "Nearest: trainer.max_epochs"),
        (["+trainer.max_epoch=3"], "config.unknown_key", "Nearest: trainer.max_epochs"),
        (["taks=detection"], "config.unknown_key", "Nearest: task"),
        (["+frobnicate=1"], "config.unknown_key", "frobnicate"),
        (["budget=8m"], "config.renamed_key", "time_budget"),
        (["data.workers=3"], "config.renamed_key", "num_workers"),
        (["recipe.optimizer.momentum=0.9"], "config.key_of_another_choice", "recipe/optimizer=sgd"),
        (["trainer.max_epochs=abc"], "config.wrong_type", "trainer.max_epochs='abc'"),
        (["recipe.optimizer.lr=fast"], "config.wrong_type", "recipe.optimizer.lr='fast'"),
        (["recipe.optimizer=sgd"], "config.not_an_object", "recipe/optimizer=sgd"),
        (["task=detecton"], "config.unknown_choice", "Nearest: detection"),
        (["task=null"], "config.unknown_choice", "Allowed: audio, "),
        (["+experiment=foo"], "config.unknown_choice", "foo"),
        (["data=voc"], "config.missing_value", "data.root"),
        (["seed=-1"], "config.invalid_seed", "-1"),
        (["=3"], "config.invalid_override", "=3"),
        (["--hlep"], "config.unknown_option", "Nearest: --help"),
    ],
)
def test_a_request_that_hydra_or_the_config_refuses_is_one_line(
    run: Run, tmp_path: Path, arguments: list[str], code: str, named: str
) -> None:
    done = run("train", *arguments, "run_dir=made")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert named in line
    assert line.endswith(f"[{code}]")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["time_budget=8x"], "time_budget=8x"),
        (["time_budget=0s"], "time_budget=0s"),
        (["recipe.warmup=2"], "recipe.warmup"),
        (["data=voc", "data.root=nowhere"], "data.root=nowhere"),
        (["backbone.depth=19"], "backbone.depth"),
        (["task=audio", "data=classification"], "task=audio"),
    ],
)
def test_a_value_that_code_refuses_exits_with_2(run: Run, tmp_path: Path, arguments: list[str], named: str) -> None:
    done = run("train", *arguments, "run_dir=made")
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()


DATA = ("data=image_folder", "data.root=images", "data.batch_size=4", "data.size=32")
ONE = (*DATA, *TINY, "trainer.max_epochs=2", "logger=tensorboard")
"""The overrides of the run that the following tests share."""


@pytest.fixture(scope="module")
def trained(preloaded: Preloaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images`` and the finished run ``one``, for tests that write nothing."""
    home = tmp_path_factory.mktemp("trained")
    for split, count in (("train", 6), ("test", 2)):
        for name, color in (("dark", 40), ("light", 200)):
            for i in range(count):
                write_image(home / "images" / split / name / f"{i}.png", color=color + 5 * i)
    done = preloaded.run(home, "train", *ONE, "run_dir=one")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained`, for tests that write."""
    return shutil.copytree(trained, tmp_path / "copied")


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


slow = pytest.mark.slow


@slow
def test_a_run_leaves_its_files(trained: Path) -> None:
    files = ("config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "metrics.csv", "metrics.json")
    for name in (*files, "report.html", "train.log"):
        assert (trained / "one" / name).is_file(), name
    for name in ("inputs", "predictions", "curves", "confusion", "precision_recall"):
        assert (trained / "one" / "pictures" / f"{name}.png").is_file(), name
    assert list((trained / "one" / "tensorboard").glob("events*"))


@slow
def test_the_report_is_one_file(trained: Path) -> None:
    page = (trained / "one" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page
    assert "https://" not in page


@slow
def test_the_same_seed_gives_the_same_metrics(preloaded: Preloaded, copied: Path) -> None:
    again = preloaded.run(copied, "train", *ONE, "run_dir=two")
    assert again.returncode == 0, again.stderr
    results = [metrics(copied / name) for name in ("one", "two")]
    for result in results:
        for timed in ("seconds", "samples_per_second", "peak_memory_mb"):
            assert result.pop(timed) > 0
        assert {"data", "compute"} == set(result.pop("waits"))
    assert results[0] == results[1]
    assert (copied / "one" / "metrics.csv").read_text() == (copied / "two" / "metrics.csv").read_text()


@slow
def test_a_finished_run_is_resumed_for_more_epochs_also_where_its_data_moved(
    preloaded: Preloaded, copied: Path
) -> None:
    longer = preloaded.run(copied, "train", "resume=one", "trainer.max_epochs=3")
    assert longer.returncode == 0, longer.stderr
    assert metrics(copied / "one")["epochs"] == 3
    assert len((copied / "one" / "metrics.csv").read_text().splitlines()) == 4
    (copied / "images").rename(copied / "elsewhere")
    further = preloaded.run(copied, "train", "resume=one", "data.root=elsewhere", "trainer.max_epochs=4")
    assert further.returncode == 0, further.stderr
    assert metrics(copied / "one")["epochs"] == 4


@slow
@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["resume=one"], "", "one/report.html"),
        ([*ONE, "resume=one"], "", "one/report.html"),
        (["resume=one", "trainer=cpu"], "", "one/report.html"),
        (["resume=one/checkpoints/last.ckpt"], "", "one/report.html"),
        (["resume=one", "data.on_error=skip"], "", "one/report.html"),
        ([*ONE, "run_dir=one"], "run_dir.not_empty", "resume=one"),
        (["resume=images"], "run_dir.not_a_run", "config.yaml"),
        (["resume=one/checkpoints/best.ckpt"], "run_dir.not_last_checkpoint", "resume=one"),
        ([*TINY, "run_dir=one", "resume=auto"], "run_dir.other_run", "resume=auto"),
        (["resume=one", "backbone.width=16"], "run_dir.other_run", "backbone.width was 8, is 16"),
        (["resume=one", "backbone=resnet34"], "run_dir.other_run", "backbone.depth was 18, is 34"),
        (["resume=one", "recipe.optimizer.lr=1"], "run_dir.other_run", "recipe.optimizer.lr was 0.001, is 1"),
        (["resume=one", "trainer.max_epoch=9"], "config.unknown_key", "Nearest: trainer.max_epochs"),
        (["resume=one", "data.workers=9"], "config.renamed_key", "num_workers"),
        (["resume=one", "trainer.max_epochs=abc"], "config.wrong_type", "trainer.max_epochs='abc'"),
    ],
)
def test_a_finished_run_is_left_as_it_is(
    preloaded: Preloaded, trained: Path, arguments: list[str], code: str, named: str
) -> None:
    files = [path for path in (trained / "one").rglob("*") if path.is_file() and path.suffix != ".log"]
    before = {path: path.read_bytes() for path in files}
    done = preloaded.run(trained, "train", *arguments)
    assert done.returncode == (2 if code else 0), done.stderr
    assert named in done.stdout + done.stderr
    assert code in done.stderr
    assert before == {path: path.read_bytes() for path in before}


@slow
@pytest.mark.parametrize("arguments", [["resume=one"], [*ONE, "run_dir=one", "resume=auto"]])
def test_a_finished_run_whose_checkpoints_are_gone_is_not_overwritten(
    preloaded: Preloaded, copied: Path, arguments: list[str]
) -> None:
    shutil.rmtree(copied / "one" / "checkpoints")
    lost = preloaded.run(copied, "train", *arguments)
    assert lost.returncode == 2
    assert "[run_dir.checkpoint_lost]" in lost.stderr


@slow
def test_evaluate_gives_the_test_metrics_of_training(preloaded: Preloaded, copied: Path) -> None:
    checkpoint = "ckpt=one/checkpoints/best.ckpt"
    done = preloaded.run(copied, "evaluate", checkpoint, "data=image_folder", "data.root=images", "run_dir=evaluated")
    assert done.returncode == 0, done.stderr
    assert metrics(copied / "evaluated")["test"] == metrics(copied / "one")["test"]


@slow
def test_predict_writes_a_line_and_an_image_for_each_file(preloaded: Preloaded, copied: Path) -> None:
    done = preloaded.run(copied, "predict", "ckpt=one/checkpoints/best.ckpt", "source=images/test", "run_dir=predicted")
    assert done.returncode == 0, done.stderr
    lines = (copied / "predicted" / "predictions.jsonl").read_text().splitlines()
    predictions = [json.loads(line) for line in lines]
    assert len(predictions) == 4
    assert all(abs(sum(prediction["probabilities"].values()) - 1) < 1e-3 for prediction in predictions)
    assert len(list((copied / "predicted" / "pictures").glob("*.png"))) == 4


@slow
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
    command = [sys.executable, str(ROOT / "train.py"), *more, *TINY, "trainer.max_epochs=200", "run_dir=run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    restore = partial(signal.signal, sent, signal.SIG_DFL)  # a background process inherits that SIGINT is ignored
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restore,
        start_new_session=True,
    ) as process:
        output = ""
        for line in process.stderr:
            output += line
            if line.startswith("epoch 2/"):
                os.killpg(process.pid, sent)
    assert process.returncode == code, output
    assert "resume=run" in output
    assert "Traceback" not in output
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_evaluate_a_small_set(run: Run, tmp_path: Path, image_folder: Path, strategy: str) -> None:
    """Two validation images on two ranks, in one batch: none is left out, none is counted twice."""
    data = ("data=image_folder", f"data.root={image_folder}", "data.batch_size=4", "data.size=32", *TINY)
    done = run("train", *data, f"trainer={strategy}", "trainer.accelerator=cpu", "trainer.max_epochs=1", "run_dir=two")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "pictures"] == ["two"]
    result = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert result["val"]["accuracy"] in (0.0, 0.5, 1.0)
    assert result["test"]["accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert (tmp_path / "two" / "checkpoints" / "last.ckpt").is_file()


def test_a_sweep_leaves_a_folder_for_each_trial(run: Run, tmp_path: Path, image_folder: Path) -> None:
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
def test_a_file_that_is_no_checkpoint_is_refused(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.ckpt").write_bytes(content)
    for script, more in (("evaluate", ()), ("predict", ("source=.",))):
        done = run(script, "ckpt=bad.ckpt", *more)
        assert done.returncode == 2
        assert "bad.ckpt" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_unreadable_file_stops_the_run_or_is_left_out_and_listed(
    run: Run, image_folder: Path, tmp_path: Path
) -> None:
    bad = image_folder / "train" / "dark" / "bad.png"
    bad.write_bytes(b"no image")
    arguments = ["data=image_folder", f"data.root={image_folder}", "trainer.max_epochs=1", "run_dir=run", *TINY]
    refused = run("train", *arguments)
    assert refused.returncode == 2
    assert "bad.png" in refused.stderr
    assert "data.on_error=skip" in refused.stderr
    assert not (tmp_path / "run").exists()
    done = run("train", *arguments, "data.on_error=skip")
    assert done.returncode == 0, done.stderr
    assert str(bad) in (tmp_path / "run" / "skipped.txt").read_text()
    assert "1 item" in (tmp_path / "run" / "report.html").read_text()

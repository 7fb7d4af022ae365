"""A run is killed, stopped and started again, and goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pretraining import tiny
from safetensors.numpy import load_file

from bert4k import cli
from bert4k.backend import has_compiler
from bert4k.checkpoints import open_checkpoint
from bert4k.errors import CheckpointError, ConfigError, DataError
from bert4k.hub import load
from bert4k.pretraining import run as running
from bert4k.pretraining import snapshots
from bert4k.pretraining.run import Evaluation, Fed, Pace
from bert4k.pretraining.stream import Mixture, Shares, Source, Stream
from bert4k.pretraining.trainer import Pretrainer, make_transformer
from bert4k.tasks import pretrain as recipe
from bert4k.tasks.pretrain import Settings, pretrain
from bert4k.training import make_optimizer

ROOT = Path(__file__).parent.parent.parent
backends = pytest.mark.backends  # on those where the backend makes a difference

# Lines of the log after 3, 6, 9 and 10 steps; dropout and an average, so that there is more to restore than weights.
CHANGES: dict[str, Any] = {
    "model": {"dropout": 0.1},
    "optimizer": {"ema": 0.6},
    "steps": 10,
    "log_every": 3,
    "snapshot_every": 5,
    "evaluate_every": 6,
    "compiled": False,
}


@pytest.fixture(scope="module", autouse=True)
def _in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        tiny.work_in_this_process(patched.setattr)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def settings(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return tiny.settings(folder, tmp_path_factory.mktemp("whole") / "run", **CHANGES)


@pytest.fixture(scope="module")
def whole(settings: Settings) -> Path:
    """The folder of a run that nothing happened to."""
    assert pretrain(settings) == settings.run / "model"
    return settings.run


def log(run: Path, name: str = "log") -> list[dict[str, Any]]:
    """The rows of a log without what depends on the machine."""
    timed = {"tokens_per_second", "gigaflops", "utilisation", "minutes_left"}
    rows = [json.loads(line) for line in (run / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") if line]
    return [{key: value for key, value in row.items() if key not in timed} for row in rows]


def assert_same_log(one: Path, other: Path) -> None:
    for name, steps in (("log", None), ("evaluation", {row["step"] for row in log(one, "evaluation")})):
        first, second = log(one, name), [row for row in log(other, name) if steps is None or row["step"] in steps]
        assert [row["step"] for row in first] == [row["step"] for row in second]
        for left, right in zip(first, second, strict=True):
            assert left.keys() == right.keys()
            for key, value in left.items():
                assert right[key] == pytest.approx(value, rel=1e-4, abs=1.1e-4), (name, left["step"], key)


def assert_same_weights(one: Path, other: Path, tolerance: float = 2e-6) -> None:
    first, second = open_checkpoint(one / "model"), open_checkpoint(other / "model")
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=tolerance, err_msg=name)


def unfinished(run: Path) -> list[Path]:
    return [*run.rglob("*.tmp"), *run.glob(".model*")]


# What a run leaves. --------------------------------------------------------------------------------------------------------------


@backends
def test_what_a_run_leaves(whole: Path, settings: Settings) -> None:
    assert [row["step"] for row in log(whole)] == [3, 6, 9, 10]
    assert [row["step"] for row in log(whole, "evaluation")] == [0, 6, 10]
    assert sorted(path.name for path in (whole / "snapshots").iterdir()) == ["step-00000006.safetensors", "step-00000010.safetensors"]
    assert (whole / "curves.png").stat().st_size > 10_000
    columns, *rows = (whole / "curves.csv").read_text(encoding="utf-8").split()
    assert {"loss", "unseen/left_to_right_loss", "unseen_pairs/pairs_loss", "tokens_per_second"} <= set(columns.split(","))
    assert [row.partition(",")[0] for row in rows] == ["0", "3", "6", "9", "10"]
    last = log(whole)[-1]
    assert last["tokens"] == 10 * settings.groups * settings.rows * settings.length
    assert [row["learning_rate"] for row in log(whole)] == [pytest.approx(1e-2 * share, rel=1e-3) for share in (1, 4 / 7, 1 / 7, 0)]
    assert unfinished(whole) == []


@backends
def test_the_finished_model_is_the_average(whole: Path) -> None:
    held = load_file(whole / "snapshots" / "step-00000010.safetensors")
    averages = {name.rpartition("/")[2].removesuffix("_average"): value for name, value in held.items() if name.endswith("_average")}
    model, tokenizer = load(whole / "model", outputs=("mlm", "nsp", "pooled"))
    assert len(averages) == len(model.weight_values()) and len(tokenizer) == len(tiny.VOCABULARY)
    found = sorted(averages.values(), key=lambda value: (value.shape, value.sum()))
    for value, average in zip(sorted(model.weight_values().values(), key=lambda value: (value.shape, value.sum())), found, strict=True):
        np.testing.assert_allclose(value, average, atol=1e-6)
    earlier = load_file(whole / "snapshots" / "step-00000006.safetensors")
    table = "model/0000/embeddings_token/embeddings"
    average = next(value for name, value in earlier.items() if name.endswith("embeddings_token_embeddings_average"))
    assert np.abs(earlier[table] - average).max() > 1e-3  # before the end the weights are themselves


# Going on. -----------------------------------------------------------------------------------------------------------------------


def test_stopped_by_the_clock_it_goes_on(whole: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = replace(settings, run=tmp_path, minutes=0.0)
    for reached in (3, 6):
        assert pretrain(stopping) is None
        assert f"stopped at step {reached} of 10; the same command goes on" in capsys.readouterr().err
        assert log(tmp_path)[-1]["step"] == reached
    assert not (tmp_path / "model").exists()
    assert pretrain(replace(settings, run=tmp_path)) == tmp_path / "model"
    assert_same_log(whole, tmp_path)
    assert_same_weights(whole, tmp_path)


def test_lines_of_the_log_may_become_longer(whole: Path, settings: Settings, tmp_path: Path) -> None:
    assert pretrain(replace(settings, run=tmp_path, minutes=0.0)) is None
    pretrain(replace(settings, run=tmp_path, log_every=4, snapshot_every=1))
    assert [row["step"] for row in log(tmp_path)] == [3, 4, 8, 10]
    assert_same_weights(whole, tmp_path)


@pytest.mark.slow
def test_a_run_may_be_prolonged_until_its_rate_falls(settings: Settings, tmp_path: Path) -> None:
    def ending(steps: int, decay_steps: int) -> Settings:
        how = replace(settings.optimizer, warmup_steps=1, decay_steps=decay_steps, ema=None)
        return replace(settings, run=tmp_path / "run", steps=steps, optimizer=how, evaluate_every=99)

    assert pretrain(replace(ending(4, 1), minutes=0.0)) is None  # it falls from step 3 on, and that is where it stands
    assert pretrain(replace(ending(12, 2), minutes=0.0)) is None  # now it stands at 6
    with pytest.raises(ConfigError, match=r"other settings: optimizer.decay_steps was 2, now 4; steps was 12, now 9"):
        pretrain(ending(9, 4))
    assert pretrain(ending(9, 3)) == tmp_path / "run" / "model"
    with pytest.raises(ConfigError, match="steps was 9, now 20"):
        pretrain(ending(20, 3))
    pretrain(replace(ending(9, 3), run=tmp_path / "at_once"))
    assert_same_log(tmp_path / "at_once", tmp_path / "run")
    assert_same_weights(tmp_path / "at_once", tmp_path / "run")


def test_a_damaged_snapshot_is_passed_over(whole: Path, settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "model")
    newest = run / "snapshots" / "step-00000010.safetensors"
    content = bytearray(newest.read_bytes())
    content[-9] ^= 4
    newest.write_bytes(content)
    (run / "snapshots" / ".step-00000012.safetensors.0.tmp").write_bytes(content[:99])
    (run / ".model.abc").mkdir()
    (run / ".model.abc" / "vocab.txt").write_text("[PAD]")
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 12, "los')
    with pytest.warns(UserWarning, match=r"step-00000010.* is damaged"):
        pretrain(replace(settings, run=run))
    assert_same_log(whole, run)
    assert_same_weights(whole, run)
    assert unfinished(run) == []


def test_a_run_that_was_killed_before_its_model_was_written(whole: Path, settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    pretrain(replace(settings, run=tmp_path / "run"))
    assert_same_weights(whole, tmp_path / "run", 0.0)
    assert_same_log(whole, tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(whole: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"}
    assert pretrain(settings) == whole / "model"
    assert "is finished; nothing is left to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"} == before


def test_other_settings_are_refused_by_name(whole: Path, settings: Settings) -> None:
    changed = replace(settings, seed=2, optimizer=replace(settings.optimizer, learning_rate=0.5), log_every=7)
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate was 0.01, now 0.5; seed was 1, now 2. Give the same ones"):
        pretrain(changed)


def test_killed_at_any_moment_it_goes_on(folder: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of a snapshot, at random moments, and in the middle of the model."""
    draw = random.Random(time.time_ns())
    changes = CHANGES | {"steps": 24, "log_every": 2, "snapshot_every": 2, "evaluate_every": 100}
    jobs = [{"run": str(tmp_path / name), "settings": changes} for name in ("killed", "whole")]
    killed = tmp_path / "killed"

    def start(jobs: list[Any], hooks: dict[str, Any], until: str | None, lines: int = 1) -> list[str]:
        """Run until it has printed that so often; then kill it."""
        asked = json.dumps({"folder": str(folder), "runs": jobs, "hooks": {"seconds_a_batch": 0.05} | hooks})
        command = [sys.executable, str(Path(tiny.__file__)), asked]
        told = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=environment()
        ) as process:
            for line in process.stdout or ():
                told.append(line)
                lines -= until is not None and line.startswith(until)
                if not lines:
                    time.sleep(0 if hooks else draw.uniform(0, 0.3))
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == (0 if until is None else -signal.SIGKILL), "".join(told)
        return told

    def environment() -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    start(jobs[:1], {"half_written": 2}, "half-written")
    assert [path.name for path in (killed / "snapshots").glob("*.safetensors")] == ["step-00000002.safetensors"]
    assert len(unfinished(killed)) == 1 and log(killed)[-1]["step"] == 4
    for _ in range(2):
        told = start(jobs[:1], {}, "step ", draw.randint(1, 2))
        assert "damaged" not in "".join(told)
    start(jobs[:1], {"half_saved": True}, "half-saved")
    assert unfinished(killed) and not (killed / "model").exists()
    start(jobs, {"seconds_a_batch": 0}, None)
    assert unfinished(killed) == []
    assert_same_log(tmp_path / "whole", killed)
    assert_same_weights(tmp_path / "whole", killed)


def test_the_command_is_quiet_and_tells_where_the_model_is(folder: Path, tmp_path: Path) -> None:
    made = tiny.settings(folder, tmp_path / "run", steps=4, compiled=False)
    values = {**json.loads(json.dumps(asdict(made), default=str)), "run": str(tmp_path / "run")}
    (tmp_path / "settings.yaml").write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "bert4k", "pretrain", "--config", str(tmp_path / "settings.yaml"), "--log-every", "2"]
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    backend = {"KERAS_BACKEND": "torch" if find_spec("torch") else "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet | backend, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"model": str(tmp_path / "run" / "model")}
    begins, *steps = done.stderr.split("\n")
    assert begins.endswith("weights, 256 tokens a step, a line every 2 steps")
    assert [line.partition("  ")[0] for line in steps] == ["step 2", "step 4", ""]


def test_errors_of_the_command_are_one_paragraph(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pretrain", "--run", str(tmp_path), "--text", str(folder / "texts.txt")]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("bert4k pretrain: A fresh model needs --vocabulary")


# What goes wrong. ----------------------------------------------------------------------------------------------------------------


def test_a_folder_in_use(settings: Settings, tmp_path: Path) -> None:
    with recipe.alone(tmp_path), pytest.raises(CheckpointError, match="Another process is training"):
        pretrain(replace(settings, run=tmp_path))


def test_a_folder_that_cannot_be_written_to(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot write to"):
        pretrain(replace(settings, run=tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"text": [], "pairs": []}, DataError, "nothing to learn from"),
        ({"weights": {"novel": 2.0}}, DataError, "--weights names novel; the files are texts, pairs"),
        ({"mixture": {"pairs": 0.0}}, ConfigError, "No objective of the mixture reads what --pairs gives"),
        (
            {"mixture": dict.fromkeys(set(Mixture().ratios()) - {"pairs"}, 0.0)},
            ConfigError,
            "No objective of the mixture reads what --text gives",
        ),
        ({"vocabulary": None}, ConfigError, "needs --vocabulary"),
        ({"log_every": 0}, ConfigError, "log_every is 0; expected at least 1"),
    ],
)
def test_settings_that_make_no_sense(folder: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        pretrain(tiny.settings(folder, tmp_path, **CHANGES | changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 4, "optimizer": {"warmup_steps": 40}}, "4 steps cannot hold 40 of warm-up"),
        ({"optimizer": {"ema": 2.0}}, "expected a number between 0 and 1"),
        ({"mixture": {"masked": -1.0}}, "ratio of masked is -1.0"),
        ({"keep": 0}, "keep is 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_any_text_is_read(
    folder: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """Tokenising takes minutes, and a run folder holds on to the settings that it was begun with."""
    with pytest.raises(ConfigError, match=told):
        pretrain(tiny.settings(folder, tmp_path / "run", **CHANGES | changes))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_pairs_that_do_not_fit_are_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tiny.settings(folder, tmp_path, **CHANGES)
    long = tmp_path / "long.tsv"
    long.write_text((folder / "pairs.tsv").read_text(encoding="utf-8") + f"{'天地' * 9}\t{'玄黄' * 9}\n", encoding="utf-8")
    recipe.read(replace(settings, pairs=[long]), recipe.build(settings)[1])
    assert f"{long}: 1 of 41 pairs do not fit in 32 tokens; left out" in capsys.readouterr().err


def test_a_full_disk(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(CheckpointError, match="No space left on device"):
        patched.setattr(snapshots, "save_file", full)
        pretrain(replace(settings, run=tmp_path, held_out=[]))
    assert not list((tmp_path / "snapshots").iterdir())
    assert [row["step"] for row in log(tmp_path)] == [3, 6] and not (tmp_path / "evaluation.jsonl").exists()


def test_a_pace_of_nothing() -> None:
    with pytest.raises(ConfigError, match="keep is 0"):
        Pace(10, keep=0)


def test_groups_that_the_devices_cannot_share(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "parts", lambda: 3)
    with pytest.raises(ConfigError, match=r"A batch of 4 groups cannot be shared by 3 devices. Give a multiple of 3 as groups."):
        pretrain(tiny.settings(folder, tmp_path, **CHANGES))


# What is computed. ---------------------------------------------------------------------------------------------------------------


def make(folder: Path, tmp_path: Path, groups: int = 4) -> tuple[list[Source], list[Source], Any]:
    settings = tiny.settings(folder, tmp_path)
    transformer, tokenizer = recipe.build(settings)
    return (*recipe.read(settings, tokenizer), (transformer, tokenizer))


@backends
def test_measuring_does_not_depend_on_the_groups(folder: Path, tmp_path: Path) -> None:
    training, held_out, (transformer, tokenizer) = make(folder, tmp_path)
    stream = Stream(training, tokenizer, Mixture(), Shares(), 4, 1, 32, 1)
    found = []
    for groups in (1, 4):
        evaluation = Evaluation(held_out, tokenizer, Mixture(pairs=1), Shares(), groups, 1, 32, batches=6, seed=0)
        batches = {name: fed.num_batches for name, fed in evaluation.batches.items()}
        assert max(batches.values()) > 1 if groups == 1 else max(batches.values()) <= 2
        pretrainer = Pretrainer(transformer, stream.shape, compiled=False)
        pretrainer.compile(make_optimizer("adamw", 1e-3))
        found.append(evaluation(pretrainer))
        # All batches count, not the last one alone.
        told = {
            name: sum((fed[place][1]["objectives"] >= 0).sum() for place in range(batches[name]))
            for name, fed in evaluation.batches.items()
        }
        for name, count in told.items():
            counts = [value for key, value in found[-1].items() if key.startswith(f"{name}/") and key.endswith("_count")]
            assert sum(counts) - found[-1].get(f"{name}/order_of_sentences_count", 0) == count
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert {"unseen/left_to_right_loss", "unseen/order_of_sentences_accuracy", "unseen_pairs/pairs_count"} <= set(found[0])


@backends
def test_accumulated_batches_are_one_large_batch(folder: Path, tmp_path: Path) -> None:
    training, _, (_, tokenizer) = make(folder, tmp_path)
    stream = Stream(training, tokenizer, Mixture(), Shares(), 4, 2, 32, 1)
    weights = []
    for accumulate in (1, 4):
        keras.utils.set_random_seed(0)
        transformer, _ = recipe.build(tiny.settings(folder, tmp_path))
        pretrainer = Pretrainer(transformer, stream.shape, compiled=False)
        pretrainer.compile(make_optimizer("adamw", 3e-4, accumulate=accumulate, clip_norm=0.5))

        class Cut(Fed):
            """Each batch in so many parts."""

            def __getitem__(self, index: int) -> Any:
                step, part = divmod(index, accumulate)  # noqa: B023
                groups = slice(part * 4 // accumulate, (part + 1) * 4 // accumulate)  # noqa: B023
                return keras.tree.map_structure(lambda values: values[groups], super().__getitem__(step))

        pretrainer.fit(Cut(stream.batch, 4), steps_per_epoch=3 * accumulate, verbose=0, shuffle=False)
        weights.append(transformer.weight_values())
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-5, err_msg=name)


@backends
def test_accumulating_counts_in_steps_of_the_optimizer(folder: Path, tmp_path: Path) -> None:
    changes = CHANGES | {"steps": 3, "log_every": 2, "optimizer": {"accumulate": 2, "warmup_steps": 1, "ema": None}}
    assert pretrain(tiny.settings(folder, tmp_path, **changes | {"minutes": 0.0})) is None
    pretrain(tiny.settings(folder, tmp_path, **changes))
    rows = log(tmp_path)
    assert [row["step"] for row in rows] == [2, 3]
    assert [row["tokens"] for row in rows] == [2 * 2 * 256, 3 * 2 * 256]
    held = load_file(tmp_path / "snapshots" / "step-00000003.safetensors")
    assert next(int(value) for name, value in held.items() if name.endswith("iteration")) == 6
    assert not any(value.any() for name, value in held.items() if "accumulator" in name)


@backends
def test_bfloat16_learns(folder: Path, tmp_path: Path) -> None:
    zero = dict.fromkeys(Mixture().ratios(), 0.0)
    changes = {"dtype": "mixed_bfloat16", "mixture": zero | {"left_to_right": 1.0}, "steps": 60, "log_every": 20, "evaluate_every": 60}
    pretrain(tiny.settings(folder, tmp_path, **changes, pairs=[], held_out=[folder / "unseen.txt"], compiled=False))
    losses = [row["loss"] for row in log(tmp_path)]
    assert losses[-1] < losses[0] - 0.4 and np.isfinite(losses).all()
    assert log(tmp_path, "evaluation")[-1]["unseen/left_to_right_loss"] < 0.9 * np.log(len(tiny.VOCABULARY))
    assert load(tmp_path / "model", outputs=("mlm",))[0].weight_values()["embeddings/token/embeddings"].dtype == np.float32


@backends
@pytest.mark.skipif(keras.backend.backend() != "torch" or not has_compiler(), reason="PyTorch's own, with a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_compiled_it_computes_the_same(folder: Path, tmp_path: Path, name: str) -> None:
    changes = {"optimizer": {"name": name, "ema": 0.5}, "steps": 6, "evaluate_every": 100}
    for compiled in (False, True):
        pretrain(tiny.settings(folder, tmp_path / str(compiled), **changes, compiled=compiled))
    assert_same_log(tmp_path / "False", tmp_path / "True")
    assert_same_weights(tmp_path / "False", tmp_path / "True", 1e-5)


def test_a_fresh_model_has_the_outputs_that_are_trained() -> None:
    from bert4k.config import Config

    assert "nsp/dense" not in make_transformer(Config(20, 8, 1, 2, 16), sentence_order=False).parts
    assert "nsp/dense" in make_transformer(Config(20, 8, 1, 2, 16), sentence_order=True).parts

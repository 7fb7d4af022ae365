"""Several devices and several processes compute what one device computes. Each backend has processes of its own, with simulated devices."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretraining import tiny

from bert4k.checkpoints import open_checkpoint

ROOT = Path(__file__).parent.parent.parent
CHANGES: dict[str, Any] = {"steps": 6, "evaluate_every": 6}
# Gradients that are clipped, an average, and an optimizer of matrices.
HARD = {"optimizer": {"name": "muon", "clip_norm": 0.05, "ema": 0.5}}

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


def command(folder: Path, jobs: Sequence[tuple[str, int | None, dict[str, Any]]], hooks: dict[str, Any]) -> list[str]:
    """jobs: the name of the run, how many devices it finds, and its settings."""
    runs = [{"run": str(folder / name), "use": count, "settings": CHANGES | changes} for name, count, changes in jobs]
    return [sys.executable, str(Path(tiny.__file__)), json.dumps({"folder": str(folder), "runs": runs, "hooks": hooks})]


def environment(backend: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "TF_CONFIG", "KERAS_DISTRIBUTION"))}
    return kept | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def train(backend: str, folder: Path, jobs: Sequence[tuple[str, int | None, dict[str, Any]]], **hooks: Any) -> None:
    devices = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        command(folder, jobs, hooks), env=environment(backend, XLA_FLAGS=devices), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def log(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") if line]


def assert_same(one: Path, other: Path) -> None:
    """The same losses to four digits, the same measurements, and the same weights."""
    for name in ("log", "evaluation") if (other / "evaluation.jsonl").exists() else ("log",):
        first = {row["step"]: row for row in log(one, name)}
        second = {row["step"]: row for row in log(other, name)}
        assert set(first) <= set(second) and (name == "evaluation" or set(first) == set(second))
        for step, row in first.items():
            losses = {key: value for key, value in row.items() if key.endswith(("loss", "accuracy", "count"))}
            assert {key: second[step][key] for key in losses} == pytest.approx(losses, rel=1e-4, abs=1.1e-4), (other, name, step)
    weights, others = open_checkpoint(one / "model"), open_checkpoint(other / "model")
    for name in weights:
        np.testing.assert_allclose(others[name], weights[name], atol=1e-4, err_msg=f"{other} {name}")


@needs_jax
def test_jax_on_two_and_four_devices(folder: Path) -> None:
    """By data and by weights; a run goes on with another number of devices."""
    jobs = [
        ("jax/one", None, {}),
        ("jax/four", 4, {"devices": "data", "held_out": []}),
        ("jax/again", 4, {"devices": "data", "minutes": 0.0}),
        ("jax/again", 2, {"devices": "data"}),
        ("jax/model", 2, {"devices": "model"}),
    ]
    train("jax", folder, jobs)
    for name in ("four", "again", "model"):
        assert_same(folder / "jax" / "one", folder / "jax" / name)


@pytest.mark.slow
@needs_jax
def test_jax_in_two_processes(folder: Path, tmp_path: Path) -> None:
    """They share a run, stop together, and go on; only the first one writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    jobs = [("jax/two", None, {"devices": "data", "minutes": 0.0}), ("jax/two", None, {"devices": "data"})]
    started = []
    for number in range(2):
        where = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
        variables = environment("jax", **where, KERAS_DISTRIBUTION_PROCESS_ID=str(number))
        output = (tmp_path / str(number)).open("w+", encoding="utf-8")
        started.append((subprocess.Popen(command(folder, jobs, {}), env=variables, cwd=folder, stdout=output, stderr=output), output))
    told = []
    for process, output in started:
        try:
            process.wait(timeout=600)
        finally:
            process.kill()
        output.seek(0)
        told.append(output.read())
        output.close()
        assert process.returncode == 0, told[-1][-3000:]
    assert [text.count("\nstep ") for text in told] == [3, 0]
    if not (folder / "jax" / "one").exists():
        train("jax", folder, [("jax/one", None, {})])
    assert_same(folder / "jax" / "one", folder / "jax" / "two")


@pytest.mark.slow
def test_tensorflow_on_four_devices(folder: Path) -> None:
    jobs = [
        ("tf/one", None, {}),
        ("tf/four", None, {"devices": "data", "held_out": []}),
        ("tf/again", None, {"devices": "data", "minutes": 0.0}),
    ]
    train("tensorflow", folder, jobs, logical_devices=4)
    assert_same(folder / "tf" / "one", folder / "tf" / "four")


@pytest.mark.slow
def test_tensorflow_on_two_devices(folder: Path) -> None:
    """What four devices began, two finish; and what several devices must do together: clip, average, orthogonalise."""
    if not (folder / "tf" / "again").exists():
        pytest.skip("goes on with what test_tensorflow_on_four_devices began")
    jobs = [
        ("tf/again", None, {"devices": "data"}),
        ("tf/hard_one", None, HARD),
        ("tf/hard_two", None, HARD | {"devices": "data"}),
    ]
    train("tensorflow", folder, jobs, logical_devices=2)
    assert_same(folder / "tf" / "one", folder / "tf" / "again")
    assert_same(folder / "tf" / "hard_one", folder / "tf" / "hard_two")

"""Snapshots: everything in, everything out, and nothing half-written or damaged is ever taken."""

from __future__ import annotations

import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from safetensors import SafetensorError

from bert4k.errors import CheckpointError
from bert4k.pretraining import snapshots
from bert4k.pretraining.snapshots import clear_unfinished, restore, variables_of, write

pytestmark = pytest.mark.backends


def model(width: int = 3, **more: Any) -> keras.Model:
    made = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(width)])
    made.compile(keras.optimizers.AdamW(0.1, use_ema=True, **more), "mse")
    made.optimizer.build(made.trainable_variables)
    return made


def train(made: keras.Model, steps: int = 1) -> keras.Model:
    random = np.random.default_rng(0)
    for _ in range(steps):
        made.train_on_batch(random.normal(size=(8, 4)).astype("float32"), random.normal(size=(8, made.output_shape[-1])).astype("float32"))
    return made


def contents(made: keras.Model) -> dict[str, np.ndarray]:
    return {name: np.array(keras.ops.convert_to_numpy(each)) for name, each in variables_of(made).items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, np.ndarray]]]:
    """A folder with the snapshots of steps 1 and 2, and what they hold."""
    folder = tmp_path_factory.mktemp("two") / "snapshots"
    made, held = model(), {}
    for step in (1, 2):
        write(folder, train(made), step)
        held[step] = contents(made)
    return folder, held


@pytest.fixture
def folder(two: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(two[0], tmp_path / "snapshots"))


def newest(folder: Path) -> Path:
    return folder / "step-00000002.safetensors"


def test_everything_comes_back(two: tuple[Path, dict[int, dict[str, np.ndarray]]]) -> None:
    folder, held = two
    made = model()
    assert restore(folder, made) == 2
    assert_same(contents(made), held[2])
    kinds = " ".join(held[2])
    for kind in ("seed_generator_state", "kernel", "iteration", "momentum", "velocity", "average"):
        assert kind in kinds
    moved = any(np.any(held[1][name] != held[2][name]) for name in held[1] if "seed_generator" in name)
    assert moved or keras.backend.backend() == "torch"  # whose dropout draws from a generator of its own


def test_what_is_restored_goes_on_as_if_nothing_had_happened(folder: Path) -> None:
    went_on = []
    for _ in range(2):
        made = model()
        restore(folder, made)
        went_on.append(contents(train(made, 3)))
    assert_same(*went_on)


def test_names_do_not_depend_on_what_was_built_before(two: tuple[Path, Any]) -> None:
    names = [list(variables_of(model())) for _ in range(2)]
    assert names[0] == names[1]


def test_without_a_snapshot_nothing_changes(tmp_path: Path) -> None:
    made = model()
    before = contents(made)
    assert restore(tmp_path / "none", made) == 0
    assert_same(contents(made), before)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    made = model()
    for step in (8, 9, 10, 1000):
        write(tmp_path, made, step, keep=3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"step-{step:08}.safetensors" for step in (9, 10, 1000)]
    assert restore(tmp_path, made) == 1000


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_snapshot_is_passed_over(folder: Path, two: tuple[Path, Any], share: float) -> None:
    content = newest(folder).read_bytes()
    newest(folder).write_bytes(content[: int(share * len(content))])
    made = model()
    with pytest.warns(UserWarning, match=r"step-00000002.safetensors is damaged .*going back to the snapshot before"):
        assert restore(folder, made) == 1
    assert_same(contents(made), two[1][1])


def test_no_flipped_bit_goes_unnoticed(folder: Path, two: tuple[Path, Any]) -> None:
    content = newest(folder).read_bytes()
    draw = random.Random(3)
    made = model()
    header = int.from_bytes(content[:8], "little") + 8
    places = [
        draw.randrange(8),
        *(draw.randrange(8, header) for _ in range(60)),
        *(draw.randrange(header, len(content)) for _ in range(60)),
    ]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        newest(folder).write_bytes(damaged)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            step = restore(folder, made)
        # A flipped bit in the header may fall on a blank or on nothing that is read; then all is there.
        assert step == (1 if told else 2), place
        assert told or place < header
        assert_same(contents(made), two[1][step])


def test_when_all_are_damaged_it_starts_anew(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        assert restore(folder, model()) == 0


def test_a_half_written_one_is_never_taken_and_is_cleared_away(folder: Path) -> None:
    content = newest(folder).read_bytes()
    leftover = folder / ".step-00000003.safetensors.0123.tmp"
    leftover.write_bytes(content[: len(content) // 2])
    (folder / "step-3.safetensors").write_bytes(content)
    assert restore(folder, model()) == 2
    clear_unfinished(folder)
    assert not leftover.exists() and newest(folder).exists()
    clear_unfinished(folder / "none")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")])
def test_a_full_disk_leaves_the_snapshots_before(folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(arrays: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(snapshots, "save_file", full)
    before = sorted(folder.iterdir())
    with pytest.raises(CheckpointError, match=r"step-00000003.*No space left on device"):
        write(folder, model(), 3)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(("width", "more"), [(5, {}), (3, {"amsgrad": True})])
def test_a_snapshot_of_another_model_is_refused(folder: Path, width: int, more: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="is a snapshot of another model"):
        restore(folder, model(width, **more))

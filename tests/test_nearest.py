"""The nearest vectors against a full sort, and the file in which vectors are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4k import nearest as module
from bert4k.errors import CheckpointError, DataError
from bert4k.nearest import load_vectors, nearest, save_vectors, unit


@given(st.integers(0, 50), st.integers(1, 12), st.integers(1, 7), st.integers(0, 9))
def test_the_greatest_cosines_in_their_order(many: int, count: int, block: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    queries, vectors = (random.integers(-1, 2, (size, 3)).astype("float32") for size in (4, many))  # few values: many are equal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        numbers, products = nearest(queries, vectors, count)
    assert numbers.shape == products.shape == (4, min(count, many))
    for row, query in enumerate(queries):
        order = sorted(range(many), key=lambda at: (-float(query @ vectors[at]), at))[:count]
        assert numbers[row].tolist() == order
        np.testing.assert_array_equal(products[row], [query @ vectors[at] for at in order])


def test_unit() -> None:
    np.testing.assert_allclose(unit(np.array([[3, 4], [0, 0]], "float32")), [[0.6, 0.8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("queries", "count"), [((3,), 1), ((1, 2), 1), ((1, 3), 0)])
def test_what_does_not_fit(queries: tuple[int, ...], count: int) -> None:
    with pytest.raises(DataError, match=r"expected \[Q, H\], \[N, H\]"):
        nearest(np.zeros(queries, "float32"), np.zeros((5, 3), "float32"), count)


def test_vectors_are_kept(tmp_path: Path) -> None:
    path, vectors = tmp_path / "a" / "v.safetensors", np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    save_vectors(path, vectors, "one")
    np.testing.assert_array_equal(load_vectors(path, "one"), vectors)
    assert [each.name for each in path.parent.iterdir()] == ["v.safetensors"]
    with pytest.raises(CheckpointError, match=r"those of another model .* Remove the file"):
        load_vectors(path, "other")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_vectors(path, "one")
    with pytest.raises(CheckpointError, match="Cannot write"):
        save_vectors(Path("/proc/nowhere/v.safetensors"), vectors, "one")

"""The memory of keys and values, written slot by slot: as new arrays, or in place in the graph of a loop."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.memory import empty, written, written_over

pytestmark = pytest.mark.backends
SHAPE = (2, 3, 5, 4)  # rows, heads, places, numbers


def filled(memory: np.ndarray, slots: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Row by row."""
    memory = memory.copy()
    for row, own in enumerate(slots):
        for at, slot in enumerate(own):
            memory[row, :, slot] = new[row, :, at]
    return memory


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_old_memory_stays(dtype: str) -> None:
    before = np.random.default_rng(1).normal(size=SHAPE).round(1).astype("float32")
    new, slots = np.ones((2, 3, 2, 4), "float32"), np.array([[0, 4], [3, 2]], "int32")
    memory = ops.cast(ops.convert_to_tensor(before), dtype)
    kept = ops.convert_to_numpy(ops.cast(memory, "float32"))
    found = written(memory, ops.convert_to_tensor(slots), ops.cast(new, dtype))
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.cast(found, "float32")), filled(kept, slots, new))
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.cast(memory, "float32")), kept)
    np.testing.assert_array_equal(ops.convert_to_numpy(empty(SHAPE, "float32")), np.zeros(SHAPE))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_in_a_loop_that_is_one_graph_it_is_written_over(dtype: str) -> None:
    """With the same outcome, and at every call: nothing of one is left to the next. Run as it is, nothing is written over."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow has to be told")
    import tensorflow as tf

    def loop(first: Any) -> Any:
        with written_over():
            memory, step = empty(SHAPE, dtype), tf.constant(0)

            def body(step: Any, memory: Any, seen: Any) -> Any:
                new = ops.cast(ops.broadcast_to(seen + 1, (2, 3, 1, 4)), dtype)
                memory = written(memory, ops.stack([step, 4 - step])[:, None], new)
                return step + 1, memory, seen + ops.max(ops.cast(memory, "float32"))

            return tf.while_loop(lambda step, *_: step < 4, body, (step, memory, first))[1:]

    graph = tf.function(loop, autograph=False).get_concrete_function(tf.constant(0.0))
    definition = graph.graph.as_graph_def()
    bodies = {node.op for function in definition.library.function for node in function.node_def}
    assert "Empty" in {node.op for node in definition.node}
    assert "InplaceUpdate" in bodies
    assert "TensorScatterUpdate" not in bodies
    expected, seen = np.zeros(SHAPE, "float32"), 0.0
    for step in range(4):
        expected = filled(expected, np.array([[step], [4 - step]]), np.full((2, 3, 1, 4), seen + 1, "float32"))
        seen += expected.max()
    for _ in range(2):
        memory, total = graph(tf.constant(0.0))
        np.testing.assert_array_equal(ops.convert_to_numpy(ops.cast(memory, "float32")), expected)
        assert float(total) == seen
    with written_over():
        before = ops.zeros(SHAPE)
        written(before, np.zeros((2, 1), "int32"), ops.ones((2, 3, 1, 4)))
        assert float(ops.max(before)) == 0

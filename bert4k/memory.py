"""The room for keys and values of tokens that are yet to be written: made empty, filled slot by slot.

As pure functions of arrays, but that a loop which is one graph may let the new memory take the place of the old one (`written_over`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

_OVER: ContextVar[bool] = ContextVar("over", default=False)


@contextmanager
def written_over() -> Iterator[None]:
    """Within, nobody reads a memory any more once there is the one that was `written` from it, and every new token depends on all that was
    read before: so it may be changed in place. For the graph of a whole loop, memories made by `empty` within it."""
    token = _OVER.set(True)
    try:
        yield
    finally:
        _OVER.reset(token)


def empty(shape: tuple[int, ...], dtype: str) -> Any:
    """A memory full of zeros."""
    if _in_place():
        import tensorflow as tf

        return tf.raw_ops.Empty(shape=shape, dtype=dtype, init=True)  # zeros would be a constant of the graph, which all calls share
    return ops.zeros(shape, dtype)


def written(memory: Any, slots: Any, new: Any) -> Any:
    """`memory` [B, N, M, D] with `new` [B, N, X, D] at `slots`, int32 [B, X].

    As a scatter into rows of D numbers, which JAX does in place where nobody needs the old memory any more. TensorFlow always copies, which
    takes time that grows with the memory, but for an operation that must be told that it need not."""
    rows, heads, room, size = memory.shape
    first = ops.reshape(ops.arange(rows * heads, dtype="int32") * room, (rows, heads, 1))
    index = ops.reshape(first + slots[:, None], (-1,))
    flat, values = ops.reshape(memory, (-1, size)), ops.reshape(new, (-1, size))
    if _in_place():
        import tensorflow as tf

        flat = tf.raw_ops.InplaceUpdate(x=flat, i=index, v=values)
    else:
        flat = ops.scatter_update(flat, index[:, None], values)
    return ops.reshape(flat, memory.shape)


def _in_place() -> bool:
    if not _OVER.get() or keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not (tf.executing_eagerly() or tf.config.list_physical_devices("GPU"))  # there, it was not tried

"""What Keras leaves to its backends: compiling a pure function around a model, and writing one slot of a cache."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


def compiled(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one graph. It takes and returns nested structures of arrays and may call the layers of `model`.

    Each new combination of input shapes is compiled once. Weights are read anew at every call, so training the model
    between calls needs no recompilation; a model that has come to hold other variables (LoRA, quantisation) is compiled anew.
    TensorFlow: tf.function. JAX: jit. PyTorch: traced to one graph of tensor operations, which inductor compiles once it has
    run often, where a C++ compiler is installed.
    """
    match keras.backend.backend():
        case "tensorflow":
            return _graph(model, function)
        case "jax":
            import jax

            return _with_weights(model, jax.jit(_stateless(model, function)))
        case _:
            return _with_weights(model, _traced(_stateless(model, function)))


def loops_are_compiled() -> bool:
    """Whether `keras.ops.while_loop` is part of a compiled graph; PyTorch loops in Python around a compiled body."""
    return keras.backend.backend() != "torch"


def write_slot(cache: Any, slot: Any, new: Any) -> Any:
    """`cache` [B, W, N, T, D] with `new` [B, W, N, 1, D] at `slot`, an int32 scalar."""
    if keras.backend.backend() == "torch":
        # Keras' slice_update asks for the value of `slot`, which a traced graph does not have.
        return cache.index_copy(3, ops.cast(ops.reshape(slot, (1,)), "int64"), new)
    return ops.slice_update(cache, (0, 0, 0, slot, 0), new)


def owned(array: np.ndarray) -> np.ndarray:
    """`array`, copied where the backend would go on sharing its memory, which may be a read-only file."""
    return np.array(array) if keras.backend.backend() == "torch" else array


def _graph(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    # A graph holds the variables that it met. Kept here, too, so that none of them can be freed and its id given to another.
    variables: list[Any] = []
    graphs: dict[Any, Callable[..., Any]] = {}

    def call(*args: Any) -> Any:
        nonlocal variables
        if list(map(id, model.variables)) != list(map(id, variables)):
            variables = model.variables
            graphs.clear()
        args = keras.tree.map_structure(ops.convert_to_tensor, args)
        shapes = _shapes(args)
        if shapes not in graphs:  # looked up here, since tf.function would warn of many shapes
            graphs[shapes] = tf.function(function, autograph=False).get_concrete_function(*args)
        return graphs[shapes](*args)

    return call


def _shapes(args: Any) -> Any:
    """What a graph is compiled for."""
    return tuple((tuple(x.shape), x.dtype) for x in keras.tree.flatten(args))


def _stateless(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the values of the model's variables as its first argument."""

    def stateless(values: list[Any], *args: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            return function(*args)

    return stateless


def _with_weights(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function([variable.value for variable in model.variables], *args)

    return call


def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    # Compiling takes seconds, so only a graph that has proved to run often is worth it.
    often = 32
    compilable = bool(shutil.which("g++") or shutil.which("clang++"))
    graphs: dict[Any, Callable[..., Any]] = {}
    runs: Counter[Any] = Counter()

    def call(*args: Any) -> Any:
        args = keras.tree.map_structure(lambda x: ops.convert_to_tensor(x).detach(), args)
        shapes = _shapes(args)
        with torch.no_grad():
            if shapes not in graphs:
                graphs[shapes] = make_fx(function)(*args)
            runs[shapes] += 1
            if runs[shapes] == often and compilable:
                graphs[shapes] = torch.compile(graphs[shapes], dynamic=False)
            return graphs[shapes](*args)

    return call

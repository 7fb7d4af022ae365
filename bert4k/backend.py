"""What Keras leaves to its backends: compiling a pure function around a model, random states, and several devices."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
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


def attention_fuses(keys: Any) -> bool:
    """Whether the backend has attention to `keys` as one operation that is faster than its parts: PyTorch, on a CPU by 1.5 to 2 times; but
    its gradient in 16 bits takes 4 to 6 times as long as theirs there. On TensorFlow and JAX Keras' own is made of the same parts."""
    if keras.backend.backend() != "torch":
        return False
    return not (keys.device.type == "cpu" and keys.element_size() < 4 and keys.requires_grad)


def fused_attention(query: Any, keys: Any, values: Any, allowed: Any) -> Any:
    """softmax(query keysᵀ) values of queries [B, N, Q, D], which are scaled, keys and values [B, N, K, D], where `allowed` [B, 1, Q, K];
    zero for a query that may look nowhere. Where `attention_fuses`."""
    import torch

    allowed = ops.convert_to_tensor(allowed, "bool")
    return torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=allowed, scale=1.0)


def affine(x: Any, kernel: Any, bias: Any) -> Any:
    """x [..., I] times kernel [I, O], plus bias [O]: one operation on PyTorch, which else goes over the result once more on a CPU."""
    if keras.backend.backend() != "torch":
        return ops.add(ops.matmul(x, kernel), bias)
    import torch

    kernel, bias = ops.convert_to_tensor(kernel), ops.convert_to_tensor(bias)
    return torch.nn.functional.linear(ops.convert_to_tensor(x, kernel.dtype), kernel.T, bias)


def jit_compile(asked: bool | str | None = "auto") -> bool | str | None:
    """What to give Keras as `jit_compile`, where that is `asked` for. XLA compiles anew for each shape of a batch: on TensorFlow and a CPU
    for 6 to 11 s of processor time at each length of the shipped checkpoint, for steps that take a tenth less than those of tf.function,
    which after two lengths knows all (tests/bench/results/xla.json). So there "auto" is False."""
    if asked != "auto" or keras.backend.backend() != "tensorflow":
        return asked
    import tensorflow as tf

    return "auto" if tf.config.list_physical_devices("GPU") else False


def shapes_are_compiled() -> bool:
    """Whether a batch of a new shape costs more than its tokens. PyTorch runs operation after operation, whatever the shapes."""
    return keras.backend.backend() != "torch"


def set_seed(seed: int) -> None:
    """`keras.utils.set_random_seed`, which imports TensorFlow, for seconds, whatever the backend. What Keras draws follows from Python's
    generator: initial weights, and the states of the generators of dropout."""
    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(seed)
    else:
        random.seed(seed)
        np.random.seed(seed % 2**32)
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)


def seed_dropout(model: keras.Model, *seed: int) -> None:
    """Let what `model` drops from now on follow from the numbers of `seed`: Keras stores no state of random numbers with the weights. On
    PyTorch, dropout without a seed of its own draws from the generators of the devices."""
    states = [each for each in model.non_trainable_variables if each.path.endswith("seed_generator_state")]
    for place, state in enumerate(states):
        state.assign([int(np.random.default_rng([*seed, place]).integers(2**31)), 0])
    if keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(int(np.random.default_rng(seed).integers(2**31)))


def generator_states() -> dict[str, np.ndarray]:
    """The states of random generators that are no variables of a model: on PyTorch, dropout draws from the generators of the devices."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"cpu": torch.get_rng_state(), **{f"cuda/{place}": state for place, state in enumerate(torch.cuda.get_rng_state_all())}}
    return {name: state.cpu().numpy() for name, state in states.items()}


def set_generator_states(states: Mapping[str, np.ndarray]) -> None:
    """Put back what `generator_states` gave, as far as there are such devices here."""
    if keras.backend.backend() != "torch":
        return
    import torch

    for name, state in states.items():
        if name == "cpu":
            torch.set_rng_state(torch.from_numpy(state))
        elif (place := int(name.removeprefix("cuda/"))) < torch.cuda.device_count():
            torch.cuda.set_rng_state(torch.from_numpy(state), place)


def loops_are_compiled() -> bool:
    """Whether `keras.ops.while_loop` is part of a compiled graph; PyTorch loops in Python around a compiled body."""
    return keras.backend.backend() != "torch"


def repeat_while(going: Callable[[Any], Any], advance: Callable[[Any], Any], state: Any) -> Any:
    """`advance(state)` again and again while `going(state)`, as part of a graph: `keras.ops.while_loop` over any nested structure."""

    def packed(values: Any) -> Any:
        return keras.tree.pack_sequence_as(state, list(values))

    values = ops.while_loop(
        lambda *values: going(packed(values)),
        lambda *values: tuple(keras.tree.flatten(advance(packed(values)))),
        tuple(keras.tree.flatten(state)),
    )
    return packed(values)


def scan(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, rows: Any) -> tuple[Any, Any]:
    """(the last state, all outputs [N, ...]) of `step(state, row) -> (state, output)` over the rows of an array [N, ...]: `keras.ops.scan`.

    On PyTorch, Keras cuts each row out of the array by itself. The gradient of such a cut is as large as the whole array, so that of all
    takes time that grows with the square of N; here the array is taken apart once."""
    if keras.backend.backend() != "torch":
        last, outputs = ops.scan(step, state, rows)
        return last, outputs
    import torch

    found = []
    for row in torch.unbind(ops.convert_to_tensor(rows)):
        state, output = step(state, row)
        found.append(output)
    return state, torch.stack(found)


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
    graphs: dict[Any, Callable[..., Any]] = {}
    runs: Counter[Any] = Counter()

    def call(*args: Any) -> Any:
        args = keras.tree.map_structure(lambda x: ops.convert_to_tensor(x).detach(), args)
        shapes = _shapes(args)
        with torch.no_grad():
            if shapes not in graphs:
                graphs[shapes] = make_fx(function)(*args)
            runs[shapes] += 1
            if runs[shapes] == often and has_compiler():
                graphs[shapes] = torch.compile(graphs[shapes], dynamic=False)
            return graphs[shapes](*args)

    return call


def differentiated(function: Callable[[list[Any]], tuple[Any, Any]], values: list[Any]) -> tuple[Any, Any, list[Any]]:
    """(loss, more, gradients): what `function(values) -> (loss, more)` gives, and the gradients of the scalar `loss` by each of `values`,
    arrays of floating-point numbers; 0 where the loss does not depend on one.

    May be called inside a function that is itself differentiated, and is then part of what is."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            values = [tf.convert_to_tensor(value) for value in values]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                loss, more = function(values)
            gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return loss, more, [tf.convert_to_tensor(gradient) for gradient in gradients]  # of a lookup: no longer by rows
        case "jax":
            import jax

            (loss, more), gradients = jax.value_and_grad(function, has_aux=True)(values)
            return loss, more, gradients
        case _:
            import torch

            parameter = torch.nn.Parameter  # what a variable holds, which asks for gradients whether or not anybody differentiates
            inside = any(value.requires_grad and not isinstance(value, parameter) for value in values)
            with torch.enable_grad():
                values = [value if inside and value.requires_grad else value.detach().requires_grad_() for value in values]
                loss, more = function(values)
            return loss, more, list(torch.autograd.grad(loss, values, create_graph=inside, allow_unused=True, materialize_grads=True))


def torch_gradients(model: keras.Model, function: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[list[Any], Any, Any]]:
    """PyTorch only: what `function(*args) -> (loss, more)` gives, and the gradients of the loss by the trainable variables of `model`: a
    function of the same arguments that returns (gradients, loss, more).

    Forward and backward pass are traced to one graph, which inductor compiles where a C++ compiler is installed; `torch.compile` itself
    finds many small graphs in Keras' layers and leaves much between them to Python. Shapes must not change. Random numbers that are drawn
    inside would be drawn once and for all, so a model with dropout must not come here.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    variables = model.trainable_variables

    def stateless(values: list[Any], *args: Any) -> tuple[Any, Any]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*args)

    with_gradients = torch.func.grad_and_value(stateless, has_aux=True)
    graph: Callable[..., Any] | None = None

    def call(*args: Any) -> tuple[list[Any], Any, Any]:
        nonlocal graph
        values = [variable.value.detach() for variable in variables]
        with torch.no_grad():
            if graph is None:
                graph = make_fx(with_gradients)(values, *args)
                if has_compiler():
                    graph = torch.compile(graph, dynamic=False)
            gradients, (loss, more) = graph(values, *args)
        return gradients, loss, more

    return call


def torch_update(optimizer: keras.optimizers.Optimizer) -> Callable[[list[Any]], None]:
    """PyTorch only: a function of the gradients that does what `optimizer.apply` does, to the variables that it was built for.

    Keras' AdamW works on all weights at once. Others, such as Muon with its iteration of matrix products, go through them one by one in
    Python: these are traced to one graph, too, which inductor compiles (measured for Muon and 5 million weights: a fifth of the time).
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    variables = optimizer._trainable_variables
    if hasattr(optimizer, "_parallel_update_step") or optimizer.gradient_accumulation_steps or not has_compiler():
        return lambda gradients: optimizer.apply(gradients, variables)
    graph: Callable[..., Any] | None = None

    def update(gradients: list[Any]) -> None:
        nonlocal graph
        state = [variable.value.detach() for variable in optimizer.variables]
        weights = [variable.value.detach() for variable in variables]
        with torch.no_grad():
            if graph is None:
                traced = make_fx(lambda *state: optimizer.stateless_apply(*state))(state, gradients, weights)
                graph = torch.compile(traced, dynamic=False)
            weights, state = graph(state, gradients, weights)
            for variable, value in zip([*variables, *optimizer.variables], [*weights, *state], strict=True):
                variable.assign(value)

    return update


def has_compiler() -> bool:
    """Whether PyTorch can compile for the processor: it needs a C++ compiler at run time."""
    return bool(shutil.which("g++") or shutil.which("clang++"))


# Several devices, and several processes that train together. -------------------------------------------------------------------------


def parts() -> int:
    """Into how many parts the distribution in whose scope this is called cuts every batch; 1 without one."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return int(tf.distribute.get_strategy().num_replicas_in_sync)
        case "jax":
            distribution = keras.distribution.distribution()
            return 1 if distribution is None else int(distribution.num_model_replicas)
        case _:
            return 1


def replicas() -> int:
    """How many devices sum up their losses: TensorFlow's strategies do, while elsewhere a loss is that of the whole batch."""
    return parts() if keras.backend.backend() == "tensorflow" else 1


def process() -> tuple[int, int]:
    """The number of this process, from 0, and how many train together."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    return 0, 1


def wait_for_all(where: str) -> None:
    """Go on when every process has come to this point, which has the same name in all."""
    if process()[1] > 1:
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(where)


def agreed(value: bool) -> bool:
    """What the first process says, in all of them."""
    if process()[1] == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return bool(broadcast_one_to_all(np.asarray(value)))

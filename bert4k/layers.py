"""The layers that Keras lacks: attention under a given mask, with a key-value cache; what tokens are; an output bias; a tied projection.

Everything else of a transformer (Dense, Embedding, LayerNormalization, Dropout) is Keras' own, so that LoRA, quantisation
and export work as Keras gives them.

Shapes: B batch, L tokens, H hidden, N heads, D head size, S source tokens, M tokens of the target, X new ones.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from bert4k import masks
from bert4k.backend import affine, attention_fuses, fused_attention
from bert4k.beside import current_condition, current_scores, summed_scores
from bert4k.errors import DataError
from bert4k.memory import written
from bert4k.positions import Absolute, Places, Positions

# Added to a score where the query may not look. Finite, so that a row which may look nowhere gives no NaN; it is added in
# float32.
FORBIDDEN = -1e9


@keras.saving.register_keras_serializable("bert4k")
def gelu_tanh(x: Any) -> Any:
    """The tanh approximation of GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": keras.activations.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": keras.activations.relu,
    "tanh": keras.activations.tanh,
    "silu": keras.activations.silu,
}


class KeysValues(NamedTuple):
    """What attention looks at: keys and values, each [B, N, S, D]."""

    keys: Any
    values: Any


def attention_weights(scores: Any, allowed: Any) -> Any:
    """Softmax over the last axis of `scores` [..., Q, K], zero where `allowed` (bool, broadcast) is False.

    A row that may look nowhere is zero throughout: an average over everything would show it what it may not see. The one
    place where a mask becomes numbers; computed in float32 whatever the dtype of the scores."""
    bias = ops.multiply(1.0 - ops.cast(allowed, "float32"), FORBIDDEN)
    scores32 = ops.cast(scores, "float32") + bias
    weights = ops.softmax(scores32, axis=-1) if scores.shape[-1] != 1 else ops.ones_like(scores32)  # Keras warns of one key
    return ops.cast(weights * ops.cast(ops.any(allowed, axis=-1, keepdims=True), "float32"), scores.dtype)


@keras.saving.register_keras_serializable("bert4k")
class Attention(keras.layers.Layer):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2) under a boolean mask.

    `attention(x, allowed)` with x [B, L, H] and allowed bool [B, 1, L, L] gives [B, L, H], or [B, L, width].

    positions: what it does with positions, a kind of `bert4k.positions`. Where that is nothing, position_ids and places may be left out;
    position_ids int32 [B, L] are those of x, and `Places` those of the queries and of the keys in memory. scaled: whether queries are
    divided by the root of the head size. width: of the outputs; None is heads x head size. residual: whether the scores of all layers
    before are added to its own, as RealFormer does (He et al. 2020, arXiv:2012.11747, section 3): those of this run (`bert4k.beside`).
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        dropout: float = 0.0,
        initializer: Any = "glorot_uniform",
        positions: Any = None,
        use_bias: bool = True,
        scaled: bool = True,
        width: int | None = None,
        residual: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.use_bias, self.scaled, self.width, self.residual = use_bias, scaled, width, residual
        self.num_heads, self.head_size, self.dropout_rate = num_heads, head_size, dropout
        self.positions: Any = Absolute() if positions is None else positions
        self.initializer = keras.initializers.get(initializer)
        self.projections = self.make_projections()
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def make_projections(self) -> dict[str, keras.layers.Layer]:
        """The layers that hold its weights, by name."""
        inner = self.num_heads * self.head_size
        self.query, self.key, self.value = (self.dense(name, inner) for name in ("query", "key", "value"))
        self.output_projection = self.dense("output", self.width or inner)
        return {"query": self.query, "key": self.key, "value": self.value, "output": self.output_projection}

    def dense(self, name: str, units: int, activation: Any = None) -> keras.layers.Dense:
        # A clone each: one random initializer used twice gives the same values twice.
        first = self.initializer.clone()
        return Dense(units, activation, self.use_bias, first, dtype=self.dtype_policy, name=name)

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        for projection in (self.query, self.key, self.value):
            projection.build(x_shape)
        self.output_projection.build((*x_shape[:-1], self.num_heads * self.head_size))
        if isinstance(self.positions, keras.layers.Layer) and not self.positions.built:  # shared with other layers
            self.positions.build(None)

    def compute_output_spec(
        self,
        x: Any,
        allowed: Any,
        position_ids: Any = None,
        source: Any = None,
        source_position_ids: Any = None,
        return_weights: bool = False,
        before: Any = None,
        training: bool | None = None,
    ) -> Any:
        looked_at = x if source is None else source
        out = keras.KerasTensor((*x.shape[:-1], self.width or self.num_heads * self.head_size), self.compute_dtype)
        square = (x.shape[0], self.num_heads, x.shape[1], looked_at.shape[1])
        weights, scores = (keras.KerasTensor(square, self.compute_dtype) for _ in range(2))
        return self._given(out, weights if return_weights else None, scores)

    def call(
        self,
        x: Any,
        allowed: Any,
        position_ids: Any = None,
        source: Any = None,
        source_position_ids: Any = None,
        return_weights: bool = False,
        before: Any = None,
        training: bool | None = None,
    ) -> Any:
        """x [B, L, H] looks at itself, or at `source` [B, S, H], which stands at `source_position_ids` [B, S]. return_weights: give also
        how much each token looks at each other one, [B, N, L, S], before dropout. before: the scores of the layers before, [B, N, L, S];
        residual attention gives, last of all, their sum with its own."""
        if source is None:
            source, source_position_ids = x, position_ids
        places = None if position_ids is None else Places(position_ids, source_position_ids)
        memory = self.keys_values(source, source_position_ids)
        if self._fuses(memory.keys) and not return_weights and (self.dropout is None or not training):
            return self.attend(x, memory, allowed, places)
        with summed_scores(before) as scores:
            weights = self.probabilities(x, memory, allowed, places)
        dropped = self.dropout(weights, training=training) if self.dropout is not None else weights
        out = self.gather(x, dropped, memory, places)
        return self._given(out, weights if return_weights else None, scores.sum)

    def _given(self, out: Any, weights: Any, scores: Any) -> Any:
        """What a call gives: `out` alone, or a tuple with what else is asked for."""
        more = (*(() if weights is None else (weights,)), *((scores,) if self.residual else ()))
        return (out, *more) if more else out

    def split(self, x: Any) -> Any:
        """[B, L, N x D] -> [B, N, L, D]."""
        batch, length = ops.shape(x)[:2]
        return ops.transpose(ops.reshape(x, (batch, length, self.num_heads, self.head_size)), (0, 2, 1, 3))

    def merge(self, looked: Any) -> Any:
        """[B, N, L, D] -> [B, L, N x D]."""
        batch, heads, length, size = ops.shape(looked)
        return ops.reshape(ops.transpose(looked, (0, 2, 1, 3)), (batch, length, heads * size))

    def outcome(self, x: Any, looked: Any) -> Any:
        """The layer's output [B, L, H] for x [B, L, H], whose queries have `looked` up [B, N, L, D]."""
        return self.output_projection(self.merge(looked))

    def normalised(self, scores: Any, allowed: Any) -> Any:
        """`attention_weights`."""
        return attention_weights(scores, allowed)

    def scaled_query(self, x: Any, position_ids: Any = None) -> Any:
        """Queries of x [B, L, H], divided by the square root of the head size where it is scaled: [B, N, L, D]."""
        query = self.query(x) * (self.head_size**-0.5) if self.scaled else self.query(x)
        return self.positions.turned(self.split(query), position_ids)

    def keys_values(self, x: Any, position_ids: Any = None) -> KeysValues:
        """Keys and values of x [B, L, H], each [B, N, L, D]."""
        return KeysValues(self.positions.turned(self.split(self.key(x)), position_ids), self.split(self.value(x)))

    def attend(self, x: Any, memory: KeysValues, allowed: Any, places: Places | None = None) -> Any:
        """The outputs [B, L, H] of queries x [B, L, H] that look at `memory` [B, N, K, D]; allowed bool [B, 1, L, K]. Without dropout."""
        if self._fuses(memory.keys):
            query = self.scaled_query(x, places and places.queries)
            return self.outcome(x, fused_attention(query, *memory, self.positions.seen(allowed, places)))
        return self.gather(x, self.probabilities(x, memory, allowed, places), memory, places)

    def _fuses(self, keys: Any) -> bool:
        """Whether weights and sums are one operation: the backend has it for such keys, and scores are but products of queries and keys."""
        positions = type(self.positions)
        plain = positions.scores is Positions.scores and positions.values is Positions.values
        return attention_fuses(keys) and plain and type(self) is Attention and not self.residual

    def probabilities(self, x: Any, memory: KeysValues, allowed: Any, places: Places | None = None) -> Any:
        """How much each query of x [B, L, H] looks at each key of `memory`: [B, N, L, K], as `attention_weights` gives them."""
        query = self.scaled_query(x, places and places.queries)
        scores = _plus(self.products(query, memory.keys, places), self.positions.scores(query, places))
        return self.normalised(self.summed(scores), self.positions.seen(allowed, places))

    def summed(self, scores: Any) -> Any:
        """`scores` [B, N, Q, K], with those of the layers before where attention is residual."""
        return current_scores().add(scores) if self.residual else scores

    def products(self, query: Any, keys: Any, places: Places | None) -> Any:
        """Of queries [B, N, Q, D], which are scaled, and keys [B, N, K, D]: [B, N, Q, K]."""
        return ops.matmul(query, ops.transpose(keys, (0, 1, 3, 2)))

    def gather(self, x: Any, weights: Any, memory: KeysValues, places: Places | None = None) -> Any:
        """The outputs [B, L, H] for x [B, L, H] of weights [B, N, L, K] over the values of `memory`."""
        return self.outcome(x, _plus(ops.matmul(weights, memory.values), self.positions.values(weights, places)))

    def step(
        self, x: Any, source: KeysValues, target: KeysValues, slots: Any, allowed: Any, places: Places | None = None
    ) -> tuple[Any, KeysValues]:
        """New tokens x [B, X, H], whose keys and values are written to `slots`, int32 [B, X], of the target's memory [B, N, M, D].

        They look at the source's keys and values [B, N, S, D] and at the target's, the new ones included; allowed: bool
        [B, 1, X, S + M]; places: of the new tokens [B, X] and of all that they look at [B, S + M]. Returns the outputs [B, X, H] and
        the new target.
        """
        position_ids, length = places and places.queries, source.keys.shape[2]
        query, new = self.scaled_query(x, position_ids), self.keys_values(x, position_ids)
        target = KeysValues(*(written(memory, slots, values) for memory, values in zip(target, new, strict=True)))
        where = [places and places._replace(keys=places.keys[:, part]) for part in (slice(length), slice(length, None))]
        scores = [self.products(query, *each) for each in zip((source.keys, target.keys), where, strict=True)]
        scores = _plus(ops.concatenate(scores, axis=-1), self.positions.scores(query, places))  # [B, N, X, S + M]
        weights = self.normalised(self.summed(scores), self.positions.seen(allowed, places))
        looked = ops.matmul(weights[..., :length], source.values) + ops.matmul(weights[..., length:], target.values)
        return self.outcome(x, _plus(looked, self.positions.values(weights, places))), target

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_heads": self.num_heads,
            "head_size": self.head_size,
            "dropout": self.dropout_rate,
            "initializer": keras.initializers.serialize(self.initializer),
            "positions": keras.saving.serialize_keras_object(self.positions),
            "use_bias": self.use_bias,
            "scaled": self.scaled,
            "width": self.width,
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Attention":
        return cls(**config | {"positions": keras.saving.deserialize_keras_object(config["positions"])})


def _plus(x: Any, more: Any) -> Any:
    """x, and `more` where there is any."""
    return x if more is None else x + more


@keras.saving.register_keras_serializable("bert4k")
class TokenInputs(keras.layers.Layer):
    """What the model knows of its tokens: fills in the optional inputs and evaluates the mask.

    Returns segment ids int32 [B, L] (default 0), position ids int32 [B, L] (default: the place among the real tokens of
    the row, or of the document), and the mask, bool [B, 1, L, L].
    """

    def __init__(self, mask: str | masks.Mask, pad_token_id: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask, self.pad_token_id = masks.get(mask), pad_token_id

    def call(
        self,
        token_ids: Any,
        segment_ids: Any = None,
        real: Any = None,
        position_ids: Any = None,
        document_ids: Any = None,
        order: Any = None,
    ) -> tuple[Any, Any, Any]:
        if real is None:
            real = ops.not_equal(token_ids, self.pad_token_id)
        if segment_ids is None:
            segment_ids = ops.zeros_like(token_ids)
        tokens = self.mask.tokens(segment_ids, real, document_ids, order)
        if position_ids is None:
            position_ids = ops.maximum(tokens.index, 0) if document_ids is None else _place_in_document(tokens)
        return segment_ids, position_ids, self.mask(tokens, tokens)

    def compute_output_spec(self, token_ids: Any, **others: Any) -> tuple[Any, Any, Any]:
        batch, length = token_ids.shape
        return (
            keras.KerasTensor((batch, length), "int32"),
            keras.KerasTensor((batch, length), "int32"),
            keras.KerasTensor((batch, 1, length, length), "bool"),
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"mask": str(self.mask), "pad_token_id": self.pad_token_id}


def _place_in_document(tokens: masks.Tokens) -> Any:
    """How many real tokens of the same document stand before each token, int32 [B, L]."""
    same = ops.equal(tokens.document[:, :, None], tokens.document[:, None, :])
    before = ops.logical_and(ops.less(tokens.index[:, None, :], tokens.index[:, :, None]), tokens.real[:, None, :])
    return ops.sum(ops.cast(ops.logical_and(same, before), "int32"), axis=2)


@keras.saving.register_keras_serializable("bert4k")
class Bias(keras.layers.Layer):
    """Adds a trainable vector to the last axis: the output bias of the masked-LM head, whose kernel is the embedding's."""

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        self.bias = self.add_weight(name="bias", shape=(x_shape[-1],), initializer=self.bias_initializer)

    def __init__(self, bias_initializer: Any = "zeros", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def call(self, x: Any) -> Any:
        return x + ops.cast(self.bias, x.dtype)

    def compute_output_shape(self, x_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"bias_initializer": keras.initializers.serialize(self.bias_initializer)}


@keras.saving.register_keras_serializable("bert4k")
class UnitNormalization(keras.layers.Layer):
    """Divides by the root of the mean square of the last axis (RMSNorm, arXiv:1910.07467, without its gain): nothing is learned."""

    def __init__(self, epsilon: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, x: Any) -> Any:
        x32 = ops.cast(x, "float32")
        return ops.cast(x32 * ops.rsqrt(ops.mean(ops.square(x32), axis=-1, keepdims=True) + self.epsilon), x.dtype)

    def compute_output_shape(self, x_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"epsilon": self.epsilon}


@keras.saving.register_keras_serializable("bert4k")
class RootMeanSquareNormalization(UnitNormalization):
    """As `UnitNormalization`, times a trained gain (RMSNorm, Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, epsilon: float = 1e-6, gamma_initializer: Any = "ones", **kwargs: Any) -> None:
        super().__init__(epsilon, **kwargs)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(x_shape[-1],), initializer=self.gamma_initializer)

    def call(self, x: Any) -> Any:
        return super().call(x) * ops.cast(self.gamma, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"gamma_initializer": keras.initializers.serialize(self.gamma_initializer)}


@keras.saving.register_keras_serializable("bert4k")
class ConditionalNormalization(keras.layers.LayerNormalization):
    """Layer normalisation whose gain and bias depend on a condition c [B, C]: gamma + c U and beta + c V (Su 2020, kexue.fm/archives/7124;
    bert4keras' LayerNormalization). U and V start at zero: whatever the condition, a checkpoint is at first what it was.

    `norm(x)` with x [B, ..., H] takes the condition of its run (`bert4k.beside`). Raises `DataError` where there is none."""

    def __init__(
        self, condition_size: int, *, gamma_kernel_initializer: Any = "zeros", beta_kernel_initializer: Any = "zeros", **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.condition_size = condition_size
        self.gamma_kernel_initializer = keras.initializers.get(gamma_kernel_initializer)
        self.beta_kernel_initializer = keras.initializers.get(beta_kernel_initializer)

    def build(self, x_shape: tuple[int | None, ...], condition_shape: tuple[int | None, ...] | None = None) -> None:
        super().build(x_shape)
        shape = (self.condition_size, x_shape[-1])
        self.gamma_kernel = self.add_weight(name="gamma_kernel", shape=shape, initializer=self.gamma_kernel_initializer)
        self.beta_kernel = self.add_weight(name="beta_kernel", shape=shape, initializer=self.beta_kernel_initializer)

    def __call__(self, x: Any, condition: Any = None, **kwargs: Any) -> Any:
        condition = current_condition() if condition is None else condition
        if condition is None:
            raise DataError(
                f"The norms of this model take a condition of {self.condition_size} numbers for each row, and there is none here. Give the"
                " model an input 'condition', or generate() and stream() their condition=; other ways of decoding take none."
            )
        return super().__call__(x, condition, **kwargs)

    def call(self, x: Any, condition: Any) -> Any:
        condition = ops.reshape(ops.cast(condition, x.dtype), (-1, *(1 for _ in x.shape[2:]), self.condition_size))
        gamma, beta = (
            ops.cast(vector, x.dtype) + ops.matmul(condition, ops.cast(kernel, x.dtype))
            for vector, kernel in ((self.gamma, self.gamma_kernel), (self.beta, self.beta_kernel))
        )
        return ops.cast(ops.layer_normalization(x, axis=-1, epsilon=self.epsilon), x.dtype) * gamma + beta

    def compute_output_spec(self, x: Any, condition: Any) -> Any:
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        first = {
            name: keras.initializers.serialize(getattr(self, name)) for name in ("gamma_kernel_initializer", "beta_kernel_initializer")
        }
        return super().get_config() | {"condition_size": self.condition_size} | first


@keras.saving.register_keras_serializable("bert4k")
class Dense(keras.layers.Dense):
    """Keras' dense layer, with product and bias in one operation where the backend has it."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.bias is None:
            return super().call(inputs, training=training)
        x = affine(inputs, self.kernel, self.bias)
        return x if self.activation is None else self.activation(x)

    def quantize(self, mode: str | None = None, type_check: bool = True, config: Any = None) -> None:
        # Keras refuses what is derived from its layer, and model.quantize() leaves out what refuses.
        super().quantize(mode, type_check=False, config=config)


@keras.saving.register_keras_serializable("bert4k")
class TiedProjection(keras.layers.Dense):
    """A dense layer without a bias whose kernel is also used the other way round: `layer(x, reverse=True)` is x times its transpose."""

    def __init__(self, units: int, use_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(units, use_bias=use_bias, **kwargs)

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        super().build(x_shape)
        self.input_spec = None  # what comes the other way has the other width

    def call(self, x: Any, reverse: bool = False) -> Any:
        return ops.matmul(x, ops.transpose(self.kernel)) if reverse else super().call(x)

    def compute_output_spec(self, x: Any, reverse: bool = False) -> Any:
        return keras.KerasTensor((*x.shape[:-1], self.kernel.shape[0] if reverse else self.units), self.compute_dtype)

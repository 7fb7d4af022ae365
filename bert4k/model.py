"""`Transformer`: one functional Keras model, built from three hooks that users override.

The hooks run twice: with symbolic tensors when the model is built, and with arrays in cached decoding. An overridden
block is therefore the same machine in `fit`, `predict` and `generate`:

    class Adapted(Transformer):
        def block(self, index, x, attend):
            x = super().block(index, x, attend)
            return x + self.parts["adapter"](x)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from bert4k import masks
from bert4k.backend import jit_compile, owned
from bert4k.beside import conditioned, summed_scores
from bert4k.blocks import Attend, block_of
from bert4k.config import Config
from bert4k.errors import CheckpointError, ConfigError, DataError, did_you_mean
from bert4k.families import FAMILIES
from bert4k.layers import ACTIVATIONS, Attention, Bias, TiedProjection, TokenInputs
from bert4k.parts import Maker

# Each output, and which parts (by the first word of their names) it takes beyond embeddings and blocks.
HEADS: dict[str, set[str]] = {
    "sequence": set(),
    "pooled": {"pooled"},
    "mlm": {"mlm"},
    "nsp": {"pooled", "nsp"},
    "discriminator": {"discriminator"},
}
# The weights of conditional norms, which no checkpoint was released with: at zero, they change nothing.
CONDITIONAL = ("gamma_kernel", "beta_kernel")
OUTPUTS = FAMILIES["bert"].outputs  # those of BERT; config.outputs are those of the config's family


@keras.saving.register_keras_serializable("bert4k")
class Transformer(keras.Model):
    """A transformer (BERT, Devlin et al. 2018, arXiv:1810.04805) under any attention mask, of the kinds that its config chooses: of
    block, of position, of norm, of shared layers, of factorised embeddings.

    Inputs, a dict: "token_ids" int32 [B, L]; optionally "segment_ids" int32 [B, L] (default 0), "real" bool [B, L]
    (default: the token is not padding), "position_ids" int32 [B, L]; "document_ids" int32 [B, L] when the mask uses
    `same_document`; "order" int32 [B, L] when it uses `permuted` without an order or seed of its own; "condition" float [B, C] when the
    config has a `condition_size` C.

    outputs: any of "sequence" [B, L, H], "pooled" [B, H] (tanh of the first token) and, all logits, "mlm" [B, L, V], "nsp" [B, 2]
    (ALBERT's sentence order, too) and "discriminator" [B, L] (ELECTRA: the token was replaced). And of the inside: "embeddings", what goes
    into layer 0, and "hidden_0", "hidden_1" ..., what each layer gives [B, L, H]; "attention_0", ..., how much each token looks at each
    other one in a layer [B, N, L, L]. One output gives an array, several give a dict.

    mask: by default that under which the family was trained: "encoder", or "lm" for decoders such as GPT-2. values: initial values of
    weights by name (`weight_names`), each read once, when its weight is built; the others start
    random. parts: the layers of another Transformer, to share them.
    """

    heads: ClassVar[dict[str, set[str]]] = HEADS
    inside: ClassVar[re.Pattern[str]] = re.compile(r"embeddings|(hidden|attention)_(\d+)")  # what it can give of a layer
    default_outputs: tuple[str, ...] = ("sequence",)
    vocabulary_output = "mlm"  # the one that is asked for the next token

    def __init__(
        self,
        config: Config | Mapping[str, Any],
        mask: str | masks.Mask | None = None,
        outputs: Sequence[str] | None = None,
        *,
        values: Mapping[str, np.ndarray] | None = None,
        parts: Mapping[str, keras.layers.Layer] | None = None,
        **kwargs: Any,
    ) -> None:
        self.config = config if isinstance(config, Config) else Config.from_dict(config)
        self.mask = masks.get(self.config.mask if mask is None else mask)
        self.check_kind()
        self.programs: dict[Any, Any] = {}  # what decoding has compiled for this model, by its static description
        self.output_kinds = self._checked_outputs(self.default_outputs if outputs is None else outputs)
        dtype = _dtype_policy(kwargs.pop("dtype", None))
        self.parts = dict(parts) if parts is not None else self.make_parts(dtype)
        with initial_values(self.parts, {} if values is None else values):
            inputs = self._make_inputs()
            heads = self.graph(inputs)
        super().__init__(inputs, heads if len(heads) > 1 else next(iter(heads.values())), **kwargs)
        if jit_compile() is False:  # predict needs no compile(), and a compile() of our own would not survive .keras
            self.jit_compile = False

    def check_kind(self) -> None:
        """Raise `ConfigError` when this class is not the machine that the config describes, or does not take its mask."""
        if self.config.num_decoder_layers:
            raise ConfigError(
                f"{self.config.family} with num_decoder_layers={self.config.num_decoder_layers} is an encoder-decoder, and"
                f" {type(self).__name__} is not. Build a bert4k.EncoderDecoder, or load it with bert4k.load()."
            )

    def graph(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, of symbolic inputs."""
        symbolic = {name: tensor for name, tensor in inputs.items() if name not in ("token_ids", "condition")}
        tokens = TokenInputs(self.mask, self.config.pad_token_id, name="tokens")
        segment_ids, position_ids, allowed = tokens(inputs["token_ids"], **symbolic)
        inside: dict[str, Any] = {}
        before: Any = None  # the scores of residual attention

        def attend(attention: Any, x: Any) -> Any:
            nonlocal before
            if not isinstance(attention, Attention):  # a convolution, say
                return attention(x, allowed, position_ids)
            name = f"attention_{sum(each.startswith('attention_') for each in inside)}"
            weighed = name in self.output_kinds
            out = attention(x, allowed, position_ids, return_weights=weighed, before=before)
            x, *more = out if isinstance(out, tuple) else (out,)
            inside[name] = more[0] if weighed else None
            before = more[-1] if attention.residual else None
            return x

        with conditioned(inputs.get("condition")):
            x = self.run(inputs["token_ids"], segment_ids, position_ids, attend, inside)
            return {name: inside[name] if name in inside else self.head(name, x) for name in self.output_kinds}

    # The hooks. -----------------------------------------------------------------------------------------------------

    def make_parts(self, dtype: Any) -> dict[str, keras.layers.Layer]:
        """The layers by name; override to add some (their weights are then looked for in checkpoints, too)."""
        config, make = self.config, Maker(self.config, dtype)
        width = config.embedding_width
        # Keras does not cast embeddings by itself, so that under mixed precision the product over the vocabulary would be in float32.
        cast = {"embeddings_initializer": make.random(), "reverse_dtype": _dtype_policy(dtype).compute_dtype}
        make.add(keras.layers.ReversibleEmbedding, "embeddings/token", config.vocab_size, width, **cast)
        if config.projected == "tokens":
            width = config.hidden_size
            make.add(TiedProjection, "embeddings/projection", width, kernel_initializer=make.random())
        make.embedding("embeddings/segment", config.type_vocab_size, width)
        if config.position == "absolute" or config.position_biased_input:
            make.embedding("embeddings/position", config.position_offset + config.max_position_embeddings, width)
        make.embedding("embeddings/task", config.task_type_vocab_size, width)
        if config.embedding_norm:
            make.norm("embeddings/norm")
        if config.projected == "all":
            make.dense("embeddings/projection", config.hidden_size)
        make.add(keras.layers.Dropout, "dropout", config.hidden_dropout_prob)
        for index in range(config.groups):
            block_of(config).make(make, f"block_{index}")
        if block_of(config).final_norm:
            make.norm("final_norm")
        if {"pooled", "nsp"} & set(self.output_kinds):
            make.dense("pooled/dense", config.hidden_size, "tanh")
        if "nsp" in self.output_kinds:
            make.dense("nsp/dense", 2)
        if "mlm" in self.output_kinds and config.mlm_head == "plain":
            make.add(keras.layers.Identity, "mlm")
        elif "mlm" in self.output_kinds:
            make.dense("mlm/dense", width, ACTIVATIONS[config.hidden_act], config.use_bias)
            make.norm("mlm/norm")
            make.add(Bias, "mlm")
        if "discriminator" in self.output_kinds:
            make.dense("discriminator/dense", config.hidden_size, ACTIVATIONS[config.hidden_act])
            make.dense("discriminator/output", 1)
        return make.parts

    def embed(self, token_ids: Any, segment_ids: Any, position_ids: Any) -> Any:
        """Token, segment and position ids, each [B, L], to [B, L, H]."""
        parts, config = self.parts, self.config
        x = parts["embeddings/token"](token_ids)
        if config.projected == "tokens":
            x = parts["embeddings/projection"](x)
        if config.shared_segment_embeddings:
            rows = parts["embeddings/token"](segment_ids)
            x = x + rows * ops.cast(ops.not_equal(segment_ids, 0), rows.dtype)[..., None]
        if "embeddings/segment" in parts:  # a single row is every token's
            x = x + parts["embeddings/segment"](segment_ids if config.type_vocab_size > 1 else ops.zeros_like(token_ids))
        if "embeddings/position" in parts:
            x = x + parts["embeddings/position"](position_ids + config.position_offset if config.position_offset else position_ids)
        if "embeddings/task" in parts:  # of its tasks, all but the first are of pretraining
            x = x + parts["embeddings/task"](ops.zeros_like(token_ids))
        x = parts["dropout"](parts["embeddings/norm"](x) if "embeddings/norm" in parts else x)
        return parts["embeddings/projection"](x) if config.projected == "all" else x

    def block(self, index: int, x: Any, attend: Attend) -> Any:
        """Layer `index` on x [B, L, H]. `attend(layer, x)` runs an Attention layer under the model's mask (and, in
        decoding, on its cache)."""
        return block_of(self.config)(self.parts, f"block_{self.config.group(index)}", x, attend)

    def head(self, name: str, x: Any) -> Any:
        """The output called `name` of x [B, L, H]."""
        parts = self.parts
        match name if name in self.heads else "":
            case "sequence":
                return x
            case "pooled":
                return parts["pooled/dense"](x[:, 0])
            case "nsp":
                return parts["nsp/dense"](self.head("pooled", x))
            case "mlm":
                if "mlm/dense" in parts:
                    x = parts["mlm/norm"](parts["mlm/dense"](x))
                if self.config.projected == "tokens":
                    x = parts["embeddings/projection"](x, reverse=True)
                return parts["mlm"](parts["embeddings/token"](x, reverse=True))
            case "discriminator":
                return parts["discriminator/output"](parts["discriminator/dense"](x))[..., 0]
        raise ConfigError(f"There is no output {name!r}.{did_you_mean(name, self.heads)} Outputs are {', '.join(self.heads)}.")

    def run(self, token_ids: Any, segment_ids: Any, position_ids: Any, attend: Attend, inside: dict[str, Any] | None = None) -> Any:
        """Embedding and all blocks, on symbolic tensors or arrays [B, L]; attention as `attend` does it. [B, L, H].

        inside: receives the outputs "embeddings", "hidden_0", "hidden_1", ..."""
        inside = {} if inside is None else inside
        x = inside["embeddings"] = self.embed(token_ids, segment_ids, position_ids)
        with summed_scores():
            for index in range(self.config.num_hidden_layers):
                x = inside[f"hidden_{index}"] = self.block(index, x, attend)
        return self.parts["final_norm"](x) if "final_norm" in self.parts else x

    # What decoding asks (`bert4k.decoding.loop`). -------------------------------------------------------------------

    @property
    def answers(self) -> bool:
        """Whether what is written is a text of its own, the target of a source, and not the source's continuation."""
        return self.mask.uses("source")

    @property
    def writing_mask(self) -> masks.Mask:
        """The mask between the prompt and what is written behind it."""
        return self.mask

    def prompt(self, token_ids: Any, segment_ids: Any, real: Any, start: Any) -> tuple[Any, Any, Any]:
        """The tokens that new ones are written behind: these sources', each [B, S], or those of `start`, int32 [P]."""
        return token_ids, segment_ids, real

    def memory(self, token_ids: Any, segment_ids: Any, real: Any) -> Any:
        """What is computed of the sources, each [B, S], once and for all, beside the prompt's keys and values."""
        return ()

    def write(self, token_ids: Any, segment_ids: Any, position_ids: Any, attend: Attend, memory: Any) -> Any:
        """As `run`, given the `memory` of the sources."""
        return self.run(token_ids, segment_ids, position_ids, attend)

    # The same weights, another machine. -----------------------------------------------------------------------------

    def with_mask(self, mask: str | masks.Mask) -> Transformer:
        """A model with the very same weights under another mask; training either trains both."""
        return type(self)(self.config, mask, self.output_kinds, parts=self.parts)

    def with_outputs(self, *outputs: str) -> Transformer:
        """A model with the very same weights and mask, and other outputs. Their layers must be there already; it is without
        those of outputs that it does not have, so that training it leaves them alone."""
        for name in self._checked_outputs(outputs):
            if not self.heads.get(name, set()) <= {part.split("/")[0] for part in self.parts}:
                raise ConfigError(
                    f"This model was built with outputs={self.output_kinds!r} and has no weights for {name!r};"
                    f" load it again with outputs=({name!r}, ...)."
                )
        unused = set().union(*self.heads.values()).difference(*(self.heads.get(name, set()) for name in outputs))
        parts = {name: part for name, part in self.parts.items() if name.split("/")[0] not in unused}
        return type(self)(self.config, self.mask, outputs, parts=parts)

    def enable_lora(self, rank: int, layers: Sequence[str] = ("query", "value")) -> None:
        """Train low-rank changes of the attention projections named in `layers` (Hu et al. 2021, arXiv:2106.09685), and
        nothing else of the existing weights."""
        known = dict.fromkeys(name for part in self.parts.values() if isinstance(part, Attention) for name in part.projections)
        for name in layers:
            if name not in known:
                raise ConfigError(f"There is no projection {name!r}.{did_you_mean(name, known)} Known are {', '.join(known)}.")
        for part in self.parts.values():
            part.trainable = isinstance(part, Attention)
            if isinstance(part, Attention):
                if isinstance(part.positions, keras.layers.Layer):  # weights that all attention layers share
                    part.positions.trainable = False
                for name, projection in part.projections.items():
                    if name in layers:
                        projection.enable_lora(rank)
                        if projection.bias is not None:
                            projection.bias.trainable = False
                    else:
                        projection.trainable = False

    def _checked_outputs(self, outputs: Sequence[str]) -> tuple[str, ...]:
        known = ", ".join(self.heads)
        if isinstance(outputs, str) or not outputs:
            usual = f"outputs=({self.vocabulary_output!r},)"
            raise ConfigError(f"outputs={outputs!r}: expected a tuple with at least one of {known}, such as {usual}.")
        for name in outputs:
            inside, last = self.inside.fullmatch(str(name)), self.config.num_hidden_layers - 1
            if name not in self.heads and not inside:
                more = (*self.heads, *(each for each in ("embeddings", "hidden_0", "attention_0") if self.inside.fullmatch(each)))
                layers = f", and of the inside embeddings, hidden_0 to hidden_{last} and attention_0 to attention_{last}"
                known += layers if len(more) > len(self.heads) else ""
                raise ConfigError(f"There is no output {name!r}.{did_you_mean(str(name), more)} Outputs are {known}.")
            if inside and int(inside[2] or 0) > last:
                raise ConfigError(f"There is no output {name!r}: the layers are numbered from 0 to {last}.")
        return tuple(outputs)

    # Weights by name. -----------------------------------------------------------------------------------------------

    def weight_names(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every weight, as the tables of checkpoint layouts know them."""
        return {name: tuple(getattr(layer, attribute).shape) for name, layer, attribute in weights_of(self.parts)}

    def weight_values(self) -> dict[str, np.ndarray]:
        """The values of every weight by name, with low-rank changes merged in.

        Raises `ConfigError` for a quantised model: its integers are not the weights that a checkpoint holds."""
        for name, layer, _ in weights_of(self.parts):
            if layer.quantization_mode:
                raise ConfigError(
                    f"{name} is quantised to {layer.quantization_mode}, and a checkpoint holds floating-point weights."
                    " Save the model as .keras, or write the checkpoint before quantize()."
                )
        listed = {id(weight) for _, layer, _ in weights_of(self.parts) for weight in layer.weights}
        unlisted = [weight.path for part in self.parts.values() for weight in part.weights if id(weight) not in listed]
        if unlisted:
            raise ConfigError(
                f"{', '.join(unlisted)}: these weights lie inside a part that is made of other layers, so they have no name to be known by."
                " Give each Keras layer an entry of its own in make_parts(), or save the model as .keras."
            )
        return {name: ops.convert_to_numpy(getattr(layer, attribute)) for name, layer, attribute in weights_of(self.parts)}

    # Keras. ---------------------------------------------------------------------------------------------------------

    def _make_inputs(self) -> dict[str, Any]:
        optional = {"segment_ids": "int32", "real": "bool", "position_ids": "int32"}
        if self.mask.uses("same_document"):
            optional["document_ids"] = "int32"
        inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids")}
        inputs |= {name: keras.Input((None,), dtype=dtype, name=name, optional=True) for name, dtype in optional.items()}
        if masks.needs_order(self.mask):
            inputs["order"] = keras.Input((None,), dtype="int32", name="order")
        if self.config.condition_size:
            inputs["condition"] = keras.Input((self.config.condition_size,), dtype="float32", name="condition")
        return inputs

    def __call__(self, inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Check the inputs, leave the optional ones that are absent to their defaults, and run the model."""
        return super().__call__(self.complete(inputs), *args, **kwargs)

    def call(self, inputs: Mapping[str, Any], training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """As `__call__`; the JAX trainer comes in by this door. Were `training` not named here, Keras would not pass it on to dropout."""
        return super().call(self.complete(inputs), training=training, mask=mask, **kwargs)

    def compute_output_spec(self, inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As Keras does inside a larger functional model; it asks every input for its shape, which absent ones do not have."""
        absent = {
            tensor.name: keras.KerasTensor(inputs["decoder_ids" if tensor.name == "decoder_real" else "token_ids"].shape, tensor.dtype)
            for tensor in self.inputs
            if inputs.get(tensor.name) is None
        }
        return super().compute_output_spec({**inputs, **absent}, *args, **kwargs)

    def complete(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """`inputs` with None for every optional input that is absent; raises `DataError` when the model cannot take them."""
        if not isinstance(inputs, Mapping):
            raise DataError(f"The model takes a dict of inputs such as tokenizer([...]) returns; got {type(inputs).__name__}.")
        known = {tensor.name: tensor for tensor in self.inputs}
        for name in inputs:
            if name not in known:
                why = {
                    "order": " Only a mask with `permuted` takes an order.",
                    "document_ids": " Only a mask with `same_document` takes them.",
                    "decoder_ids": " Only an encoder-decoder with an output of its decoder takes them.",
                    "condition": " Only a model whose config has a condition_size takes one.",
                }
                raise DataError(
                    f"There is no input {name!r} under the mask {masks.title(self.mask)}.{why.get(name, did_you_mean(name, known))}"
                    f" Inputs are {', '.join(known)}."
                )
        for name in ("token_ids", "order", "decoder_ids", "condition"):
            if name in known and inputs.get(name) is None:
                raise DataError(f"The input {name!r} is missing. Inputs under the mask {masks.title(self.mask)} are {', '.join(known)}.")
        check_tokens(self.config, inputs)
        check_condition(self.config, inputs.get("condition"))
        return {name: inputs.get(name) for name in known}

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras does, after checking the inputs; so do `evaluate` and `predict`."""
        return super().fit(self._checked(x), *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        return super().evaluate(self._checked(x), *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return super().predict(self._checked(x), *args, **kwargs)

    def _checked(self, x: Any) -> Any:
        """`x`, looked at while its ids are still arrays: inside the trainers they are tensors, and JAX gives NaN for an id
        that no row of the embedding has."""
        if isinstance(x, Mapping):
            self.complete(x)
        return x

    def get_config(self) -> dict[str, Any]:
        return {
            "config": self.config.to_dict(),
            "mask": str(self.mask),
            "outputs": list(self.output_kinds),
            "dtype": keras.saving.serialize_keras_object(self.parts["dropout"].dtype_policy),
            "quantized": {name: layer.quantization_mode for name, layer, _ in weights_of(self.parts) if layer.quantization_mode},
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Transformer:
        config = dict(config)
        dtype = keras.saving.deserialize_keras_object(config.pop("dtype"))
        quantized = config.pop("quantized")
        model = cls(**config, dtype=dtype)
        for name, layer, _ in weights_of(model.parts):
            if name in quantized and not layer.quantization_mode:
                layer.quantize(quantized[name])
        return model


def check_tokens(config: Config, inputs: Mapping[str, Any]) -> None:
    """Raise `DataError` for token, segment or position ids that the embeddings have no row for.

    Lengths are checked whenever they are known; ids only in NumPy arrays and lists, where looking costs nothing."""
    limit = config.max_position_embeddings
    for name in ("token_ids", "decoder_ids"):
        if (token_ids := inputs.get(name)) is None:
            continue
        shape = np.shape(token_ids) if isinstance(token_ids, list | np.ndarray) else tuple(token_ids.shape)
        if len(shape) != 2 or shape[0] == 0 or shape[1] == 0:
            raise DataError(f"{name} has the shape {shape}; expected [batch, tokens], with at least one of each.")
        placed = name == "token_ids" and (inputs.get("position_ids") is not None or inputs.get("document_ids") is not None)
        if shape[1] is not None and shape[1] > limit and not placed:
            raise DataError(
                f"The batch has {shape[1]} tokens a row; the model has {limit} positions."
                f" Cut the texts with max_length={limit}, or split them."
            )
    segments = config.vocab_size if config.shared_segment_embeddings else config.type_vocab_size
    rows = {"token_ids": config.vocab_size, "decoder_ids": config.vocab_size, "segment_ids": segments, "position_ids": limit}
    for name, count in rows.items():
        ids = inputs.get(name)
        if name == "segment_ids" and count < 2:
            continue  # all are alike to the embedding, and what they are to the mask has no bound
        if isinstance(ids, list | np.ndarray):
            ids = np.asarray(ids)
            if ids.min() < 0 or ids.max() >= count:
                wrong = ids[(ids < 0) | (ids >= count)][0]
                raise DataError(
                    f"{name} holds {wrong}; the model's embedding has rows 0 to {count - 1}. Use the tokenizer that came with the model."
                )


def check_condition(config: Config, condition: Any, rows: int | None = None) -> None:
    """Raise `DataError` unless `condition` is what the norms of such a model take: [rows, C] or, where they take none, None."""
    if (condition is not None) != bool(config.condition_size):
        wanted = f"takes a condition of {config.condition_size} numbers for each row" if config.condition_size else "takes no condition"
        raise DataError(
            f"The model {wanted} (condition_size is {config.condition_size}), and {'none' if condition is None else 'one'} is given."
        )
    shape = None if condition is None else tuple(np.shape(condition) if isinstance(condition, list) else condition.shape)
    if shape is not None and (len(shape) != 2 or shape[1] != config.condition_size or rows not in (None, shape[0])):
        raise DataError(f"condition has the shape {shape}; expected [{'rows' if rows is None else rows}, {config.condition_size}].")


def weights_of(parts: Mapping[str, keras.layers.Layer]) -> Iterator[tuple[str, keras.layers.Layer, str]]:
    """For every weight of `parts`: its name, the layer that holds it and the attribute under which."""
    for name, part in parts.items():
        leaves = {name: part}
        if isinstance(part, Attention):
            leaves = {f"{name}/{leaf}": layer for leaf, layer in part.projections.items()}
        for path, layer in leaves.items():
            for attribute in ("embeddings", "kernel", "gamma", "beta", "bias", *CONDITIONAL):
                if hasattr(layer, f"{attribute}_initializer") and getattr(layer, attribute, layer) is not None:
                    yield f"{path}/{attribute}", layer, attribute


@contextmanager
def initial_values(parts: Mapping[str, keras.layers.Layer], values: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Within, a weight of `parts` that is built starts with its value in `values`, or as it would when there is none.

    Nothing is drawn that a checkpoint would overwrite, and no second copy is made."""
    changed = []
    for name, layer, attribute in weights_of(parts):
        if not layer.built:
            initializer = getattr(layer, f"{attribute}_initializer")
            changed.append((layer, f"{attribute}_initializer", initializer))
            setattr(layer, f"{attribute}_initializer", _Given(values, name, initializer))
    try:
        yield
    finally:
        for layer, attribute, initializer in changed:
            setattr(layer, attribute, initializer)


class _Given(keras.initializers.Initializer):
    """An initializer that looks for its value at the moment the weight is made."""

    def __init__(self, values: Mapping[str, np.ndarray], name: str, otherwise: keras.initializers.Initializer) -> None:
        self.values, self.name, self.otherwise = values, name, otherwise

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if self.name not in self.values:
            return self.otherwise(shape, dtype)
        value = self.values[self.name]
        if value.shape != tuple(shape):
            raise CheckpointError(
                f"{self.name} has the shape {value.shape}; this model's config makes it {tuple(shape)}. Correct one of them."
            )
        return ops.convert_to_tensor(owned(value), dtype=dtype)


def _dtype_policy(dtype: Any) -> Any:
    try:
        return keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"dtype={dtype!r} is no Keras dtype policy. For example: 'float32', 'mixed_bfloat16', 'mixed_float16'."
        ) from error

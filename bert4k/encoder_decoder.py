"""`EncoderDecoder`: a Transformer that reads, and a decoder that writes and looks at what was read (Vaswani et al. 2017, arXiv:1706.03762).

The encoder is the Transformer, under its names ("block_0/attention") and with its hooks; the decoder's parts have the same names behind
"decoder/", and "decoder/block_0/cross_attention" for its attention to the encoder. In decoding, the decoder is a language model whose
prompt is the token that starts its texts, and what it sees of the sources is computed once (`Memory`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from bert4k import masks
from bert4k.blocks import Attend, block_of
from bert4k.config import Config
from bert4k.errors import ConfigError
from bert4k.layers import Attention, Bias, KeysValues, TokenInputs
from bert4k.model import Transformer
from bert4k.parts import Maker
from bert4k.positions import Absolute, Places


class Memory(NamedTuple):
    """What the decoder sees of sources [B, S]."""

    cache: tuple[KeysValues, ...]  # one for each layer of the decoder, [B, N, S, D]
    real: Any  # bool [B, S]
    position_ids: Any  # int32 [B, S]


@keras.saving.register_keras_serializable("bert4k")
class EncoderDecoder(Transformer):
    """An encoder-decoder (T5, arXiv:1910.10683; BART, arXiv:1910.13461) of the kinds that its config chooses.

    Inputs, a dict: those of a Transformer, and, where an output of the decoder is asked for, "decoder_ids" int32 [B, T], the start token
    and the target without its end (what is predicted at each place is the token after it), and optionally "decoder_real" bool [B, T]
    (default: the token is not padding, or it is the first).

    outputs: any of "logits" [B, T, V] (the default), "decoder" [B, T, H], its last layer, and "sequence" [B, S, H], the encoder's. A model
    with "sequence" alone is the encoder, and has no other part.

    mask: the encoder's, "encoder" or one with a window; the decoder's tokens see themselves, those before them, and all of the source.
    """

    heads: ClassVar[dict[str, set[str]]] = {"sequence": set(), "decoder": {"decoder"}, "logits": {"decoder", "logits"}}
    inside: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")  # of its layers, nothing
    default_outputs = ("logits",)
    vocabulary_output = "logits"
    answers = True
    writing_mask = masks.lm

    def check_kind(self) -> None:
        if not self.config.num_decoder_layers:
            raise ConfigError(
                "num_decoder_layers is 0, and an encoder-decoder has at least one. Build a bert4k.Transformer without a decoder."
            )
        if any(part.name not in ("real", "window") for part in self.mask.parts()):
            raise ConfigError(
                f"The mask {masks.title(self.mask)} cannot be that of an encoder-decoder: its encoder sees the whole source, and its"
                " decoder what was written, whatever the mask. Leave the mask out, or give the encoder a window, such as"
                " 'real & window(128)'."
            )

    # The hooks. -----------------------------------------------------------------------------------------------------

    def make_parts(self, dtype: Any) -> dict[str, keras.layers.Layer]:
        config, parts = self.config, super().make_parts(dtype)
        if not {"decoder", "logits"} & set(self.output_kinds):
            return parts
        make = Maker(config, dtype, "decoder/")
        if config.position == "absolute":
            make.embedding("decoder/embeddings/position", config.position_offset + config.max_position_embeddings, config.hidden_size)
        if config.embedding_norm:
            make.norm("decoder/embeddings/norm")
        cross = make.shared if config.cross_position == "bucketed" else Absolute()
        for index in range(config.num_decoder_layers):
            block_of(config).make(make, f"decoder/block_{index}", cross)
        if block_of(config).final_norm:
            make.norm("decoder/final_norm")
        if "logits" in self.output_kinds:
            match config.logits:
                case "untied":
                    make.dense("logits", config.vocab_size, use_bias=False)
                case "tied_bias":  # a constant, as transformers has it
                    make.add(Bias, "logits", trainable=False)
                case _:
                    make.add(keras.layers.Identity, "logits")
        return parts | make.parts

    def embed_target(self, decoder_ids: Any, position_ids: Any) -> Any:
        """Token and position ids of the decoder, each [B, T], to [B, T, H]."""
        parts, offset = self.parts, self.config.position_offset
        x = parts["embeddings/token"](decoder_ids)
        if "decoder/embeddings/position" in parts:
            x = x + parts["decoder/embeddings/position"](position_ids + offset if offset else position_ids)
        return parts["dropout"](parts["decoder/embeddings/norm"](x) if "decoder/embeddings/norm" in parts else x)

    def decoder_block(self, index: int, x: Any, attend: Attend, look: Attend) -> Any:
        """Layer `index` of the decoder on x [B, T, H]. `attend(layer, x)` runs its attention to itself, `look(layer, x)` that to the
        encoder."""
        return block_of(self.config)(self.parts, f"decoder/block_{index}", x, attend, look)

    def head(self, name: str, x: Any) -> Any:
        """The output called `name`: "sequence" of the encoder's x [B, S, H], the others of the decoder's [B, T, H]."""
        if name != "logits":
            return super().head("sequence" if name == "decoder" else name, x)
        if self.config.logits_scaled:
            x = x * self.config.hidden_size**-0.5
        return self.parts["logits"](x if self.config.logits == "untied" else self.parts["embeddings/token"](x, reverse=True))

    def decode(self, decoder_ids: Any, position_ids: Any, attend: Attend, look: Attend) -> Any:
        """The decoder's embedding and all its blocks, on symbolic tensors or arrays [B, T]: [B, T, H]."""
        x = self.embed_target(decoder_ids, position_ids)
        for index in range(self.config.num_decoder_layers):
            x = self.decoder_block(index, x, attend, look)
        return self.parts["decoder/final_norm"](x) if "decoder/final_norm" in self.parts else x

    # Decoding. ------------------------------------------------------------------------------------------------------

    def prompt(self, token_ids: Any, segment_ids: Any, real: Any, start: Any) -> tuple[Any, Any, Any]:
        start = ops.broadcast_to(start, (token_ids.shape[0], start.shape[0]))
        return start, ops.zeros_like(start), ops.ones_like(start, dtype="bool")

    def memory(self, token_ids: Any, segment_ids: Any, real: Any) -> Memory:
        tokens = self.mask.tokens(segment_ids, real)
        allowed, position_ids = self.mask(tokens, tokens), ops.maximum(tokens.index, 0)
        x = self.run(token_ids, segment_ids, position_ids, lambda attention, x: attention(x, allowed, position_ids))
        layers = (self.parts[f"decoder/block_{index}/cross_attention"] for index in range(self.config.num_decoder_layers))
        return Memory(tuple(layer.keys_values(x, position_ids) for layer in layers), real, position_ids)

    def write(self, token_ids: Any, segment_ids: Any, position_ids: Any, attend: Attend, memory: Memory) -> Any:
        allowed, layers = memory.real[:, None, None, :], iter(memory.cache)
        places = Places(position_ids, memory.position_ids)

        def look(attention: Attention, x: Any) -> Any:
            return attention.attend(x, next(layers), allowed, places=places)

        return self.decode(token_ids, position_ids, attend, look)

    # Keras. ---------------------------------------------------------------------------------------------------------

    def _make_inputs(self) -> dict[str, Any]:
        inputs = super()._make_inputs()
        if {"decoder", "logits"} & set(self.output_kinds):
            inputs["decoder_ids"] = keras.Input((None,), dtype="int32", name="decoder_ids")
            inputs["decoder_real"] = keras.Input((None,), dtype="bool", name="decoder_real", optional=True)
        return inputs

    def graph(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: inputs[name] for name in ("segment_ids", "real", "position_ids")}
        tokens = TokenInputs(self.mask, self.config.pad_token_id, name="tokens")
        segment_ids, position_ids, allowed = tokens(inputs["token_ids"], **given)
        x = self.run(inputs["token_ids"], segment_ids, position_ids, lambda attention, x: attention(x, allowed, position_ids))
        if "decoder_ids" not in inputs:
            return {"sequence": x}
        targets = TargetInputs(self.config.pad_token_id, name="targets")
        optional = {"decoder_real": inputs["decoder_real"], "real": inputs["real"]}
        places, seen, source = targets(inputs["decoder_ids"], inputs["token_ids"], **optional)
        y = self.decode(
            inputs["decoder_ids"],
            places,
            lambda attention, y: attention(y, seen, places),
            lambda attention, y: attention(y, source, places, x, position_ids),
        )
        return {name: self.head(name, x if name == "sequence" else y) for name in self.output_kinds}


@keras.saving.register_keras_serializable("bert4k")
class TargetInputs(keras.layers.Layer):
    """What the decoder knows of its tokens: position ids int32 [B, T]; what they see of each other, bool [B, 1, T, T], and of the source,
    bool [B, 1, 1, S]. The first token is real even where padding starts a text, as in T5."""

    def __init__(self, pad_token_id: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pad_token_id = pad_token_id

    def call(self, decoder_ids: Any, token_ids: Any, decoder_real: Any = None, real: Any = None) -> tuple[Any, Any, Any]:
        if decoder_real is None:
            first = ops.equal(ops.cumsum(ops.ones_like(decoder_ids), axis=1), 1)
            decoder_real = ops.logical_or(ops.not_equal(decoder_ids, self.pad_token_id), first)
        real = ops.not_equal(token_ids, self.pad_token_id) if real is None else ops.cast(real, "bool")
        tokens = masks.lm.tokens(ops.zeros_like(decoder_ids), decoder_real)
        return ops.maximum(tokens.index, 0), masks.lm(tokens, tokens), real[:, None, None, :]

    def compute_output_spec(self, decoder_ids: Any, token_ids: Any, *others: Any, **more: Any) -> tuple[Any, Any, Any]:
        (batch, length), source = decoder_ids.shape, token_ids.shape[1]
        return (
            keras.KerasTensor((batch, length), "int32"),
            keras.KerasTensor((batch, 1, length, length), "bool"),
            keras.KerasTensor((batch, 1, 1, source), "bool"),
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"pad_token_id": self.pad_token_id}


def kind_of(config: Config) -> type[Transformer]:
    """The class of the machine that a config describes."""
    return EncoderDecoder if config.num_decoder_layers else Transformer

"""What a layer of a transformer does, one class for each kind of `Config.block`: which layers it is made of, and how they are joined.

A kind makes its parts under the name of a block ("block_3/attention", ...) and runs on them; it holds nothing itself.
Shapes: B batch, L tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from bert4k.config import Config
from bert4k.convolution import Convolution
from bert4k.layers import ACTIVATIONS, Attention
from bert4k.parts import Maker

Parts = Mapping[str, keras.layers.Layer]
Attend = Callable[[Attention | Convolution, Any], Any]


class PostNorm:
    """The sum of what goes into a sublayer and of what comes out is normalised (Vaswani et al. 2017, arXiv:1706.03762; BERT)."""

    final_norm = False  # whether the last layer's output still has to be normalised

    def make(self, maker: Maker, block: str, cross: Any = None) -> None:
        """The parts of the layer called `block`. cross: of a decoder's layer, what its attention to the encoder does with positions."""
        maker.attention(f"{block}/attention")
        maker.norm(f"{block}/attention_norm")
        if cross is not None:
            maker.attention(f"{block}/cross_attention", cross)
            maker.norm(f"{block}/cross_attention_norm")
        maker.feed_forward(f"{block}/feed_forward")
        maker.norm(f"{block}/feed_forward_norm")

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend, look: Attend | None = None) -> Any:
        """x [B, L, H] after the layer called `block`; `attend(layer, x)` runs an Attention layer, and in a decoder `look(layer, x)` the one
        that looks at the encoder."""
        x = parts[f"{block}/attention_norm"](x + self.attended(parts, f"{block}/attention", x, attend))
        if look is not None:
            x = parts[f"{block}/cross_attention_norm"](x + self.attended(parts, f"{block}/cross_attention", x, look))
        return parts[f"{block}/feed_forward_norm"](x + self.fed(parts, f"{block}/feed_forward", x))

    def attended(self, parts: Parts, name: str, x: Any, attend: Attend) -> Any:
        return parts["dropout"](attend(parts[name], x))

    def fed(self, parts: Parts, name: str, x: Any) -> Any:
        inner = parts[f"{name}/inner"](x)
        if f"{name}/gate" in parts:
            inner = inner * parts[f"{name}/gate"](x)
        return parts["dropout"](parts[f"{name}/outer"](inner))


class PreNorm(PostNorm):
    """What goes into a sublayer is normalised, and the sum is not (GPT-2, Radford et al. 2019, section 2.3); the last sum is."""

    final_norm = True

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend, look: Attend | None = None) -> Any:
        x = x + self.attended(parts, f"{block}/attention", parts[f"{block}/attention_norm"](x), attend)
        if look is not None:
            x = x + self.attended(parts, f"{block}/cross_attention", parts[f"{block}/cross_attention_norm"](x), look)
        return x + self.fed(parts, f"{block}/feed_forward", parts[f"{block}/feed_forward_norm"](x))


class PreNormButFirst(PreNorm):
    """As `PreNorm`, but layer 0 attends to the embeddings as they are, which have just been normalised (ModernBERT, arXiv:2412.13663)."""

    def make(self, maker: Maker, block: str, cross: Any = None) -> None:
        super().make(maker, block, cross)
        if block == "block_0":
            maker.add(keras.layers.Activation, f"{block}/attention_norm", "linear")  # keras.layers.Identity cannot tell its config


class Convolved(PostNorm):
    """As `PostNorm`; what goes into layer 0 is convolved, too, and its sum with what comes out normalised (DeBERTa-v2, as released at
    github.com/microsoft/DeBERTa). Without a convolution where its kernel has the size 0."""

    def make(self, maker: Maker, block: str, cross: Any = None) -> None:
        super().make(maker, block, cross)
        config = maker.config
        if block == "block_0" and config.conv_kernel_size:
            maker.add(Convolution, f"{block}/convolution", config.conv_kernel_size, kernel_initializer=maker.random())
            maker.add(keras.layers.Activation, f"{block}/convolution_activation", ACTIVATIONS[config.conv_act])
            maker.norm(f"{block}/convolution_norm")

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend, look: Attend | None = None) -> Any:
        out = super().__call__(parts, block, x, attend, look)
        if f"{block}/convolution" not in parts:
            return out
        convolved = parts["dropout"](attend(parts[f"{block}/convolution"], x))
        return parts[f"{block}/convolution_norm"](out + parts[f"{block}/convolution_activation"](convolved))


class Gated(PostNorm):
    """Attention and feed-forward are one gated unit (GAU-alpha, Su 2022, kexue.fm/archives/9052); its sum is normalised."""

    def make(self, maker: Maker, block: str, cross: Any = None) -> None:
        maker.gated_attention(f"{block}/attention")
        maker.norm(f"{block}/attention_norm")

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend, look: Attend | None = None) -> Any:
        return parts[f"{block}/attention_norm"](x + self.attended(parts, f"{block}/attention", x, attend))


class FeedForwardNorms(PostNorm):
    """Attention is added as it is; what goes into the feed-forward layer is normalised, and so is the sum after it (Grover, Zellers et al.
    2019, arXiv:1905.12616, as its code has it; GPT2-ML)."""

    def make(self, maker: Maker, block: str, cross: Any = None) -> None:
        maker.attention(f"{block}/attention")
        maker.norm(f"{block}/feed_forward_norm_before")
        maker.feed_forward(f"{block}/feed_forward")
        maker.norm(f"{block}/feed_forward_norm")

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend, look: Attend | None = None) -> Any:
        x = x + self.attended(parts, f"{block}/attention", x, attend)
        fed = self.fed(parts, f"{block}/feed_forward", parts[f"{block}/feed_forward_norm_before"](x))
        return parts[f"{block}/feed_forward_norm"](x + fed)


BLOCKS: dict[str, PostNorm] = {
    "post_norm": PostNorm(),
    "pre_norm": PreNorm(),
    "pre_norm_but_first": PreNormButFirst(),
    "convolved": Convolved(),
    "feed_forward_norms": FeedForwardNorms(),
    "gated": Gated(),
}


def block_of(config: Config) -> PostNorm:
    """The kind of this config's layers."""
    return BLOCKS[config.block]

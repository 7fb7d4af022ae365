"""What a layer of a transformer does, one class for each kind of `Config.block`: which layers it is made of, and how they are joined.

A kind makes its parts under the name of a block ("block_3/attention", ...) and runs on them; it holds nothing itself.
Shapes: B batch, L tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from bert4k.config import Config
from bert4k.layers import Attention
from bert4k.parts import Maker

Parts = Mapping[str, keras.layers.Layer]
Attend = Callable[[Attention, Any], Any]


class PostNorm:
    """The sum of what goes into a sublayer and of what comes out is normalised (Vaswani et al. 2017, arXiv:1706.03762; BERT)."""

    final_norm = False  # whether the last layer's output still has to be normalised

    def make(self, maker: Maker, block: str) -> None:
        """The parts of the layer called `block`."""
        maker.attention(f"{block}/attention")
        maker.norm(f"{block}/attention_norm")
        maker.feed_forward(f"{block}/feed_forward")
        maker.norm(f"{block}/feed_forward_norm")

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend) -> Any:
        """x [B, L, H] after the layer called `block`; `attend(layer, x)` runs an Attention layer."""
        x = parts[f"{block}/attention_norm"](x + self.attended(parts, block, x, attend))
        return parts[f"{block}/feed_forward_norm"](x + self.fed(parts, block, x))

    def attended(self, parts: Parts, block: str, x: Any, attend: Attend) -> Any:
        return parts["dropout"](attend(parts[f"{block}/attention"], x))

    def fed(self, parts: Parts, block: str, x: Any) -> Any:
        return parts["dropout"](parts[f"{block}/feed_forward/outer"](parts[f"{block}/feed_forward/inner"](x)))


class PreNorm(PostNorm):
    """What goes into a sublayer is normalised, and the sum is not (GPT-2, Radford et al. 2019, section 2.3); the last sum is."""

    final_norm = True

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend) -> Any:
        x = x + self.attended(parts, block, parts[f"{block}/attention_norm"](x), attend)
        return x + self.fed(parts, block, parts[f"{block}/feed_forward_norm"](x))


class Gated(PostNorm):
    """Attention and feed-forward are one gated unit (GAU-alpha, Su 2022, kexue.fm/archives/9052); its sum is normalised."""

    def make(self, maker: Maker, block: str) -> None:
        maker.gated_attention(f"{block}/attention")
        maker.norm(f"{block}/attention_norm")

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend) -> Any:
        return parts[f"{block}/attention_norm"](x + self.attended(parts, block, x, attend))


class FeedForwardNorms(PostNorm):
    """Attention is added as it is; what goes into the feed-forward layer is normalised, and so is the sum after it (Grover, Zellers et al.
    2019, arXiv:1905.12616, as its code has it; GPT2-ML)."""

    def make(self, maker: Maker, block: str) -> None:
        maker.attention(f"{block}/attention")
        maker.norm(f"{block}/feed_forward_norm_before")
        maker.feed_forward(f"{block}/feed_forward")
        maker.norm(f"{block}/feed_forward_norm")

    def __call__(self, parts: Parts, block: str, x: Any, attend: Attend) -> Any:
        x = x + self.attended(parts, block, x, attend)
        return parts[f"{block}/feed_forward_norm"](x + self.fed(parts, block, parts[f"{block}/feed_forward_norm_before"](x)))


BLOCKS: dict[str, PostNorm] = {
    "post_norm": PostNorm(),
    "pre_norm": PreNorm(),
    "feed_forward_norms": FeedForwardNorms(),
    "gated": Gated(),
}


def block_of(config: Config) -> PostNorm:
    """The kind of this config's layers."""
    return BLOCKS[config.block]

"""DeBERTa-v2 as the Hugging Face library stores it (transformers, `models/deberta_v2/modeling_deberta_v2.py`), also IDEA's Erlangshen.

Read with both names of the MLM head, written with that of `DebertaV2ForMaskedLM` under its default, legacy.
"""

import numpy as np

from bert4k.checkpoints.stored import Array
from bert4k.checkpoints.tables import Op, Row, Table
from bert4k.pretrained.huggingface_bert import IGNORED, blocks, dense, embeddings, norm, positions, spellings, tied


def _side_by_side(kernel: Array) -> Array:
    """PyTorch's [out, in, size] as [in, size x out]."""
    return kernel.transpose(1, 2, 0).reshape(kernel.shape[1], -1)


def _stacked(kernel: Array) -> Array:
    width = len(kernel)
    return kernel.reshape(width, -1, width).transpose(2, 0, 1)


def _renamed(row: Row) -> Row:
    """The projections of attention have names of their own."""
    stored = str(row.stored)
    for name in ("query", "key", "value"):
        stored = stored.replace(f".self.{name}.", f".self.{name}_proj.")
    return row._replace(stored=stored)


_CONVOLUTION = Op(lambda arrays: [_side_by_side(arrays[0])], lambda arrays: [np.ascontiguousarray(_stacked(arrays[0]))])

TABLES = (
    Table(
        "deberta_v2",
        "huggingface",
        (
            *embeddings("deberta"),
            positions("deberta"),
            Row("positions/embeddings", "deberta.encoder.rel_embeddings.weight"),
            *norm("positions_norm", "deberta.encoder.LayerNorm"),
            *map(_renamed, blocks("deberta")),
            Row("block_0/convolution/kernel", "deberta.encoder.conv.conv.weight", _CONVOLUTION),
            Row("block_0/convolution/bias", "deberta.encoder.conv.conv.bias"),
            *norm("block_0/convolution_norm", "deberta.encoder.conv.LayerNorm"),
            *dense("mlm/dense", "cls.predictions.transform.dense"),
            *norm("mlm/norm", "cls.predictions.transform.LayerNorm"),
            Row("mlm/bias", "cls.predictions.bias"),
        ),
        (
            *spellings("deberta"),
            (r"^lm_predictions\.lm_head\.(?=dense|LayerNorm)", "cls.predictions.transform."),
            (r"^lm_predictions\.lm_head\.bias$", "cls.predictions.bias"),
        ),
        tied("cls.predictions.decoder", "cls.predictions.bias", "deberta"),
        # Microsoft's own files have the head that was trained to tell replaced tokens, and IDEA's a pooler.
        (*IGNORED, r"^mask_predictions\.", r"^(deberta\.)?pooler\."),
    ),
)

"""Decoders in TensorFlow layouts. GPT and GPT-2 as bert4keras converts them (https://github.com/bojone/bert4keras, the classes GPT and GPT2
of `models.py`; CDial-GPT-tf and CPM_LM_2.6B_TF have these names): those of BERT, in scopes of their own, where GPT-2's norms stand at the
input of a layer. GPT2-ML as it was released (https://github.com/imcaspar/gpt2-ml, `train/modeling.py`). NEZHA-Gen
(https://github.com/huawei-noah/Pretrained-Language-Model, NEZHA-Gen-TensorFlow), whose names are those of BERT.
"""

from bert4k.checkpoints.tables import Row, Table
from bert4k.pretrained import google_bert
from bert4k.pretrained.google_bert import blocks, dense, norm, positions

_EMBEDDINGS = (Row("embeddings/token/embeddings", "gpt/embeddings/word_embeddings"), positions("gpt/embeddings"))
_BLOCKS = blocks("gpt/transformer/layer_{i}")
_LAYER = "newslm/layer{i:02}"

TABLES = (
    Table("gpt", "google", (*_EMBEDDINGS, Row("embeddings/segment/embeddings", "gpt/embeddings/token_type_embeddings"), *_BLOCKS)),
    Table(
        "gpt2",
        "google",
        (
            *_EMBEDDINGS,
            *(row._replace(stored=str(row.stored).replace("output/LayerNorm", "input/LayerNorm")) for row in _BLOCKS),
            *norm("final_norm", "gpt/output"),
        ),
    ),
    Table(
        "gpt2_ml",
        "google",
        (
            Row("embeddings/token/embeddings", "newslm/embeddings/word_embed"),
            Row("embeddings/position/embeddings", "newslm/embeddings/pos_embed"),
            *norm("embeddings/norm", "newslm/embeddings", "LayerNorm_embed_norm"),
            *dense("block_{i}/attention/query", f"{_LAYER}/query_layer"),
            *dense("block_{i}/attention/key", f"{_LAYER}/key_layer"),
            *dense("block_{i}/attention/value", f"{_LAYER}/value_layer"),
            *dense("block_{i}/attention/output", f"{_LAYER}/context_projection_layer"),
            *norm("block_{i}/feed_forward_norm_before", _LAYER, "LayerNorm_mlp_ln0"),
            *dense("block_{i}/feed_forward/inner", f"{_LAYER}/intermediate"),
            *dense("block_{i}/feed_forward/outer", f"{_LAYER}/output"),
            *norm("block_{i}/feed_forward_norm", _LAYER, "LayerNorm_mlp_ln1"),
        ),
    ),
    Table("nezha_gen", "google", google_bert.TABLES[0].rows),
)

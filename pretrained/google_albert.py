"""ALBERT in its two TensorFlow layouts: Google's (https://github.com/google-research/albert), where groups of layers have numbers, and
that of albert_zh (https://github.com/brightmart/albert_zh), where the one layer is called "shared" and the embedding is a product of
two matrices.
"""

from bert4k.checkpoints.tables import Row, Table
from bert4k.pretrained.google_bert import HEADS, blocks, dense, embeddings, norm, positions

_GROUP = "bert/encoder/transformer/group_{i}/inner_group_0"

TABLES = (
    Table(
        "albert",
        "google",
        (
            *embeddings("bert/embeddings"),
            positions("bert/embeddings"),
            *dense("embeddings/projection", "bert/encoder/embedding_hidden_mapping_in"),
            *dense("block_{i}/attention/query", f"{_GROUP}/attention_1/self/query"),
            *dense("block_{i}/attention/key", f"{_GROUP}/attention_1/self/key"),
            *dense("block_{i}/attention/value", f"{_GROUP}/attention_1/self/value"),
            *dense("block_{i}/attention/output", f"{_GROUP}/attention_1/output/dense"),
            *norm("block_{i}/attention_norm", _GROUP),
            *dense("block_{i}/feed_forward/inner", f"{_GROUP}/ffn_1/intermediate/dense"),
            *dense("block_{i}/feed_forward/outer", f"{_GROUP}/ffn_1/intermediate/output/dense"),
            *norm("block_{i}/feed_forward_norm", _GROUP, "LayerNorm_1"),
            *HEADS,
        ),
    ),
    Table(
        "albert_zh",
        "google",
        (
            *embeddings("bert/embeddings"),
            positions("bert/embeddings"),
            Row("embeddings/projection/kernel", "bert/embeddings/word_embeddings_2"),
            *(Row(str(row.ours).replace("{i}", "0"), row.stored, row.op) for row in blocks("bert/encoder/layer_shared")),
            *HEADS,
        ),
    ),
)

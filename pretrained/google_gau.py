"""GAU-alpha as Zhuiyi Technology released it (https://github.com/ZhuiyiTechnology/GAU-alpha): BERT's names for the embeddings, one unit a
layer, no biases, norms that learn nothing, and an MLM output that is the embedding."""

from bert4k.checkpoints.tables import Row, Table

_UNIT = "GAU_alpha/encoder/layer_{i}/gau"

TABLES = (
    Table(
        "gau_alpha",
        "google",
        (
            Row("embeddings/token/embeddings", "bert/embeddings/word_embeddings"),
            Row("embeddings/segment/embeddings", "bert/embeddings/token_type_embeddings"),
            Row("block_{i}/attention/inner/kernel", f"{_UNIT}/i_dense/kernel"),
            Row("block_{i}/attention/query/gamma", f"{_UNIT}/q_scaleoffset/gamma"),
            Row("block_{i}/attention/key/gamma", f"{_UNIT}/k_scaleoffset/gamma"),
            Row("block_{i}/attention/output/kernel", f"{_UNIT}/o_dense/kernel"),
        ),
    ),
)

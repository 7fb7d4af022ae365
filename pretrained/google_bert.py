"""BERT as Google released it (https://github.com/google-research/bert), also the layout of Chinese BERT-wwm and RoBERTa-wwm.

Kernels are stored [in, out], as Keras has them, but for the next-sentence output, which is [2, H].
"""

from bert4k.checkpoints.tables import Row, Table, transposed


def _dense(ours: str, stored: str) -> tuple[Row, Row]:
    return Row(f"{ours}/kernel", f"{stored}/kernel"), Row(f"{ours}/bias", f"{stored}/bias")


def _norm(ours: str, stored: str) -> tuple[Row, Row]:
    return Row(f"{ours}/gamma", f"{stored}/LayerNorm/gamma"), Row(f"{ours}/beta", f"{stored}/LayerNorm/beta")


_LAYER = "bert/encoder/layer_{i}"

TABLE = Table(
    family="bert",
    layout="google",
    rows=(
        Row("embeddings/token/embeddings", "bert/embeddings/word_embeddings"),
        Row("embeddings/position/embeddings", "bert/embeddings/position_embeddings"),
        Row("embeddings/segment/embeddings", "bert/embeddings/token_type_embeddings"),
        *_norm("embeddings/norm", "bert/embeddings"),
        *_dense("block_{i}/attention/query", f"{_LAYER}/attention/self/query"),
        *_dense("block_{i}/attention/key", f"{_LAYER}/attention/self/key"),
        *_dense("block_{i}/attention/value", f"{_LAYER}/attention/self/value"),
        *_dense("block_{i}/attention/output", f"{_LAYER}/attention/output/dense"),
        *_norm("block_{i}/attention_norm", f"{_LAYER}/attention/output"),
        *_dense("block_{i}/feed_forward/inner", f"{_LAYER}/intermediate/dense"),
        *_dense("block_{i}/feed_forward/outer", f"{_LAYER}/output/dense"),
        *_norm("block_{i}/feed_forward_norm", f"{_LAYER}/output"),
        *_dense("pooled/dense", "bert/pooler/dense"),
        *_dense("mlm/dense", "cls/predictions/transform/dense"),
        *_norm("mlm/norm", "cls/predictions/transform"),
        Row("mlm/bias", "cls/predictions/output_bias"),
        Row("nsp/dense/kernel", "cls/seq_relationship/output_weights", transposed),
        Row("nsp/dense/bias", "cls/seq_relationship/output_bias"),
    ),
)

"""BERT as Google released it (https://github.com/google-research/bert), also the layout of Chinese BERT-wwm and RoBERTa-wwm, and
its relatives with the same names and another kind of position, which is computed and not stored: NEZHA
(https://github.com/huawei-noah/Pretrained-Language-Model) and RoFormer (https://github.com/ZhuiyiTechnology/roformer).

Kernels are stored [in, out], as Keras has them, but for the next-sentence output, which is [2, H].
"""

from bert4k.checkpoints.tables import Row, Table, transposed


def dense(ours: str, stored: str) -> tuple[Row, Row]:
    """A dense layer with its bias."""
    return Row(f"{ours}/kernel", f"{stored}/kernel"), Row(f"{ours}/bias", f"{stored}/bias")


def norm(ours: str, stored: str, name: str = "LayerNorm") -> tuple[Row, Row]:
    """The norm that is called `name` in the scope `stored`."""
    return Row(f"{ours}/gamma", f"{stored}/{name}/gamma"), Row(f"{ours}/beta", f"{stored}/{name}/beta")


def embeddings(scope: str) -> tuple[Row, ...]:
    """Token and segment rows and the norm of their sum."""
    return (
        Row("embeddings/token/embeddings", f"{scope}/word_embeddings"),
        Row("embeddings/segment/embeddings", f"{scope}/token_type_embeddings"),
        *norm("embeddings/norm", scope),
    )


def positions(scope: str) -> Row:
    """The rows of absolute positions."""
    return Row("embeddings/position/embeddings", f"{scope}/position_embeddings")


def blocks(layer: str) -> tuple[Row, ...]:
    """The layers; `layer` is the scope of one of them, with {i} for its number where it has one."""
    return (
        *dense("block_{i}/attention/query", f"{layer}/attention/self/query"),
        *dense("block_{i}/attention/key", f"{layer}/attention/self/key"),
        *dense("block_{i}/attention/value", f"{layer}/attention/self/value"),
        *dense("block_{i}/attention/output", f"{layer}/attention/output/dense"),
        *norm("block_{i}/attention_norm", f"{layer}/attention/output"),
        *dense("block_{i}/feed_forward/inner", f"{layer}/intermediate/dense"),
        *dense("block_{i}/feed_forward/outer", f"{layer}/output/dense"),
        *norm("block_{i}/feed_forward_norm", f"{layer}/output"),
    )


def _is_matrix(row: Row) -> bool:
    return str(row.ours).endswith(("kernel", "embeddings"))


HEADS = (
    *dense("pooled/dense", "bert/pooler/dense"),
    *dense("mlm/dense", "cls/predictions/transform/dense"),
    *norm("mlm/norm", "cls/predictions/transform"),
    Row("mlm/bias", "cls/predictions/output_bias"),
    Row("nsp/dense/kernel", "cls/seq_relationship/output_weights", transposed),
    Row("nsp/dense/bias", "cls/seq_relationship/output_bias"),
)
_REST = (*embeddings("bert/embeddings"), *blocks("bert/encoder/layer_{i}"), *HEADS)

TABLES = (
    Table("bert", "google", (positions("bert/embeddings"), *_REST)),
    Table("nezha", "google", _REST),
    # Its smaller and larger relatives that factorise their embedding project it where ALBERT does.
    Table("roformer", "google", (*_REST, *dense("embeddings/projection", "bert/encoder/embedding_hidden_mapping_in"))),
    # Without biases, and norms that learn nothing; its MLM output is the embedding.
    Table("roformer_v2", "google", tuple(row for row in _REST if str(row.ours).startswith(("emb", "block")) and _is_matrix(row))),
)

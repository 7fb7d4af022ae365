"""BERT as the Hugging Face library stores it (transformers, `models/bert/modeling_bert.py`), and its relatives, which differ in the
name that stands before every other: ERNIE, NEZHA and RoFormer.

Kernels of dense layers are stored [out, in], so all are transposed. Read with and without that leading name (`BertModel` alone has none),
and with the old names of a LayerNorm's weights; written as `BertForPreTraining` expects them.
"""

from bert4k.checkpoints.tables import Copy, Row, Table, transposed


def dense(ours: str, stored: str) -> tuple[Row, Row]:
    """A dense layer with its bias."""
    return Row(f"{ours}/kernel", f"{stored}.weight", transposed), Row(f"{ours}/bias", f"{stored}.bias")


def norm(ours: str, stored: str) -> tuple[Row, Row]:
    """The norm called `stored`."""
    return Row(f"{ours}/gamma", f"{stored}.weight"), Row(f"{ours}/beta", f"{stored}.bias")


def embeddings(model: str) -> tuple[Row, ...]:
    """Token and segment rows and the norm of their sum."""
    return (
        Row("embeddings/token/embeddings", f"{model}.embeddings.word_embeddings.weight"),
        Row("embeddings/segment/embeddings", f"{model}.embeddings.token_type_embeddings.weight"),
        *norm("embeddings/norm", f"{model}.embeddings.LayerNorm"),
    )


def positions(model: str) -> Row:
    """The rows of absolute positions."""
    return Row("embeddings/position/embeddings", f"{model}.embeddings.position_embeddings.weight")


def blocks(model: str) -> tuple[Row, ...]:
    """The layers."""
    layer = f"{model}.encoder.layer.{{i}}"
    return (
        *dense("block_{i}/attention/query", f"{layer}.attention.self.query"),
        *dense("block_{i}/attention/key", f"{layer}.attention.self.key"),
        *dense("block_{i}/attention/value", f"{layer}.attention.self.value"),
        *dense("block_{i}/attention/output", f"{layer}.attention.output.dense"),
        *norm("block_{i}/attention_norm", f"{layer}.attention.output.LayerNorm"),
        *dense("block_{i}/feed_forward/inner", f"{layer}.intermediate.dense"),
        *dense("block_{i}/feed_forward/outer", f"{layer}.output.dense"),
        *norm("block_{i}/feed_forward_norm", f"{layer}.output.LayerNorm"),
    )


def spellings(model: str) -> tuple[tuple[str, str], ...]:
    """Names without the model's, those of a relative converted as if it were BERT, and the old names of a norm's weights."""
    return (
        (r"^(?=(embeddings|embeddings_project|encoder|pooler)\.)", f"{model}."),
        (r"^bert\.", f"{model}."),
        (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
        (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
    )


def tied(decoder: str, bias: str, model: str) -> tuple[Copy, Copy]:
    """The output layer of the MLM head, which repeats the embedding and the output bias."""
    return (
        Copy(f"{decoder}.weight", f"{model}.embeddings.word_embeddings.weight", checked_with="mlm/bias"),
        Copy(f"{decoder}.bias", bias, checked_with="mlm/bias"),
    )


# Buffers: what follows from the config.
IGNORED = (r"(^|\.)embeddings\.(position_ids|token_type_ids)$",)


def _table(model: str, *more: Row, ignored: tuple[str, ...] = ()) -> Table:
    """The model of that name, which is the family's, with rows of its own."""
    rows = (
        *embeddings(model),
        *more,
        *blocks(model),
        *dense("pooled/dense", f"{model}.pooler.dense"),
        *dense("mlm/dense", "cls.predictions.transform.dense"),
        *norm("mlm/norm", "cls.predictions.transform.LayerNorm"),
        Row("mlm/bias", "cls.predictions.bias"),
        *dense("nsp/dense", "cls.seq_relationship"),
    )
    copies = tied("cls.predictions.decoder", "cls.predictions.bias", model)
    return Table(model, "huggingface", rows, spellings(model), copies, (*IGNORED, *ignored))


TABLES = (
    _table("bert", positions("bert")),
    # Without the task rows that PaddlePaddle's models of the first generation lack.
    _table("ernie", positions("ernie"), Row("embeddings/task/embeddings", "ernie.embeddings.task_type_embeddings.weight")),
    _table("nezha", ignored=(r"\.relative_positions_encoding\.",)),
    _table("roformer", *dense("embeddings/projection", "roformer.embeddings_project"), ignored=(r"encoder\.embed_positions\.weight$",)),
)

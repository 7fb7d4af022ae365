"""ELECTRA as Google released it (https://github.com/google-research/electra), also the layout of Chinese ELECTRA (https://github.com/ymcui/Chinese-ELECTRA).

One checkpoint holds two models that share their embeddings: the discriminator, in the scope "electra", and the generator, in its own.
"""

from bert4k.checkpoints.tables import Row, Table
from bert4k.pretrained.google_bert import blocks, dense, embeddings, norm, positions

_EMBEDDINGS = (*embeddings("electra/embeddings"), positions("electra/embeddings"))

TABLES = (
    Table(
        "electra",
        "google",
        (
            *_EMBEDDINGS,
            *dense("embeddings/projection", "electra/embeddings_project"),
            *blocks("electra/encoder/layer_{i}"),
            *dense("discriminator/dense", "discriminator_predictions/dense"),
            *dense("discriminator/output", "discriminator_predictions/dense_1"),
        ),
        ignored=(r"^generator(_predictions)?/",),
    ),
    Table(
        "electra_generator",
        "google",
        (
            *_EMBEDDINGS,
            *dense("embeddings/projection", "generator/embeddings_project"),
            *blocks("generator/encoder/layer_{i}"),
            *dense("mlm/dense", "generator_predictions/dense"),
            *norm("mlm/norm", "generator_predictions"),
            Row("mlm/bias", "generator_predictions/output_bias"),
        ),
        # Trained with embeddings of its own (untied_generator_embeddings), it has them in its scope.
        spellings=((r"^generator/embeddings/", "electra/embeddings/"),),
        ignored=(r"^electra/(encoder|embeddings_project)/", r"^discriminator_predictions/"),
    ),
)

"""Su's Siamese ranker: what text and entity share, and that neither reads the other before they are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import TOKENS, checkpoint


@pytest.mark.backends
def test_shared_neighbours() -> None:
    from bert4k.linking.siamese import Shared

    random = np.random.default_rng(0)
    ids = random.integers(1, 4, (6, 12)).astype("int32")
    text, entity = np.zeros((2, 6, 12), bool)
    text[:, :6], entity[:, 6:11] = True, True
    found = np.asarray(Shared(3)(ids, text, entity))
    expected = np.zeros((6, 12, 3))
    for row in range(6):
        told = ["".join(map(str, ids[row, begin:end])) for begin, end in ((0, 6), (6, 11))]
        for size in (1, 2, 3):
            for at in range(6 - size + 1):
                if told[0][at : at + size] in told[1]:
                    expected[row, at : at + size, size - 1] = 1
    np.testing.assert_array_equal(found, expected)
    assert 0 < expected[:, :6, 2].mean() < 1


@pytest.mark.backends
@pytest.mark.parametrize("encoder", ["checkpoint", "bilstm"])
def test_a_ranker_of_two_halves(tmp_path: Path, encoder: Any) -> None:
    import keras

    from bert4k.linking.entities import Entity
    from bert4k.linking.prompts import Asked, Writer
    from bert4k.linking.rows import rows_of
    from bert4k.linking.siamese import build
    from bert4k.tuning import Tuning

    model, network, tokenizer = build(str(checkpoint(tmp_path / "model")), Tuning(), encoder, numbers=0)
    writer = Writer(tokenizer, 24)
    pairs = [("的王明在", "好书"), ("王明坏", "好书"), ("的王明在", "坏")]
    written = [writer.pair(Asked(text, text.index("王"), text.index("王") + 2), Entity("1", "王明", (), about)) for text, about in pairs]
    rows = rows_of(written, tokenizer.pad_id)
    inputs = rows.inputs([0, 1, 2, None], 24)
    logits = np.asarray(model.predict_on_batch(inputs))
    assert logits.shape == (4,) and len(set(np.round(logits[:3], 5))) == 3 and logits[3] < -1e8
    # As short as it is, with other padding: the same.
    np.testing.assert_allclose(model.predict_on_batch(rows.inputs([0], 16)), logits[:1], atol=1e-5)
    if encoder == "checkpoint":  # what is made of the text alone depends on the text alone
        given = {"token_ids": inputs["token_ids"], "segment_ids": 0 * inputs["segment_ids"], "document_ids": inputs["segment_ids"]}
        one, _, other, _ = np.asarray(network.predict_on_batch(given))
        length = int((rows.segment_ids[0] == 0).sum())
        np.testing.assert_allclose(one[:length], other[:length], atol=1e-6)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_allclose(again.predict_on_batch(inputs), logits, atol=1e-6)
    table = [weight for weight in model.weights if "characters" in weight.path]
    assert len(table) == (encoder == "bilstm") and all(weight.shape == (len(TOKENS), 16) for weight in table)

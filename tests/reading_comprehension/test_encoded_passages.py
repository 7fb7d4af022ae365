"""Passages that were read before there is a question."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import checkpoint

from bert4k.errors import CheckpointError, ConfigError, DataError
from bert4k.reading_comprehension import QA
from bert4k.reading_comprehension.encoded_passages import EncodedPassages
from bert4k.reading_comprehension.inputs import Characters
from bert4k.tasks.dgcnn_qa import Settings, build


@pytest.mark.parametrize("overlap", [True, False])
def test_answers_are_those_of_reading_both(tmp_path: Path, overlap: bool) -> None:
    settings = Settings(run=tmp_path, train=[], dev=tmp_path, reader="dgcnn_encoder", model=str(checkpoint(tmp_path / "model")), units=8)
    settings = Settings(**vars(settings) | {"longest": 8, "longest_question": 4, "overlap": overlap})
    model, _, representation = build(settings)
    model.get_layer("reader").pointers.pointer.dense.bias.assign([0.0, 0.0])
    qa = QA(model, representation, threshold=0.01)
    texts = ["小明在北京", "王明喜欢好书，讨厌坏人" * 4, "人的书", "小王在书"]
    encoded = EncodedPassages.of(qa, texts)
    encoded.save(tmp_path / "p.safetensors")
    again = EncodedPassages.read(tmp_path / "p.safetensors", qa)
    for question in ("在", "人的好书坏书"):
        expected = qa.answer(question, texts)
        for each in (encoded, again):
            found = each.answer(question)
            assert found.text and found._replace(score=0) == expected._replace(score=0)
            assert found.score == pytest.approx(expected.score, rel=1e-2)
    some = again.answer("在", [3, 2])
    expected = qa.answer("在", texts[2:])
    assert (some.text, some.passage, some.start) == (expected.text, expected.passage + 2, expected.start)
    with pytest.raises(DataError, match="there is no passage"):
        again.answer("在", [])
    model.get_layer("reader").pointers.holds.bias.assign([1.0])
    with pytest.raises(CheckpointError, match="those of another model"):
        EncodedPassages.read(tmp_path / "p.safetensors", qa)
    (tmp_path / "p.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cannot be read"):
        EncodedPassages.read(tmp_path / "p.safetensors", qa)
    with pytest.raises(ConfigError, match="dgcnn_encoder"):
        EncodedPassages.of(QA(model, Characters("a", 4, 8)), texts)

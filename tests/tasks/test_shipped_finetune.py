"""Fine-tuning for comparison: data as they are, batches, tags of tokens and characters, and that it learns what can be learnt."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert4k.errors import DataError
from bert4k.tasks.shipped import finetune
from bert4k.tasks.shipped.finetune import NO_LABEL, Example, Settings, Task
from bert4k.tokenizers import Tokenizer

CHARACTERS = list("猫狗鱼吃爱看王李天地")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, "linux"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def checkpoint(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    from bert4k.config import Config
    from bert4k.hub import save
    from bert4k.model import Transformer

    keras.utils.set_random_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
    model = Transformer(Config(vocab_size=len(VOCABULARY), initializer_range=0.3, **shape), "encoder", ("mlm",))
    return save(model, tokenizer, tmp_path_factory.mktemp("checkpoints") / "tiny")


def reviews(count: int, seed: int) -> list[tuple[int, str]]:
    """Who sees fish is happy."""
    random = np.random.default_rng(seed)
    texts = ["".join(random.choice(list("猫狗吃爱看天地"), random.integers(2, 9))) for _ in range(count)]
    return [(index % 2, text + "鱼" * (index % 2) + "猫") for index, text in enumerate(texts)]


def sentences(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Names are 王 and what follows it."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        before, after = (list(random.choice(list("猫狗吃爱看"), random.integers(1, 5))) for _ in range(2))
        made.append(([*before, "王", "天", *after], [*"O" * len(before), "B-PER", "I-PER", *"O" * len(after)]))
    return made


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for part, count in (("train", 64), ("dev", 30)):
        rows = [f"{label}\t{text}" for label, text in reviews(count, len(part))]
        write(tmp_path / f"chnsenticorp/{part}.tsv.gz", ["label\ttext_a", *rows])
    lines = [line for chars, tags in sentences(200, 1) for line in (*map(" ".join, zip(chars, tags, strict=True)), "")]
    write(tmp_path / "ner_msra/train.txt.gz", lines)
    return tmp_path


def test_reading(data: Path, tmp_path: Path) -> None:
    assert finetune.read_labelled(data / "chnsenticorp/dev.tsv.gz") == reviews(30, 3)
    assert finetune.read_tagged(data / "ner_msra/train.txt.gz") == sentences(200, 1)
    with pytest.raises(DataError, match="label and text_a"):
        finetune.read_labelled(data / "ner_msra/train.txt.gz")
    with pytest.raises(DataError, match="--data"):
        finetune.read_lines(tmp_path / "absent.gz")


def test_a_line_may_hold_any_other_line_separator(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv.gz", ["label\ttext_a", "1\t猫\u2028狗\t鱼", "0\t天\r"])
    assert finetune.read_labelled(tmp_path / "a.tsv.gz") == [(1, "猫\u2028狗\t鱼"), (0, "天")]


def test_tags_of_tokens_and_back(tokenizer: Tokenizer) -> None:
    chars, tags = list("王爱linux 鱼"), ["B-PER", "O", "B-ORG", "I-ORG", "I-ORG", "I-ORG", "I-ORG", "O", "O"]
    names = ["O", "B-ORG", "B-PER", "I-ORG"]
    example, spans = finetune.tag_tokens(chars, tags, names, tokenizer, 10)
    assert example.labels == [NO_LABEL, 2, 0, 1, 0, NO_LABEL]
    assert spans == [(0, 1), (1, 2), (2, 7), (8, 9)]
    assert finetune.tags_of_characters(["B-PER", "O", "B-ORG", "O"], spans, len(chars)) == tags
    short, spans = finetune.tag_tokens(chars, tags, names, tokenizer, 4)
    assert short.labels == [NO_LABEL, 2, 0, NO_LABEL]
    assert finetune.tags_of_characters(["B-PER", "B-PER"], spans, len(chars)) == ["B-PER", "B-PER", *"O" * 7]
    with pytest.raises(DataError, match="one character"):
        finetune.tag_tokens(["天地"], ["O"], names, tokenizer, 4)


def task_of(examples: list[Example], by_token: bool = False) -> Task:
    return Task("made up", 2, by_token, examples, examples, "accuracy", lambda predicted: {"accuracy": 0.0})


def test_every_example_once_an_epoch_among_its_like() -> None:
    examples = [Example([2, *[5] * (index % 20), 3], [index % 2]) for index in range(100)]
    settings = Settings(batch=8)
    stream = finetune.batches(examples, task_of(examples), settings, seed=1)
    epoch = [next(stream) for _ in range(13)]
    assert sum(len(token_ids) for token_ids, *_ in epoch) == 100
    assert sorted((row != 0).sum() for token_ids, *_ in epoch for row in token_ids) == sorted(len(each.row) for each in examples)
    real = sum((token_ids != 0).sum() for token_ids, *_ in epoch)
    assert real / sum(token_ids.size for token_ids, *_ in epoch) > 0.7
    again = next(finetune.batches(examples, task_of(examples), settings, seed=1))
    for one, other in zip(again, epoch[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_padding_has_no_weight() -> None:
    examples = [Example([2, 5, 3], [NO_LABEL, 1, NO_LABEL]), Example([2, 5, 6, 3], [NO_LABEL, 1, 0, NO_LABEL])]
    token_ids, labels, weights = finetune.as_batch(examples, task_of(examples, by_token=True), Settings())
    assert token_ids.shape == labels.shape == weights.shape == (2, 8)
    np.testing.assert_array_equal(weights[:, :4], [[0, 1, 0, 0], [0, 1, 1, 0]])
    np.testing.assert_array_equal(labels[:, :3], [[0, 1, 0], [0, 1, 0]])
    assert not weights[:, 4:].any()
    token_ids, *_ = finetune.as_batch(examples, task_of(examples, by_token=True), Settings(longest=5))
    assert token_ids.shape == (2, 5)  # a network need not have more positions than the longest text


@pytest.mark.backends
def test_the_mean_leaves_padding_out() -> None:
    from keras import ops

    x = np.array([[[1.0, 2], [3, 4], [100, 100]], [[5, 6], [7, 8], [9, 10]]], np.float32)
    real = np.array([[True, True, False], [True, True, True]])
    np.testing.assert_allclose(
        ops.convert_to_numpy(finetune.mean_of_real(ops.convert_to_tensor(x), ops.convert_to_tensor(real))), [[2, 3], [7, 8]]
    )


def weights_of(model: Any) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in model.get_weights()]


def test_from_the_checkpoint_and_from_scratch(checkpoint: Path) -> None:
    from bert4k.hub import load

    task, settings = task_of([]), Settings()
    stored, _ = load(checkpoint)
    tuned, scratch = (finetune.make_classifier(checkpoint, start, task, settings) for start in finetune.STARTS)
    for weight, same, other in zip(weights_of(stored), weights_of(tuned), weights_of(scratch), strict=False):
        np.testing.assert_array_equal(weight, same)
        assert weight.shape == other.shape
    assert any(not np.array_equal(*pair) for pair in zip(weights_of(stored), weights_of(scratch), strict=False))


@pytest.mark.backends
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_class_does_not_depend_on_padding(checkpoint: Path, pooling: str) -> None:
    model = finetune.make_classifier(checkpoint, "checkpoint", task_of([]), Settings(pooling=pooling))
    row = np.array([[2, 5, 6, 7, 3]], np.int32)
    short, long = (np.asarray(model.predict_on_batch(each)) for each in (row, np.pad(row, ((0, 0), (0, 7)))))
    assert short.shape == (1, 2)
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_the_best_rate_of_the_first_seed_is_repeated(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = {("checkpoint", 1e-3, 1): 80.0, ("checkpoint", 1e-2, 1): 70.0, ("scratch", 1e-3, 1): 50.0, ("scratch", 1e-2, 1): 60.0}
    made_up |= {("checkpoint", 1e-3, 2): 90.0, ("scratch", 1e-2, 2): 64.0}
    asked = []

    def reached(folder: Path, start: str, task: Task, rate: float, seed: int, settings: Settings) -> dict[str, Any]:
        asked.append((start, rate, seed))
        return {"accuracy": made_up[start, rate, seed]}

    monkeypatch.setattr(finetune, "train_and_judge", reached)
    found = finetune.compare(checkpoint, task_of([Example([2, 3], [0])] * 32), Settings(rates=(1e-3, 1e-2), seeds=(1, 2)))
    assert set(asked) == set(made_up) and len(asked) == 6
    assert found["checkpoint"] == {"rate": 1e-3, "accuracy": 85, "of_seeds": [80, 90]}
    assert found["scratch"] == {"rate": 1e-2, "accuracy": 62, "of_seeds": [60, 64]}
    assert found["gain"] == 23 and found["steps"] == 2 and len(found["runs"]) == 6


def test_the_command_learns(checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "out.json"
    flags = ["--data", str(data), "--out", str(out), "--seeds", "1", "--rates", "2e-2"]
    finetune.main([str(checkpoint), *flags, "--only", "chnsenticorp", "--epochs", "30"])
    finetune.main([str(checkpoint), *flags, "--only", "msra", "--epochs", "10"])
    found = json.loads(out.read_text(encoding="utf-8"))
    assert list(found) == ["about", "chnsenticorp", "msra"]
    reviewed, named = found["chnsenticorp"], found["msra"]
    assert (reviewed["train"], reviewed["dev"], reviewed["steps"]) == (64, 30, 60)
    assert reviewed["checkpoint"]["accuracy"] > 90 and named["checkpoint"]["f1"] > 90
    assert named["train"] + named["dev"] == 200 and named["dev"] > 5
    assert named["settings"]["pooling"] == "mean"
    assert '"gain"' in capsys.readouterr().out


def test_real_files(shared_data: Path, tokenizer: Tokenizer) -> None:
    path = shared_data / "chnsenticorp/train.tsv.gz"
    if not path.exists():
        pytest.skip(f"needs ChnSentiCorp: {path} is not there")
    labelled = finetune.read_labelled(path)
    assert len(labelled) == 9600 and {label for label, _ in labelled} == {0, 1} and all(text for _, text in labelled)
    tagged = finetune.read_tagged(shared_data / "ner_msra/train.txt.gz")
    assert all(len(char) == 1 for chars, _ in tagged for char in chars)
    task = finetune.msra("msra", shared_data / "ner_msra", tokenizer, Settings(limit=200))
    assert task.classes == 7 and len(task.train) == len(task.dev) == 200
    assert task.score([np.zeros(len(example.row) - 2, np.int64) for example in task.dev])["f1"] == 0

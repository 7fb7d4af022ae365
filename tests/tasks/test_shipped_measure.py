"""How the shipped checkpoint is measured: scores by hand, a model's numbers against plain computations, the command on made-up data."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert4k.errors import DataError
from bert4k.pretraining import objectives
from bert4k.pretraining.mapped import Stretch
from bert4k.pretraining.objectives import Special
from bert4k.tasks.shipped import measure, ngrams, results, scores
from bert4k.tasks.shipped.measure import Answer, Subject
from bert4k.tasks.shipped.ngrams import UNICODE, Trigram, as_read
from bert4k.tokenizers import Tokenizer
from bert4k.tokenizers.basic import BasicTokenizer

MARKERS = ["[TRANSLATE]", "[TITLE]", "[COUPLET]"]
CHARACTERS = list("猫狗鱼吃爱看天地上下东西南北，。")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *MARKERS, *CHARACTERS, "linux", "d", "##og"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


def tiny_model(positions: int = 40) -> Any:
    """Random weights, large enough that what comes before matters."""
    import keras

    from bert4k.config import Config
    from bert4k.model import Transformer

    keras.utils.set_random_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = Config(vocab_size=len(VOCABULARY), max_position_embeddings=positions, initializer_range=0.4, **shape)
    return Transformer(config, "encoder", ("mlm",))


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model()


# Scores. ------------------------------------------------------------------------------------------------------------


def test_rouge_by_hand() -> None:
    # One: 3 of 3 and 4 characters. Two: 吃鱼 of 2 and 3 pairs. L: 猫吃鱼.
    assert scores.rouge(["猫吃鱼"], ["猫爱吃鱼"]) == pytest.approx({"rouge_1": 600 / 7, "rouge_2": 40, "rouge_l": 600 / 7})
    # Means over texts; order matters to L and to pairs only; a character counts as often as it stands in both.
    assert scores.rouge(["鱼猫", "猫猫猫"], ["猫鱼", "猫"]) == pytest.approx({"rouge_1": 75, "rouge_2": 0, "rouge_l": 50})
    assert scores.rouge(["用 Linux 看,猫"], ["用linux看，猫"])["rouge_l"] == 100
    assert scores.rouge([""], ["猫"]) == {"rouge_1": 0, "rouge_2": 0, "rouge_l": 0}


def test_first_clause() -> None:
    assert scores.first_clause("猫吃鱼，狗看。") == "猫吃鱼"
    assert scores.first_clause("猫吃鱼") == "猫吃鱼"
    assert scores.first_clause("，猫") == "，猫"


def test_the_form_of_couplets() -> None:
    couplets = [("东西南北", "上下天地"), ("东西南北", "上上天地"), ("东西东北", "上上天地"), ("东，西，", "上，下"), ("东西", "")]
    # As long: the first three. To differ: all but the third, for marks may repeat; of these the first alone is as long without a repeat.
    assert scores.couplet_form(couplets) == (5, 3, 4, 1)
    assert scores.couplet_form([("东，西，", "上，下，")]) == (1, 1, 1, 1)


def test_rivals_are_other_lines_of_the_same_length() -> None:
    couplets = [("一", "猫"), ("二", "狗"), ("三", "猫"), ("四", "天地"), ("五", "东西南"), ("六", "上下")]
    found = scores.rivals(couplets, np.random.default_rng(0))
    assert set(found) <= {0, 1, 2, 3, 5} and {1, 3, 5} <= set(found)  # two have the same line, and may have drawn each other's
    for index, (upper, lower) in found.items():
        assert upper == couplets[index][0]
        assert lower != couplets[index][1] and len(lower) == len(couplets[index][1])


def test_bleu_is_of_characters() -> None:
    pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install bert4k[pretrain]")
    same = measure.bleu(["猫爱吃鱼。"], ["猫爱吃鱼。"])
    assert same["bleu"] == pytest.approx(100) and same["chrf"] == pytest.approx(100)
    assert "tok:zh" in same["signatures"][0]
    # Precisions 4/4, 3/3, 2/2, 1/1 and a brevity penalty of exp(1 - 5/4).
    assert measure.bleu(["猫爱吃鱼"], ["猫爱吃鱼。"])["bleu"] == pytest.approx(100 * math.exp(-0.25))


def test_abstracts_become_articles() -> None:
    assert measure.as_article("我院2.5年,用药(DDDs)增长.C.I.B型较好.") == "我院2.5年，用药(DDDs)增长。C.I.B型较好。"
    long = "猫吃鱼，" * 40 + "狗看。"
    assert measure.as_article(long + "天地。" * 40) == long + "天地。" * 12


# What a model makes of text. ----------------------------------------------------------------------------------------


def stretch(tokenizer: Tokenizer, text: str, ends: bool = True) -> Stretch:
    ids = np.array(tokenizer.spans(text)[0], np.int32)
    return Stretch(ids, np.ones(len(ids), bool), np.arange(len(ids)) == 0, ends)


@pytest.mark.backends
def test_judge_is_softmax_of_the_models_logits(model: Any, tokenizer: Tokenizer) -> None:
    special = Special.of(tokenizer)
    random = np.random.default_rng(0)
    texts = ["猫爱吃鱼。", "东西南北，上下天地。", "狗", "看" * 30]
    for mask in ("encoder", "lm"):
        make = objectives.left_to_right if mask == "lm" else lambda text, special: objectives.masked(text, special, random, 0.4)
        examples = [make(stretch(tokenizer, text), special) for text in texts]
        machine = model.with_mask(mask)
        for example, answer in zip(examples, measure.judge(machine, examples, batch_size=2), strict=True):
            logits = np.asarray(machine.predict_on_batch({"token_ids": example.token_ids[None]}))[0].astype(np.float64)
            at = np.flatnonzero(example.labels >= 0)
            log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            np.testing.assert_allclose(answer.log_probs, log_probs[at, example.labels[at]], atol=1e-4)
            np.testing.assert_array_equal(answer.right, logits[at].argmax(axis=-1) == example.labels[at])


def test_a_share_of_told_tokens(tokenizer: Tokenizer) -> None:
    example = objectives.single(np.array(tokenizer.spans("猫猫狗，猫鸟")[0], np.int32), Special.of(tokenizer))
    labels = example.labels.copy()
    labels[1:7] = example.token_ids[1:7]
    hidden = example.token_ids.copy()
    hidden[[1, 3, 4, 5, 6]] = tokenizer.mask_id  # all but one 猫; the last is [UNK]
    told = measure.share_told(
        [example._replace(labels=labels, token_ids=hidden)],
        [Answer(np.zeros(6, np.float32), np.array([True, True, False, True, False, True]))],
        tokenizer,
    )
    assert told == {
        "texts": 1,
        "unknown": 1,
        "tokens": {"count": 4, "accuracy": 0.5, "commonest": 0.5},
        "characters": {"count": 3, "accuracy": pytest.approx(1 / 3), "commonest": pytest.approx(2 / 3)},
    }


def test_what_is_known_of_a_text(tokenizer: Tokenizer) -> None:
    text = measure.spelt(as_read(["猫鸟Linux dog", "ubuntu linux"], BasicTokenizer()), tokenizer)
    assert text.read.text == "猫鸟linux dog ubuntu linux"
    assert tokenizer.unk_id in text.ids and len(text.ids) == 7
    assert "".join(np.array(list(text.read.text))[~text.known]) == "鸟 ubuntu"  # the space belongs to the word after it
    assert [part.ids.tolist() for part in text.stretches(5)] == [text.ids[:5].tolist(), text.ids[5:].tolist()]
    assert [part.ends for part in text.stretches(5)] == [False, True]


def test_perplexities_by_hand(tokenizer: Tokenizer) -> None:
    texts = [measure.spelt(as_read([line], BasicTokenizer()), tokenizer) for line in ("猫鸟狗", "dog")]
    told = np.concatenate([[*each.ids, tokenizer.sep_id] for each in texts])
    log_probs = np.log([0.5, 0.1, 0.5, 0.5, 0.25, 0.25, 0.5])
    trigram = Trigram.learn([each.read.codes for each in texts])
    found = measure.compare(texts, told, log_probs, trigram, tokenizer)
    assert (found["documents"], found["characters"], found["tokens"]) == (2, 6, 5)
    assert (found["unknown_tokens"], found["unknown_characters"]) == (1, 1)
    # 8 symbols with the ends: four tokens of a half, two of a quarter, one [UNK] and what it stands for.
    price = 2 * (UNICODE - sum(len(token) == 1 for token in VOCABULARY))
    assert found["perplexity"] == pytest.approx((2**4 * 4**2 * 10 * price) ** (1 / 8))
    assert found["known"]["perplexity"] == pytest.approx((2**4 * 4**2) ** (1 / 7))
    assert found["perplexity_per_token"] == pytest.approx((2**4 * 4**2 * 10) ** (1 / 7))
    by_trigram = np.concatenate([trigram.log_probs(each.read.codes) for each in texts])
    assert found["trigram"] == pytest.approx(math.exp(-by_trigram.mean()))
    assert found["known"]["trigram"] == pytest.approx(math.exp(-np.delete(by_trigram, 1).mean()))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Text that the tokenizer knows, and some that it does not."""
    lines = ["猫爱吃鱼。", "狗看天，猫看地。", "东西南北，上下天地。", "Linux 狗 dog linux。", "鸟吃鱼。"]
    for part, times in (("train", 5), ("held_out", 2)):
        (tmp_path / part).mkdir()
        for name in ("modern", "poems"):
            documents = ["\n".join(lines[at : at + 3]) for at in range(3)] * times
            (tmp_path / part / f"{name}.txt").write_text("\n\n".join(documents) + "\n\n", encoding="utf-8")
    for name, marker in zip(("translate", "title", "couplet"), MARKERS, strict=True):
        pairs = [f"{marker}{source}\t{target}" for source, target in (("猫吃鱼", "狗看鱼"), ("上天", "下地"), ("东西", "南北"))]
        (tmp_path / "held_out" / f"{name}.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    return tmp_path


def test_perplexity_of_short_documents_is_that_of_score(model: Any, tokenizer: Tokenizer, corpus: Path) -> None:
    from bert4k.decoding import score

    numbers = measure.lm(Subject(model, tokenizer, corpus, corpus))["domains"]["modern"]
    reads = list(ngrams.read_documents([corpus / "held_out/modern.txt"]))
    total = score(model.with_mask("lm"), tokenizer, [read.text for read in reads]).sum()
    assert numbers["stretches"] == numbers["documents"] == len(reads)
    assert numbers["perplexity_per_token"] == pytest.approx(math.exp(-total / (numbers["tokens"] + len(reads))), rel=1e-4)
    trigram = ngrams.judge(ngrams.learnt(corpus), reads)
    assert numbers["trigram"] == pytest.approx(trigram["perplexity"])
    assert numbers["characters"] == trigram["characters"]


def test_a_model_that_knows_nothing(tokenizer: Tokenizer, corpus: Path) -> None:
    """All tokens alike: each known one has the same probability, however the text is cut."""
    model = tiny_model(positions=10)
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    numbers = measure.lm(Subject(model, tokenizer, corpus, corpus))["domains"]["modern"]
    assert numbers["stretches"] > numbers["documents"]
    assert numbers["perplexity_per_token"] == pytest.approx(len(VOCABULARY), rel=1e-4)


def test_hidden_words_are_the_same_each_time(model: Any, tokenizer: Tokenizer, corpus: Path) -> None:
    subject = Subject(model, tokenizer, corpus, corpus)
    numbers = measure.masked(subject)
    assert numbers == measure.masked(subject)
    assert numbers["domains"]["poems"]["tokens"]["count"] > 0


def test_sources_that_are_too_long_are_cut(tokenizer: Tokenizer) -> None:
    kept, cut = measure.fitted(tokenizer, ["[TITLE]猫吃鱼linux狗", "猫"], 5)
    assert (kept, cut) == (["[TITLE]猫吃鱼linux", "猫"], 1)


# The command. -------------------------------------------------------------------------------------------------------


def write_data(folder: Path) -> None:
    (folder / "s2s_csl").mkdir(parents=True)
    with gzip.open(folder / "s2s_csl/ts_test.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("to title\t猫爱吃鱼,狗看鱼.天地。\t猫鱼\nto title\t东西\t南北\n")
    (folder / "s2s_couplet").mkdir()
    for side, lines in (("in", "猫 上 天 \n东 西 \n上 下 \n"), ("out", "狗 下 地 \n南 北 \n天 地 \n")):
        (folder / f"s2s_couplet/train1000_{side}.txt").write_text(lines, encoding="utf-8")


def test_the_command(tokenizer: Tokenizer, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install bert4k[pretrain]")
    from bert4k.hub import save

    write_data(corpus / "data")
    for name, positions in (("one", 40), ("other", 41)):
        save(tiny_model(positions), tokenizer, corpus / name)
    flags = ["--corpus", str(corpus), "--data", str(corpus / "data"), "--out", str(corpus / "out.json")]
    measure.main([str(corpus / "one"), *flags, "--only", "titles"])
    measure.main([str(corpus / "one"), *flags, "--only", "couplets", "translation"])
    found = json.loads((corpus / "out.json").read_text(encoding="utf-8"))
    assert list(found) == ["about", "titles", "couplets", "translation"]
    assert found["about"]["model"] == "one" and found["about"]["layers"] == 2
    assert found["titles"]["csl"]["pairs"] == 2 and found["titles"]["articles"]["pairs"] == 3
    assert found["titles"]["csl"]["first_clause"]["rouge_1"] == pytest.approx(100 * 2 * 2 / (4 + 2) / 2, abs=1e-3)
    assert found["couplets"]["human"]["beam_8"]["answers"] == 3
    assert found["couplets"]["human"]["preference"]["couplets"] == 2
    assert found["translation"]["pairs"] == 3
    assert found["translation"]["made"]["versions"]["keras"]
    assert "猫吃鱼" in capsys.readouterr().out and "猫吃鱼" not in (corpus / "out.json").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="something else: model was one, now other"):
        measure.main([str(corpus / "other"), *flags, "--only", "titles"])


def test_missing_data_are_named(tmp_path: Path) -> None:
    for read in (
        lambda: measure.read_csl(tmp_path / "s2s_csl/ts_test.tsv.gz"),
        lambda: measure.read_human_couplets(tmp_path / "s2s_couplet"),
    ):
        with pytest.raises(DataError, match="--data"):
            read()


def test_results_are_kept_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    results.keep(path, {"model": "a"}, "one", {"value": 1})
    results.keep(path, {"model": "a"}, "two", {"value": 2})
    assert results.read(path, {"model": "a"}) == {"about": {"model": "a"}, "one": {"value": 1}, "two": {"value": 2}}
    with pytest.raises(DataError, match="model was a, now b"):
        results.keep(path, {"model": "b"}, "one", {})
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="--out"):
        results.read(path, {})
    assert results.rounded({"a": [1.23456, "b", {"c": 2}]}, 2) == {"a": [1.23, "b", {"c": 2}]}


def test_a_folder_without_a_checkout_has_no_commit(tmp_path: Path, root: Path) -> None:
    assert results.commit(tmp_path) is None
    assert results.provenance()["python"]


def test_other_weights_have_another_digest(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1")
    before = results.weights_digest(tmp_path)
    (tmp_path / "README.md").write_text("a card", encoding="utf-8")
    assert results.weights_digest(tmp_path) == before
    (tmp_path / "weights").write_bytes(b"2")
    assert results.weights_digest(tmp_path) != before


# Real data. ---------------------------------------------------------------------------------------------------------


def test_real_titles_and_couplets(shared_data: Path) -> None:
    path = shared_data / "s2s_csl/ts_test.tsv.gz"
    if not path.exists():
        pytest.skip(f"needs CSL's title task: {path} is not there")
    titles = measure.read_csl(path)
    assert len(titles) == 1000
    articles = [measure.as_article(abstract) for abstract, _ in titles]
    assert all(0 < len(article) <= 200 for article in articles)
    assert len(measure.read_human_couplets(shared_data / "s2s_couplet")) == 1000

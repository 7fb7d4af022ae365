"""The pretraining recipe: what each objective asks, what packing leaves apart, that it learns, stops and goes on."""

import gzip
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from bert4k.errors import CheckpointError, DataError
from bert4k.hub import load
from bert4k.tasks import pretrain
from bert4k.tasks.pretrain import Corpus, Poem, Settings
from bert4k.tokenizers import Tokenizer

DOCUMENTS = [
    ["晨起开窗看雨，街边小店飘香。", "谁家孩子上学，书包装满阳光。"],
    ["一盏台灯照旧书，半杯清茶伴夜初。", "键声细细如春雨，写到天明意未疏。"],
    ["地铁穿城去，高楼入雾来。", "行人皆有梦，早点为谁开？"],
    ["阳台种豆角，架上结青藤。", "邻里分新绿，笑声满一层。"],
    ["山路弯弯车慢行，桥头灯火远分明。", "老家门口黄花狗，听到轮声先出迎。"],
]
COUPLETS = [
    ("小巷灯初亮", "高楼月正圆"),
    ("细雨敲窗慢", "微风入梦轻"),
    ("新茶一盏香留客", "旧友三人话到明"),
    ("书中自有千条路", "窗外今开一树花"),
    ("雪压青松犹挺立", "风吹细柳自低头"),
]
TINY = Settings(
    layers=1, width=32, heads=2, length=40, rows=2, steps_per_epoch=15, epochs=2, warmup_steps=5, learning_rate=1e-2, minimum_count=1
)


@pytest.fixture(scope="module")
def corpus():
    return Corpus([poem for document in DOCUMENTS for poem in pretrain.cut(document, TINY.length - 2)], COUPLETS)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return Tokenizer(pretrain.make_vocabulary(corpus, 1))


def ids(tokenizer, text):
    return [tokenizer.token_to_id(token) for token in text.split()]


# What each objective asks.


def test_seq2seq_tells_the_second_half_and_its_end(tokenizer):
    example = pretrain.seq2seq(tokenizer, ("灯初亮", "月正圆"))
    assert example.token_ids.tolist() == ids(tokenizer, "[CLS] 灯 初 亮 [SEP] 月 正 圆 [SEP]")
    assert example.segment_ids.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert example.order.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert example.labels.tolist() == [-1, -1, -1, -1, *ids(tokenizer, "月 正 圆 [SEP]"), -1]


@pytest.mark.parametrize("ends", [True, False])
def test_left_to_right_tells_the_next_token_and_only_a_real_end(tokenizer, ends):
    example = pretrain.left_to_right(tokenizer, Poem("灯初亮", ends))
    assert example.token_ids.tolist() == ids(tokenizer, "[CLS] 灯 初 亮 [SEP]")
    assert example.segment_ids.tolist() == [0] * 5
    assert example.order.tolist() == [0, 1, 2, 3, 4]
    assert example.labels.tolist() == [*ids(tokenizer, "灯 初 亮"), tokenizer.sep_id if ends else -1, -1]


def test_masked_hides_15_percent_in_the_proportions_of_bert(tokenizer):
    text = "".join(DOCUMENTS[0])[:26] * 4
    original = tokenizer.encode(text).ids
    random = np.random.default_rng(0)
    examples = [pretrain.masked(tokenizer, text, random) for _ in range(200)]
    asked = np.stack([example.labels >= 0 for example in examples])
    shown = np.stack([example.token_ids for example in examples])
    assert (asked.sum(axis=1) == round(0.15 * 104)).all()
    assert not asked[:, [0, -1]].any()
    assert (np.stack([example.labels for example in examples])[asked] == np.broadcast_to(original, asked.shape)[asked]).all()
    assert (shown == original)[~asked].all()
    assert 0.77 < (shown[asked] == tokenizer.mask_id).mean() < 0.83
    assert 0.08 < (shown == original)[asked].mean() < 0.13
    assert not any(example.order.any() or example.segment_ids.any() for example in examples)
    assert len(np.unique(asked, axis=0)) > 190  # drawn anew each time


def test_masked_asks_for_the_share_it_is_told(tokenizer):
    example = pretrain.masked(tokenizer, "灯" * 50, np.random.default_rng(0), share=0.3)
    assert (example.labels >= 0).sum() == 15


def test_even_a_single_character_is_masked(tokenizer):
    assert (pretrain.masked(tokenizer, "灯", np.random.default_rng(0)).labels >= 0).sum() == 1


def test_parts_of_couplets_stay_parallel():
    random = np.random.default_rng(0)
    lengths = set()
    for upper, lower in (pretrain.some_couplet(COUPLETS, random) for _ in range(500)):
        lengths.add(len(upper))
        assert len(upper) == len(lower) > 0
        assert [index for index, character in enumerate(upper) if character == "，"] == [
            index for index, character in enumerate(lower) if character == "，"
        ]
    assert {2, 3, 4, 5, 7, 15} <= lengths


def test_some_clauses_are_a_piece_of_the_text():
    random = np.random.default_rng(0)
    text = "".join(DOCUMENTS[1])
    pieces = [pretrain.some_clauses(text, random) for _ in range(200)]
    assert all(piece and piece in text for piece in pieces)
    assert {text, "半杯清茶伴夜初"} <= set(pieces)


# One graph for three objectives.


@pytest.mark.backends
@pytest.mark.parametrize(("objective", "mask"), [("masked", "encoder"), ("left_to_right", "lm"), ("seq2seq", "seq2seq")])
def test_a_packed_text_computes_what_it_computes_alone_under_the_mask_that_users_load(corpus, tokenizer, objective, mask):
    transformer = pretrain.make_transformer(len(tokenizer), TINY)
    random = np.random.default_rng(1)
    examples = [next(pretrain.draw(objective, corpus, tokenizer, TINY, random)) for _ in range(40)]
    inputs, _, weights = pretrain.pack(iter(examples), TINY.rows, 2 * TINY.length, 2 * TINY.length)
    assert inputs["document_ids"].max() > 0 and weights.any()
    packed = transformer.with_outputs("sequence").predict_on_batch({name: inputs[name] for name in inputs if name != "positions"})
    alone = transformer.with_outputs("sequence").with_mask(mask)
    compared = 0
    for row in range(TINY.rows):
        for document in range(inputs["document_ids"][row].max() + 1):
            here = (inputs["document_ids"][row] == document) & (inputs["token_ids"][row] != tokenizer.pad_id)
            expected = alone.predict_on_batch({name: inputs[name][row, here][None] for name in ("token_ids", "segment_ids")})
            np.testing.assert_allclose(packed[row, here], expected[0], atol=2e-6)
            compared += 1
    assert compared > TINY.rows


def test_the_order_is_what_makes_the_difference(tokenizer):
    transformer = pretrain.make_transformer(len(tokenizer), TINY).with_mask("permuted").with_outputs("sequence")
    example = pretrain.seq2seq(tokenizer, COUPLETS[0])
    inputs = {name: np.array([getattr(example, name)]) for name in ("token_ids", "segment_ids", "order")}
    found = {}
    for name, order in {"seq2seq": inputs["order"], "encoder": 0 * inputs["order"], "lm": np.arange(inputs["order"].size)[None]}.items():
        found[name] = transformer.predict_on_batch(inputs | {"order": order.astype(np.int32)})
        expected = transformer.with_mask(name).predict_on_batch({key: inputs[key] for key in ("token_ids", "segment_ids")})
        np.testing.assert_allclose(found[name], expected, atol=2e-6)
    assert np.abs(found["seq2seq"] - found["encoder"]).max() > 1e-4 < np.abs(found["seq2seq"] - found["lm"]).max()


@pytest.mark.parametrize("objective", pretrain.OBJECTIVES)
def test_pack_loses_no_label_and_overfills_no_row(corpus, tokenizer, objective):
    length = TINY.length
    predictions = pretrain.predictions(TINY)[objective]
    source = pretrain.draw(objective, corpus, tokenizer, TINY, np.random.default_rng(5))
    drawn = []
    inputs, labels, weights = pretrain.pack((drawn.append(example) or example for example in source), 3, length, predictions)
    assert inputs["token_ids"].shape == (3, length) and labels.shape == weights.shape == (3, predictions)
    real = inputs["token_ids"] != tokenizer.pad_id
    assert real.sum() + sum(len(example.token_ids) for example in drawn) >= real.sum() > 0.6 * real.size
    for row in range(3):
        told = weights[row] > 0
        places = inputs["positions"][row, told]
        assert len(set(places)) == len(places) and real[row, places].all()
        if objective != "masked":  # the label is the next token of the same text
            assert (inputs["token_ids"][row, places + 1] == labels[row, told]).all()
            assert (inputs["document_ids"][row, places + 1] == inputs["document_ids"][row, places]).all()
        starts = inputs["token_ids"][row] == tokenizer.cls_id
        assert starts.sum() == inputs["document_ids"][row].max() + 1
        assert (inputs["position_ids"][row, starts] == 0).all()


def test_batches_depend_on_seed_and_step_alone(corpus, tokenizer):
    def first(settings, start=0):
        return next(pretrain.batches(corpus, tokenizer, settings, start))

    third = next(itertools.islice(pretrain.batches(corpus, tokenizer, TINY), 3, None))
    again = first(TINY, start=3)
    for objective in pretrain.OBJECTIVES:
        assert (third[0][objective]["token_ids"] == again[0][objective]["token_ids"]).all()
        assert (third[1][objective] == again[1][objective]).all()
    assert (first(TINY)[0]["masked"]["token_ids"] != again[0]["masked"]["token_ids"]).any()
    assert (first(replace(TINY, seed=2))[0]["masked"]["token_ids"] != first(TINY)[0]["masked"]["token_ids"]).any()


# The data.


def test_cut_keeps_lines_whole_and_knows_the_end():
    assert pretrain.cut(["一二三。", "四五六。", "七八。"], 8) == [Poem("一二三。四五六。", False), Poem("七八。", True)]
    assert pretrain.cut(["一二三四五六七八九"], 4) == [Poem("一二三四", False), Poem("五六七八", False), Poem("九", True)]


def test_nothing_held_out_is_learnt():
    numerals = "零一二三四五六七八九"
    texts = ["".join(numerals[int(digit)] for digit in f"{number:05}") for number in range(3000)]
    documents = [[f"{text}，{texts[number - 1]}。"] for number, text in enumerate(texts) if number % 5 == 0]
    couplets = list(itertools.pairwise(texts))
    settings = replace(TINY, held_out=0.1)
    training, unseen = pretrain.split_corpora(documents, couplets * 2, settings)
    assert len(training.couplets) == len(set(training.couplets))
    assert 30 < len(unseen.poems) < 90 and 30 < len(unseen.couplets) < 400

    def lines(corpus):
        return {line for poem in corpus.poems for line in pretrain.clauses([poem.text])}

    assert not lines(training) & lines(unseen)
    assert not {half for couplet in unseen.couplets for half in couplet} & lines(training)
    assert not {half for couplet in training.couplets for half in couplet} & lines(unseen)
    assert not {lower for _, lower in unseen.couplets} & {lower for _, lower in training.couplets}
    assert (training, unseen) == pretrain.split_corpora(documents, couplets, settings)


def test_texts_are_read_without_titles_notes_and_gaps_and_in_simplified_characters(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))

    for name in pretrain.POEMS:
        write(f"raw_poetry/{name}.txt.gz", "")
    write("raw_poetry/quantangshi_trad.txt.gz", "題\n某人\n街邊書聲遠（一作近），樓頭燈影長。\n□□三四五，六七八九十。\n\n題\n某人\n  \n")
    write("s2s_couplet/poetry_parallel_lines.tsv.gz", "燈影長\t書聲遠\n不齊\t不整齊\n")
    training, unseen = pretrain.read_corpora(tmp_path, replace(TINY, held_out=0.0))
    assert training == Corpus([Poem("街边书声远，楼头灯影长。", True)], [("灯影长", "书声远")])
    assert unseen == Corpus([], [])
    (tmp_path / "raw_poetry/songci_simp.txt.gz").unlink()
    with pytest.raises(DataError, match="songci_simp"):
        pretrain.read_corpora(tmp_path, TINY)


def test_the_vocabulary_is_special_tokens_then_characters_by_count(corpus):
    vocabulary = pretrain.make_vocabulary(corpus, 2)
    assert vocabulary[:7] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "，", "。"]
    assert "灯" in vocabulary and "狗" not in vocabulary
    assert len(vocabulary) == len(set(vocabulary))


# Training.


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    transformer, tokenizer = pretrain.pretrain(corpus, run, TINY)
    return run, transformer, tokenizer


def lines_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_thirty_steps_reduce_every_loss(finished, corpus, tokenizer):
    run, _, _ = finished
    log = lines_of(run)
    assert [line["step"] for line in log] == [15, 30]
    for objective in pretrain.OBJECTIVES:
        assert log[1][objective] < 0.95 * np.log(len(tokenizer))
        assert log[1][objective] < 0.97 * log[0][objective]


def test_the_run_folder_holds_the_model_and_is_not_overwritten(finished, corpus):
    run, transformer, tokenizer = finished
    assert sorted(path.name for path in (run / "model").iterdir()) == [
        "bert_config.json", "bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    loaded, its_tokenizer = load(run / "model", mask="seq2seq", outputs=("mlm",))
    assert its_tokenizer.vocabulary == tokenizer.vocabulary
    for name, values in transformer.weight_values().items():
        np.testing.assert_array_equal(loaded.weight_values()[name], values)
    with pytest.raises(CheckpointError, match="exists"):
        pretrain.pretrain(corpus, run, TINY)


def test_stopping_and_going_on_gives_the_uninterrupted_run(finished, corpus, tmp_path, monkeypatch):
    stop = pretrain.Log.on_epoch_end

    def interrupted(self, epoch, logs=None):
        stop(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pretrain.Log, "on_epoch_end", interrupted)
        pretrain.pretrain(corpus, tmp_path, TINY)
    assert [line["step"] for line in lines_of(tmp_path)] == [15]
    assert not (tmp_path / "model").exists()
    resumed, _ = pretrain.pretrain(corpus, tmp_path, TINY)
    run, transformer, _ = finished
    for one, other in zip(lines_of(run), lines_of(tmp_path), strict=True):
        for objective in ("step", *pretrain.OBJECTIVES):
            assert one[objective] == pytest.approx(other[objective], abs=2e-3)
    for name, values in transformer.weight_values().items():
        np.testing.assert_allclose(resumed.weight_values()[name], values, atol=2e-3, err_msg=name)


# Measuring.


def test_judge_gives_the_log_probability_of_each_label(finished, corpus, tokenizer):
    _, transformer, _ = finished
    model = transformer.with_outputs("mlm").with_mask("seq2seq")
    examples = [pretrain.seq2seq(tokenizer, couplet) for couplet in COUPLETS]
    answers = pretrain.judge(model, examples, batch_size=2)
    for example, (likelihoods, right) in zip(examples, answers, strict=True):
        logits = model.predict_on_batch({"token_ids": example.token_ids[None], "segment_ids": example.segment_ids[None]})[0].astype(float)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        places = np.flatnonzero(example.labels >= 0)
        np.testing.assert_allclose(np.exp(likelihoods), chances[places, example.labels[places]], rtol=1e-3)
        assert (right == (logits.argmax(axis=1) == example.labels)[places]).all()


def test_evaluate_tells_a_trained_model_from_a_fresh_one(finished, corpus, tokenizer):
    _, transformer, _ = finished
    fresh = pretrain.make_transformer(len(tokenizer), TINY).with_outputs("mlm")
    before, after = (pretrain.evaluate(model, tokenizer, corpus, COUPLETS) for model in (fresh, transformer.with_outputs("mlm")))
    assert before.keys() == after.keys() == {
        "masked_accuracy", "masked_character_accuracy", "left_to_right_perplexity",
        "parallel_lines_perplexity", "parallel_lines_preference", "human_couplets_perplexity", "human_couplets_preference",
    }  # fmt: skip
    for name in ("left_to_right_perplexity", "parallel_lines_perplexity", "human_couplets_perplexity"):
        assert before[name] == pytest.approx(len(tokenizer), rel=0.2)
        assert after[name] < 0.7 * before[name]


def test_exchange_gives_each_couplet_another_ones_second_half_of_its_length():
    rivals = pretrain.exchange([*COUPLETS, ("独一句", "无同伴")], np.random.default_rng(0))
    assert sorted(rivals) == [0, 1, 2, 3, 4]
    for index, (upper, lower) in rivals.items():
        assert upper == COUPLETS[index][0] and lower != COUPLETS[index][1] and len(lower) == len(COUPLETS[index][1])
        assert lower in [couplet[1] for couplet in COUPLETS]

"""Vocabularies other than BERT's, against transformers and against the recipes of their authors, on models trained here."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bert4k
from bert4k.config import Config
from bert4k.errors import ConfigError, VocabularyError
from bert4k.families import FAMILIES
from bert4k.model import Transformer
from bert4k.tokenizers import EngineTokenizer, SentencePieceTokenizer, Tokenizer, read_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

CORPUS = [
    "今天天气不错，我们去公园。",
    "北京是中国的首都 Beijing is the capital",
    "ＡＢＣ １２３ ㈱ café naïve",
    "春风又绿江南岸，明月何时照我还？",
    "The quick brown fox jumps over the lazy dog, and 12345 dogs bark.",
    "一二三四五六七八九十 百千万",
]
TEXTS = [
    "今天天气不错",
    "  北京  是 the capital\tof 中国 ",
    "ＡＢＣ㈱ café cafe\u0301 １２",
    "从未见过🙂的龘字 xyzzy",
    "",
    " ",
    "春\u3000风\u00a0又绿\n江南岸",
    "a",
    "不错,不错。“引号”…",
]


def trained(**settings: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        vocab_size=190,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"model_type": "unigram", "normalization_rule_name": "nmt_nfkc"} | settings,
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    control = ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>"]
    return {
        "t5": trained(pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
        "xlm_roberta": trained(),
        "cpm": trained(pad_id=-1, control_symbols=control, user_defined_symbols=["\u2582"]),
    }


@pytest.fixture(scope="module")
def folders(models: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind, name in (("t5", "spiece.model"), ("xlm_roberta", "sentencepiece.bpe.model"), ("cpm", "chinese_vocab.model")):
        found[kind] = tmp_path_factory.mktemp(kind)
        (found[kind] / name).write_bytes(models[kind])
    return found


@pytest.fixture(scope="module")
def theirs(folders: dict[str, Path]) -> dict[str, Any]:
    return {
        "t5": transformers.T5Tokenizer.from_pretrained(folders["t5"]),
        "xlm_roberta": transformers.XLMRobertaTokenizer.from_pretrained(folders["xlm_roberta"]),
    }


@pytest.fixture(scope="module")
def bytes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's files, trained here."""
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("gpt2")
    engine = ByteLevelBPETokenizer()
    engine.train_from_iterator(CORPUS * 3, vocab_size=330, special_tokens=["<|endoftext|>"], show_progress=False)
    engine.save_model(str(folder))
    return folder


# Ids. ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["t5", "xlm_roberta"])
def test_ids_are_those_of_transformers(kind: str, folders: dict[str, Path], theirs: dict[str, Any]) -> None:
    ours, other = read_tokenizer(folders[kind]), theirs[kind]
    assert isinstance(ours, SentencePieceTokenizer)
    assert ours.kind == kind
    assert ours.vocabulary == [other.convert_ids_to_tokens(index) for index in range(len(other))]
    special = [
        "今天</s>不错",
        "<pad>a<unk>",
        *(["a <mask> b", "今<mask>气"] if kind == "xlm_roberta" else ["填<extra_id_0>空<extra_id_99>"]),
    ]
    for text in TEXTS + special:
        assert ours.encode(text).ids.tolist() == other(text)["input_ids"], text
        assert ours.encode(text, "不错 the").ids.tolist() == other(text, "不错 the")["input_ids"], text
        assert ours.decode(ours.encode(text).ids) == other.decode(other(text)["input_ids"], skip_special_tokens=True).strip(), text


def test_cpm_reads_as_its_authors_do(folders: dict[str, Path], models: dict[str, bytes]) -> None:
    """The recipe of CPM-1-Generate: jieba, signs for spaces and line ends, words joined by spaces; the sign of a line end is <cls>."""
    import jieba

    processor = sentencepiece.SentencePieceProcessor(model_proto=models["cpm"])
    ids = {processor.id_to_piece(index): index for index in range(processor.get_piece_size())} | {"\u2583": 3}
    ours = read_tokenizer(folders["cpm"])
    for text in [*TEXTS, "狗 dog\n猫 cat\n鸟 "]:
        words = [word.translate(str.maketrans(" \n", "\u2582\u2583")) for word in jieba.cut(text, cut_all=False)]
        expected = [ids.get(piece, 0) for piece in processor.encode(" ".join(words), return_type=str)]
        found = ours.encode(text)
        assert found.ids.tolist() == [*expected, 7], text
        assert found.tokens[-1] == "<eod>"
    text = "今天天气不错\n北京是 中国的首都"
    assert ours.decode(ours.encode(text).ids) == text
    assert 3 not in ours.special_ids  # a line end may be written
    with pytest.raises(VocabularyError, match="no token '<sep>x'"):
        ours.token_to_id("<sep>x")


def test_bytes_are_those_of_gpt2(bytes_folder: Path) -> None:
    ours = read_tokenizer(bytes_folder)
    other = transformers.GPT2Tokenizer.from_pretrained(bytes_folder)
    assert isinstance(ours, EngineTokenizer)
    for text in [*TEXTS, "a <|endoftext|> b"]:
        assert ours.encode(text).ids.tolist() == [*other(text)["input_ids"], ours.sep_id], text
        assert ours.decode(other(text)["input_ids"]) == text.replace("<|endoftext|>", "")
    assert ours.vocabulary[ours.sep_id] == "<|endoftext|>" and ours.pad_id == ours.sep_id
    assert ours.decode(ours.encode("龘\ud83d").ids) == "龘\ufffd"


@pytest.mark.parametrize("kind", ["t5", "xlm_roberta"])
def test_tokenizer_json_needs_no_package(
    kind: str, folders: dict[str, Path], theirs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_tokenizer(folders[kind])
    theirs[kind].save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    ours = read_tokenizer(tmp_path)
    assert isinstance(ours, EngineTokenizer)
    assert ours.vocabulary == expected.vocabulary
    assert ours.frame == expected.frame
    for text in TEXTS:
        assert ours.encode(text, "不错").ids.tolist() == expected.encode(text, "不错").ids.tolist(), text
    with pytest.raises(VocabularyError, match=r"is a SentencePiece model.*pip install \"bert4k\[sentencepiece\]\".*tokenizer.json"):
        read_tokenizer(folders[kind])


# The interface. ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["t5", "xlm_roberta", "cpm", "bytes"])
def tokenizer(request: pytest.FixtureRequest, folders: dict[str, Path], bytes_folder: Path) -> Tokenizer:
    return read_tokenizer(bytes_folder if request.param == "bytes" else folders[request.param])


def test_offsets_are_places_in_the_raw_text(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        found = tokenizer.encode(text)
        body = [
            (token, start, end)
            for token, (start, end), part in zip(found.tokens, found.offsets, found.text_index, strict=True)
            if part == 0
        ]
        assert all(0 <= start <= end <= len(text) for _, start, end in body)
        assert sorted(start for _, start, _ in body) == [start for _, start, _ in body]
        covered = {at for _, start, end in body for at in range(start, end)}
        assert {at for at, char in enumerate(text) if not char.isspace()} <= covered, text
        for token, start, end in body:
            plain = token.strip("\u2581\u2582") if token != "<cls>" else ""  # CPM's line end
            if plain and plain.isascii() and text[start:end].isascii() and "\u0120" not in token:
                assert text[start:end].strip() == plain
    text = "不错 Beijing 公园"
    found = tokenizer.encode(text)
    at = text.index("园")
    assert any(start <= at < end for start, end in found.offsets)
    assert tokenizer.encode("㈱").offsets.count((0, 1)) >= 2  # several pieces of one character share its place


def test_batches(tokenizer: Tokenizer) -> None:
    batch = tokenizer(["今天天气不错", "a", ("春风", "明月 何时")])
    rows, segments = tokenizer.unpadded(["今天天气不错", "a", ("春风", "明月 何时")])
    assert batch["token_ids"].shape == (3, max(map(len, rows)))
    for row, segment, ids, seen in zip(rows, segments, batch["token_ids"], batch["segment_ids"], strict=True):
        assert ids[: len(row)].tolist() == row.tolist() and set(ids[len(row) :].tolist()) <= {tokenizer.pad_id}
        assert seen[: len(row)].tolist() == segment.tolist()
    pair = tokenizer.encode("春风", "明月 何时")
    assert pair.ids.tolist() == rows[2].tolist() and pair.segment_ids.tolist() == segments[2].tolist()
    second = [index for index, part in enumerate(pair.text_index) if part == 1]
    assert set(segments[2][second].tolist()) == {1} and not segments[0].any()
    with pytest.warns(bert4k.tokenizers.TruncationWarning):
        cut = tokenizer(["今天天气不错，我们去公园。"], max_length=6)["token_ids"][0]
    assert len(cut) == 6
    assert tuple(cut[len(cut) - len(tokenizer.frame.after) :].tolist()) == tokenizer.frame.after
    assert tokenizer.offsets(["今天天气不错", ("春风", "明月")]).shape[2] == 2


def test_saved_and_read_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for again in (read_tokenizer(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert type(again) is type(tokenizer)
        assert again.vocabulary == tokenizer.vocabulary and again.frame == tokenizer.frame and again.special_ids == tokenizer.special_ids
        for text in TEXTS:
            assert again.encode(text).ids.tolist() == tokenizer.encode(text).ids.tolist()


def test_rows_without_a_token_have_names_and_are_never_written(tokenizer: Tokenizer) -> None:
    size = len(tokenizer)
    wide = tokenizer.with_rows(size + 3)
    assert len(wide) == size + 3 and wide.vocabulary[:size] == tokenizer.vocabulary
    assert set(range(size, size + 3)) <= wide.special_ids
    wide.check_rows(size + 3)
    assert tokenizer.with_rows(size) is tokenizer
    assert wide.encode("今天").ids.tolist() == tokenizer.encode("今天").ids.tolist()


def test_special_tokens_when_decoding(folders: dict[str, Path]) -> None:
    ours = read_tokenizer(folders["xlm_roberta"])
    ids = ours.encode("今天[MASK]不错").ids
    assert (ids == ours.mask_id).sum() == 1
    assert ours.decode(ids, keep_special=True) == "<s>今天<mask>不错</s>"
    silent = SentencePieceTokenizer.from_folder(folders["xlm_roberta"], special_tokens_in_text=False)
    assert silent.mask_id not in silent.encode("今天[MASK]<mask>").ids
    with pytest.raises(VocabularyError, match="no mask token"):
        read_tokenizer(folders["t5"]).mask_id  # noqa: B018


def test_what_is_wrong_is_said(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(VocabularyError, match="no folder"):
        read_tokenizer(tmp_path / "none")
    with pytest.raises(VocabularyError, match=r"vocab\.txt"):
        read_tokenizer(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(VocabularyError, match="no SentencePiece model"):
        read_tokenizer(tmp_path)
    (tmp_path / "spiece.model").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps({"a</w>": 0}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(VocabularyError, match="2018"):
        read_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0}))
    with pytest.raises(VocabularyError, match="ends a text"):
        read_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="no kind 't6' of SentencePiece vocabulary"):
        SentencePieceTokenizer(folders["t5"] / "spiece.model", "t6")


# With a model. -------------------------------------------------------------------------------------------------------------------


def tiny(family: str, tokenizer: Tokenizer, **settings: Any) -> Transformer:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "max_position_embeddings": 40}
    values = {**FAMILIES[family].values, **sizes, "pad_token_id": tokenizer.pad_id, "initializer_range": 0.5, **settings}
    return Transformer(Config(vocab_size=len(tokenizer) + 5, family=family, **values), outputs=("sequence", "mlm"))


@pytest.mark.parametrize("kind", ["cpm", "bytes"])
def test_a_decoder_with_its_vocabulary(kind: str, folders: dict[str, Path], bytes_folder: Path, tmp_path: Path) -> None:
    """Saved, loaded with rows that have no token, and continuing texts as transformers' greedy search does."""
    torch = pytest.importorskip("torch")
    model = tiny("gpt2", plain := read_tokenizer(bytes_folder if kind == "bytes" else folders[kind]))
    folder = bert4k.save(model, plain.with_rows(model.config.vocab_size), tmp_path / "saved", "huggingface")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    loaded, tokenizer = bert4k.load(folder, outputs=("sequence", "mlm"))
    assert loaded.config == model.config
    assert type(tokenizer) is type(plain) and len(tokenizer) == model.config.vocab_size
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    never = sorted(tokenizer.special_ids - {tokenizer.sep_id})
    sources = ["今天天气", "北京 is", "a"]
    for source, found in zip(sources, bert4k.generate(loaded, tokenizer, sources, max_tokens=8), strict=True):
        ids, written = tokenizer.encode(source).ids[:-1].tolist(), []
        while len(written) < 8:
            with torch.no_grad():
                logits = theirs(torch.tensor([ids + written])).logits[0, -1].numpy().copy()
            logits[never] = -np.inf
            if (token := int(logits.argmax())) == tokenizer.sep_id:
                break
            written.append(token)
        assert list(found.token_ids) == written
        assert found.text == tokenizer.decode(written)
        told = "".join(bert4k.stream(loaded, tokenizer, source, max_tokens=8))
        assert found.text.startswith(told)
    [from_nothing] = bert4k.generate(loaded, tokenizer, [""], max_tokens=3)
    assert len(from_nothing.log_probs)
    text = "今天天气不错"
    ids = tokenizer.encode(text).ids.tolist()
    with torch.no_grad():
        log_probs = torch.log_softmax(theirs(torch.tensor([ids])).logits[0].double(), -1).numpy()
    assert bert4k.score(loaded, tokenizer, [text])[0] == pytest.approx(log_probs[np.arange(len(ids) - 1), ids[1:]].sum(), rel=1e-4)
    with pytest.raises(ConfigError, match="how the tokens of a vocab"):
        bert4k.generate(loaded, tokenizer, ["a"], constraints=bert4k.constraints.without(["不错"]), max_tokens=4)
    [one] = bert4k.generate(loaded, tokenizer, ["a"], constraints=bert4k.constraints.one_of(["不错", "公园"]), max_tokens=12)
    assert one.text in ("不错", "公园")
    with pytest.raises(ConfigError, match="keep_tokens and compound_tokens change a vocab"):
        bert4k.load(folder, keep_tokens=[0, 1, 2])
    bert4k.save(loaded, tokenizer, tmp_path / "keras", "keras")
    again, same = bert4k.load(tmp_path / "keras", outputs=("mlm",))
    assert len(same) == len(tokenizer) and bert4k.generate(again, same, ["a"], max_tokens=4)[0].token_ids


def test_xlm_roberta_fills_and_scores(folders: dict[str, Path], tmp_path: Path) -> None:
    plain = read_tokenizer(folders["xlm_roberta"])
    model = tiny("xlm_roberta", plain, position_offset=2)
    folder = bert4k.save(model, plain.with_rows(model.config.vocab_size), tmp_path / "saved", "huggingface")
    loaded, tokenizer = bert4k.load(folder, outputs=("mlm",))
    [candidates] = bert4k.fill(loaded, tokenizer, "今天[MASK]不错", top_k=3)
    logits = loaded.predict({"token_ids": tokenizer(["今天<mask>不错"])["token_ids"]}, verbose=0)[0]
    ids = tokenizer.encode("今天<mask>不错").ids
    best = np.argsort(-logits[int(np.flatnonzero(ids == tokenizer.mask_id)[0])])[:3]
    assert [candidate.token for candidate in candidates] == [tokenizer.id_to_token(int(token)) for token in best]
    [score] = bert4k.score(loaded, tokenizer, [("今天", "不错")])
    ids, expected = tokenizer.encode("今天", "不错").ids, 0.0
    for at, part in enumerate(tokenizer.encode("今天", "不错").text_index):
        if part is not None:
            masked = ids.copy()
            masked[at] = tokenizer.mask_id
            row = loaded.predict({"token_ids": masked[None]}, verbose=0)[0, at].astype("float64")
            expected += row[ids[at]] - np.log(np.exp(row - row.max()).sum()) - row.max()
    assert score == pytest.approx(expected, rel=1e-4)

"""`load`, `save` and `inspect`: every kind of source, values bit for bit, and what happens when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import bert4k
from bert4k import assembly, hub, masks
from bert4k.checkpoints import open_checkpoint, write_bundle, write_safetensors
from bert4k.checkpoints.bundle import Bundle
from bert4k.checkpoints.safetensors_folder import SafetensorsFolder
from bert4k.config import Config
from bert4k.errors import CheckpointError, ConfigError, DataError, Error, VocabularyError
from bert4k.model import OUTPUTS, Transformer, weights_of
from bert4k.pretrained import catalogue, folder_of
from bert4k.tokenizers import Tokenizer, TruncationWarning

# U+2028 and its "##" form are tokens of the published Chinese vocabulary.
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天地人山水火风云，。", "\u2028", "##\u2028", "moon", "##s", "un", "##happy"]
CONFIG = Config(
    vocab_size=len(VOCABULARY),
    hidden_size=12,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=20,
    max_position_embeddings=16,
    type_vocab_size=2,
)
TEXTS = ["天地人", ("山水", "火风云。"), "Moons unhappy，", ""]


def random_model(config: Config = CONFIG, kind: type[Transformer] = Transformer) -> Transformer:
    """A model with every output, in which no weight has its initial value: zeros and ones would hide a swap."""
    random = np.random.default_rng(3)
    names = kind(config, outputs=OUTPUTS).weight_names()
    return kind(config, outputs=OUTPUTS, values={name: random.normal(0, 0.3, shape).astype("float32") for name, shape in names.items()})


def same(values: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Bit for bit."""
    assert set(values) == set(others)
    return all(value.dtype == others[name].dtype and value.tobytes() == others[name].tobytes() for name, value in values.items())


def outputs_of(model: Transformer, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = model(batch, training=False)
    return {
        name: ops.convert_to_numpy(value) for name, value in (found if isinstance(found, dict) else {model.output_kinds[0]: found}).items()
    }


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder; temporary names would show."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_model()


@pytest.fixture(scope="module")
def saved(model: Transformer, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in every format: saved/google, saved/huggingface, saved/keras. Read-only by agreement."""
    folder = tmp_path_factory.mktemp("saved")
    for format in hub.FORMATS:
        assert bert4k.save(model, tokenizer, folder / format, format) == folder / format
    return folder


@pytest.fixture
def google(saved: Path, tmp_path: Path) -> Path:
    """A copy of the Google folder, to be damaged."""
    return Path(shutil.copytree(saved / "google", tmp_path / "google"))


@pytest.fixture
def huggingface(saved: Path, tmp_path: Path) -> Path:
    """A copy of the Hugging Face folder, to be damaged."""
    return Path(shutil.copytree(saved / "huggingface", tmp_path / "huggingface"))


# Where a model can come from. ---------------------------------------------------------------------------------------------------

SOURCES = [
    "google",
    "google/bert_model.ckpt",
    "google/bert_model.ckpt.index",
    "huggingface",
    "huggingface/model.safetensors",
    "keras",
    "keras/model.keras",
]


@pytest.mark.backends
@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_source_gives_the_values_bit_for_bit(
    source: str, kind: type, saved: Path, model: Transformer, tokenizer: Tokenizer
) -> None:
    loaded, their_tokenizer = bert4k.load(kind(saved / source), outputs=OUTPUTS)
    assert same(loaded.weight_values(), model.weight_values())
    assert loaded.config == model.config
    assert their_tokenizer.vocabulary == tokenizer.vocabulary
    batch = tokenizer(TEXTS)
    for name, value in outputs_of(loaded, batch).items():
        assert np.array_equal(value, outputs_of(model, batch)[name]), name


def test_a_relative_path(saved: Path, model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    assert same(bert4k.load("google", outputs=OUTPUTS)[0].weight_values(), model.weight_values())
    monkeypatch.chdir(saved / "google")
    assert same(bert4k.load(".", outputs=OUTPUTS)[0].weight_values(), model.weight_values())


def test_spaces_chinese_characters_and_links_in_paths(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "我的 模型" / "第一 版.5"
    for format in hub.FORMATS:
        bert4k.save(model, tokenizer, folder / format, format)
        link = tmp_path / f"link to {format}"
        link.symlink_to(folder / format)
        for source in (folder / format, link):
            assert same(bert4k.load(source, outputs=OUTPUTS)[0].weight_values(), model.weight_values())


def test_a_sharded_huggingface_folder(huggingface: Path, model: Transformer) -> None:
    stored = dict(open_checkpoint(huggingface))
    (huggingface / "model.safetensors").unlink()
    write_safetensors(huggingface, stored, max_shard_bytes=4000)
    assert len(list(huggingface.glob("model-*.safetensors"))) > 2
    assert same(bert4k.load(huggingface, outputs=OUTPUTS)[0].weight_values(), model.weight_values())


def test_a_huggingface_folder_without_the_prefix(huggingface: Path, model: Transformer) -> None:
    stored = {name.removeprefix("bert."): array for name, array in open_checkpoint(huggingface).items()}
    write_safetensors(huggingface, stored)
    assert same(bert4k.load(huggingface, outputs=OUTPUTS)[0].weight_values(), model.weight_values())


SHIPPED = [row for row in catalogue().values() if folder_of(row["name"]).is_dir()]


@pytest.mark.parametrize("row", SHIPPED, ids=[row["name"] for row in SHIPPED])
def test_every_checkpoint_that_comes_along_loads(row: dict[str, Any]) -> None:
    model, tokenizer = bert4k.load(row["name"], outputs=("mlm",))
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (row["layers"], row["hidden_size"])
    assert len(tokenizer) == model.config.vocab_size == row["vocabulary"]
    assert sum(value.size for value in model.weight_values().values()) == row["parameters"]
    assert len(model.weight_names()) == row["tensors"]
    assert all(np.isfinite(value).all() for value in model.weight_values().values())


@pytest.mark.parametrize("row", SHIPPED, ids=[row["name"] for row in SHIPPED])
def test_every_checkpoint_that_comes_along_is_described(row: dict[str, Any]) -> None:
    card = (folder_of(row["name"]) / "README.md").read_text(encoding="utf-8")
    for part in ("data", "licence", "seed", row["licence"].lower()):
        assert part in card.lower(), f"the model card says nothing of {part}"


def test_a_file_of_the_same_name_goes_before_the_catalogue(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(saved / "google", tmp_path / "wenbai")
    monkeypatch.chdir(tmp_path)
    assert bert4k.load("wenbai")[0].config == CONFIG


# What comes from, and goes to, other programs. ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The model of `CONFIG` by the Hugging Face library, with random weights."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.BertConfig(**CONFIG.to_huggingface() | {"initializer_range": 0.2})
    model = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def difference(ours: Transformer, tokenizer: Tokenizer, theirs: Any, folder: Path) -> float:
    """The largest difference of any output, each library starting from the texts and the same folder."""
    import torch
    import transformers

    texts = [text if isinstance(text, tuple) else (text, None) for text in TEXTS]
    their_tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    largest = 0.0
    for text, pair in texts:
        batch = their_tokenizer(text, pair, return_tensors="pt")
        own = tokenizer([text if pair is None else (text, pair)])
        assert own["token_ids"].tolist() == batch["input_ids"].tolist()
        with torch.no_grad():
            found = theirs(**batch, output_hidden_states=True)
            sequence = found.hidden_states[-1]
            expected = {
                "sequence": sequence,
                "pooled": theirs.bert.pooler(sequence),
                "mlm": found.prediction_logits,
                "nsp": found.seq_relationship_logits,
            }
        for name, value in outputs_of(ours, own).items():
            largest = max(largest, float(np.abs(value - expected[name].numpy()).max()))
    return largest


@pytest.mark.backends
@pytest.mark.parametrize("shards", [False, True])
def test_what_transformers_wrote(theirs: Any, saved: Path, tmp_path: Path, shards: bool) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="4KB" if shards else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == shards
    shutil.copy(saved / "google" / "vocab.txt", tmp_path)
    ours, tokenizer = bert4k.load(tmp_path, outputs=OUTPUTS)
    assert difference(ours, tokenizer, theirs, tmp_path) <= 1e-5


def test_what_transformers_wrote_without_heads(theirs: Any, saved: Path, tmp_path: Path) -> None:
    theirs.bert.save_pretrained(tmp_path)
    shutil.copy(saved / "google" / "vocab.txt", tmp_path)
    batch = Tokenizer(VOCABULARY)(TEXTS)
    ours, _ = bert4k.load(tmp_path, outputs=("sequence", "pooled"))
    assert all(np.isfinite(value).all() for value in outputs_of(ours, batch).values())
    assert np.array_equal(ours.weight_values()["embeddings/norm/beta"], theirs.bert.embeddings.LayerNorm.bias.detach().numpy())
    with pytest.raises(CheckpointError, match=r"Missing, 7 of .*mlm/dense/kernel.*ask for fewer outputs"):
        bert4k.load(tmp_path, outputs=OUTPUTS)


@pytest.mark.parametrize("format", ["google", "huggingface"])
def test_transformers_reads_what_was_saved_and_computes_the_same(
    format: str, saved: Path, model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """From the text to the outputs; the Google folder goes through the conversion."""
    transformers = pytest.importorskip("transformers")
    ours, their_tokenizer = bert4k.load(saved / format, outputs=OUTPUTS)
    folder = bert4k.save(ours, their_tokenizer, tmp_path / "converted", "huggingface")
    theirs, notes = transformers.BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(notes[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert difference(ours, their_tokenizer, theirs.eval(), folder) <= 1e-5


SAVER = """
import sys
import numpy as np
import tensorflow as tf
arrays = dict(np.load(sys.argv[1]))
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    variables = {name: tf.compat.v1.get_variable(name, initializer=array) for name, array in arrays.items()}
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver(variables).save(session, sys.argv[2], write_meta_graph=False)
"""


def test_what_tensorflows_own_saver_wrote(google: Path, model: Transformer, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    stored = dict(open_checkpoint(google)) | {"global_step": np.int64(7)}
    np.savez(tmp_path / "arrays.npz", **stored)
    for path in google.glob("bert_model.ckpt*"):
        path.unlink()
    command = [sys.executable, "-c", SAVER, str(tmp_path / "arrays.npz"), str(google / "bert_model.ckpt")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert bert4k.inspect(google).report.optimizer == ["global_step"]  # type: ignore[union-attr]
    assert same(bert4k.load(google, outputs=OUTPUTS)[0].weight_values(), model.weight_values())


@pytest.mark.backends
@pytest.mark.parametrize("way", [("huggingface", "google"), ("keras", "google"), ("huggingface", "keras", "google"), ("google",)])
def test_conversions_give_the_same_files(way: tuple[str, ...], saved: Path, tmp_path: Path) -> None:
    folder = saved / "google"
    for step, format in enumerate(way):
        folder = bert4k.save(*hub.load_all(folder), tmp_path / f"{step}", format)
    assert files(folder) == files(saved / "google")


def test_conversion_to_huggingface_and_back_gives_the_same_files(saved: Path, tmp_path: Path) -> None:
    google = bert4k.save(*hub.load_all(saved / "huggingface"), tmp_path / "google", "google")
    assert files(bert4k.save(*hub.load_all(google), tmp_path / "back", "huggingface")) == files(saved / "huggingface")


# How a model is loaded. ----------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("format", hub.FORMATS)
@pytest.mark.parametrize("outputs", [("sequence",), ("mlm",), ("nsp", "pooled")])
def test_outputs(outputs: tuple[str, ...], format: str, saved: Path, model: Transformer, tokenizer: Tokenizer) -> None:
    loaded, _ = bert4k.load(saved / format, outputs=outputs)
    assert loaded.output_kinds == outputs
    batch = tokenizer(TEXTS)
    found, expected = outputs_of(loaded, batch), outputs_of(model, batch)
    assert set(found) == set(outputs)
    assert all(np.array_equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("format", hub.FORMATS)
@pytest.mark.parametrize("mask", ["lm", masks.causal & masks.window(2) | masks.source])
def test_mask(mask: Any, format: str, saved: Path, model: Transformer, tokenizer: Tokenizer) -> None:
    loaded, _ = bert4k.load(saved / format, mask, OUTPUTS)
    assert loaded.mask == masks.get(mask)
    batch = tokenizer(TEXTS)
    expected = outputs_of(model.with_mask(mask), batch)
    assert all(np.array_equal(value, expected[name]) for name, value in outputs_of(loaded, batch).items())
    assert not np.array_equal(expected["sequence"], outputs_of(model, batch)["sequence"])


def test_dtype(saved: Path, tokenizer: Tokenizer) -> None:
    mixed, _ = bert4k.load(saved / "google", dtype="mixed_bfloat16")
    assert (mixed.parts["block_0/feed_forward/inner"].compute_dtype, mixed.weights[0].dtype) == ("bfloat16", "float32")
    whole, _ = bert4k.load(saved / "google", dtype="bfloat16")
    assert {weight.dtype for weight in whole.trainable_weights} == {"bfloat16"}
    exact = ops.convert_to_numpy(ops.cast(bert4k.load(saved / "google")[0](tokenizer(TEXTS)), "float32"))
    for loaded in (mixed, whole):
        assert np.abs(ops.convert_to_numpy(ops.cast(loaded(tokenizer(TEXTS)), "float32")) - exact).max() < 0.2


@pytest.mark.parametrize("layers", [[0], [2, 0], [1, 1, 1, 1], np.array([0])])
@pytest.mark.parametrize("format", ["google", "huggingface"])
def test_layers(layers: list[int], format: str, saved: Path, model: Transformer) -> None:
    loaded, _ = bert4k.load(saved / format, outputs=OUTPUTS, layers=layers)
    assert loaded.config.num_hidden_layers == len(layers)
    stored = model.weight_values()
    for name, value in loaded.weight_values().items():
        block, slash, part = name.partition("/")
        original = f"block_{layers[int(block.removeprefix('block_'))]}{slash}{part}" if block.startswith("block_") else name
        assert np.array_equal(value, stored[original]), (name, original)


@pytest.mark.parametrize("layers", [[], [3], [-1], [0, 7], "0", [0.5], np.array([], int)])
def test_layers_that_do_not_exist(layers: Any, saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"layers=.*expected some of 0 to 2"):
        bert4k.load(saved / "google", layers=layers)


@pytest.mark.parametrize("keep", [[0, 1, 2, 3, 4, 7, 9], [9, 4, 3, 2, 1, 0], np.array([0, 1, 2, 3, 20])])
@pytest.mark.parametrize("format", ["google", "huggingface"])
def test_keep_tokens(keep: Any, format: str, saved: Path, model: Transformer, tmp_path: Path) -> None:
    loaded, tokenizer = bert4k.load(saved / format, outputs=OUTPUTS, keep_tokens=keep)
    assert tokenizer.vocabulary == [VOCABULARY[token] for token in keep]
    assert (loaded.config.vocab_size, loaded.config.pad_token_id) == (len(keep), tokenizer.pad_id)
    stored = model.weight_values()
    for name, value in loaded.weight_values().items():
        by_token = name in ("embeddings/token/embeddings", "mlm/bias")
        assert np.array_equal(value, stored[name][np.asarray(keep)] if by_token else stored[name]), name
    folder = bert4k.save(loaded, tokenizer, tmp_path / "kept", format)
    again, _ = bert4k.load(folder, outputs=OUTPUTS)
    assert same(again.weight_values(), loaded.weight_values())


def test_kept_tokens_compute_what_all_of_them_did(saved: Path, model: Transformer, tokenizer: Tokenizer) -> None:
    """[PAD] gets another id, and a word gets 0: padding must still be padding, and a word a word."""
    pruned, their_tokenizer = bert4k.load(saved / "google", keep_tokens=[5, 6, 7, 8, 4, 3, 2, 1, 0])
    texts = ["天地人", "天", "山天地"]
    assert 0 in their_tokenizer(texts)["token_ids"][:, 1:4]
    expected = outputs_of(model, tokenizer(texts))["sequence"]
    assert np.array_equal(outputs_of(pruned, their_tokenizer(texts))["sequence"], expected)


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ([0, 1, 2, 3, 999], VocabularyError, "no token with id 999.*from 0 to"),
        ([0, 1, 2, 3, -1], VocabularyError, "no token with id -1"),
        ([0, 1, 2, 3, 5, 5], DataError, "names a token twice"),
        ([0, 1, 2, 3, 4.5], DataError, "holds 4.5; expected ids"),
        (VOCABULARY[:6], DataError, "token_to_id"),
        ([5, 6, 7], VocabularyError, r"not \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        ([], VocabularyError, r"not \[PAD\]"),
    ],
)
def test_keep_tokens_that_cannot_be(keep: Any, error: type[Error], message: str, saved: Path) -> None:
    with pytest.raises(error, match=message):
        bert4k.load(saved / "google", keep_tokens=keep)


def test_overrides(saved: Path) -> None:
    loaded, _ = bert4k.load(saved / "google", hidden_dropout_prob=0.3, layer_norm_eps=1e-5)
    assert loaded.config == CONFIG.override(hidden_dropout_prob=0.3, layer_norm_eps=1e-5)
    assert loaded.parts["dropout"].rate == 0.3
    with pytest.raises(ConfigError, match=r"hiden_dropout_prob.*hidden_dropout_prob"):
        bert4k.load(saved / "google", hiden_dropout_prob=0.3)
    with pytest.raises(CheckpointError, match=r"\(16, 12\).*expects \(8, 12\).*correct the override"):
        bert4k.load(saved / "google", max_position_embeddings=8)
    with pytest.raises(ConfigError, match=r"=32.*rows for 16 positions.*extend_positions='hierarchical'"):
        bert4k.load(saved / "google", max_position_embeddings=32)


def test_allow_missing(google: Path, model: Transformer) -> None:
    write_bundle(google / "bert_model.ckpt", {name: array for name, array in open_checkpoint(google).items() if "predictions" not in name})
    with pytest.raises(CheckpointError, match="mlm/bias"):
        bert4k.load(google, outputs=OUTPUTS)
    with pytest.raises(CheckpointError, match=r"Missing, 1 of .*mlm/bias"):
        bert4k.load(google, outputs=OUTPUTS, allow_missing=["mlm/dense", "mlm/norm"])
    loaded, _ = bert4k.load(google, outputs=OUTPUTS, allow_missing=["mlm"])
    stored = model.weight_values()
    for name, value in loaded.weight_values().items():
        assert np.array_equal(value, stored[name]) != name.startswith("mlm"), name
    assert {name.partition("/")[0] for name, _ in bert4k.inspect(google).report.missing.items()} == {"mlm"}  # type: ignore[union-attr]


@keras.saving.register_keras_serializable("test_hub")
class Adapted(Transformer):
    """A subclass with a part of its own."""

    def make_parts(self, dtype: Any) -> dict[str, keras.layers.Layer]:
        parts = super().make_parts(dtype)
        for index in range(self.config.num_hidden_layers):
            parts[f"block_{index}/adapter"] = keras.layers.Dense(self.config.hidden_size, kernel_initializer="zeros", dtype=dtype)
        return parts

    def block(self, index: int, x: Any, attend: Any) -> Any:
        x = super().block(index, x, attend)
        return x + self.parts[f"block_{index}/adapter"](x)


@pytest.mark.backends
def test_a_subclass_with_parts_of_its_own(saved: Path, model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Missing, 6 of .*block_\{i\}/adapter/kernel with i = 0, 1, 2"):
        bert4k.load(saved / "google", model=Adapted)
    names = [f"block_{index}/adapter" for index in range(3)]
    adapted, _ = bert4k.load(saved / "google", outputs=OUTPUTS, model=Adapted, allow_missing=names)
    assert type(adapted) is Adapted
    batch = tokenizer(TEXTS)
    expected = outputs_of(model, batch)
    assert all(np.allclose(value, expected[name], atol=1e-6) for name, value in outputs_of(adapted, batch).items())
    with pytest.raises(CheckpointError, match=r"no place for block_0/adapter/kernel.*format='keras'"):
        bert4k.save(adapted, tokenizer, tmp_path / "adapted", "google")
    assert list(tmp_path.iterdir()) == []
    again, _ = bert4k.load(bert4k.save(adapted, tokenizer, tmp_path / "adapted", "keras"), outputs=OUTPUTS, model=Adapted)
    assert type(again) is Adapted
    assert same(again.weight_values(), adapted.weight_values())
    with pytest.raises(CheckpointError, match="holds a Transformer; expected a Adapted"):
        bert4k.load(saved / "keras", model=Adapted)


@pytest.mark.backends
@pytest.mark.parametrize("source", ["google", "huggingface"])
@pytest.mark.parametrize("changes", [{}, {"keep_tokens": [0, 1, 2, 3, 4, 8]}, {"layers": [0, 2]}], ids=["all", "keep_tokens", "layers"])
def test_each_tensor_is_read_once_and_nothing_is_drawn(
    source: str, changes: dict[str, Any], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()

    def counting(read: Callable[[Any, str], np.ndarray]) -> Callable[[Any, str], np.ndarray]:
        def counted(stored: Any, name: str) -> np.ndarray:
            reads[name] += 1
            return read(stored, name)

        return counted

    def drawn(initializer: Any, *args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"{type(initializer).__name__} made a value that the checkpoint has")

    for kind in (Bundle, SafetensorsFolder):
        monkeypatch.setattr(kind, "_read", counting(kind._read))  # type: ignore[attr-defined]
    for initializer in ("TruncatedNormal", "GlorotUniform", "RandomUniform", "Zeros", "Ones"):
        monkeypatch.setattr(getattr(keras.initializers, initializer), "__call__", drawn)
    loaded, _ = bert4k.load(saved / source, outputs=OUTPUTS, **changes)
    assert set(reads.values()) == {1}
    assert len(reads) == len(loaded.weight_names())
    reads.clear()
    bert4k.inspect(saved / source)
    assert not reads


def test_nothing_is_drawn_for_a_model_that_was_given_up(google: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras keeps the variables of a scope that failed, or was only looked at, and makes their values at the next opportunity."""

    def drawn(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a value was made for a model that nobody will have")

    monkeypatch.setattr(keras.initializers.TruncatedNormal, "__call__", drawn)
    flip(google / "bert_model.ckpt.data-00000-of-00001", -5)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        bert4k.load(saved / "google", intermediate_size=30)
    with pytest.raises(CheckpointError, match="checksum"):
        bert4k.load(google, outputs=OUTPUTS)
    bert4k.inspect(saved / "google")
    bert4k.load(saved / "google", outputs=OUTPUTS)


# What is saved. ------------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("format", hub.FORMATS)
def test_lora_is_merged_on_saving(format: str, saved: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model, _ = bert4k.load(saved / "google", outputs=OUTPUTS)
    before = model.weight_values()
    model.enable_lora(2)
    for _, layer, attribute in weights_of(model.parts):
        if attribute == "kernel" and getattr(layer, "lora_enabled", False):
            layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape, "float32"))
    batch = tokenizer(TEXTS)
    expected = outputs_of(model, batch)
    loaded, _ = bert4k.load(bert4k.save(model, tokenizer, tmp_path / format, format), outputs=OUTPUTS)
    changed = {name for name, value in loaded.weight_values().items() if not np.array_equal(value, before[name])}
    assert changed == {f"block_{index}/attention/{part}/kernel" for index in range(3) for part in ("query", "value")}
    for name, value in outputs_of(loaded, batch).items():
        assert np.allclose(value, expected[name], atol=1e-5), name


def test_a_quantised_model_is_saved_as_keras_only(
    saved: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # Keras does so for every layer, which takes a minute among a test suite's objects
    model, _ = bert4k.load(saved / "google", outputs=("mlm",), layers=[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.quantize("int8")
    for format in ("google", "huggingface"):
        with pytest.raises(ConfigError, match=r"quantised to int8.*\.keras"):
            bert4k.save(model, tokenizer, tmp_path / "quantised", format)
    assert list(tmp_path.iterdir()) == []
    batch = tokenizer(TEXTS)
    again, _ = bert4k.load(bert4k.save(model, tokenizer, tmp_path / "quantised", "keras"), outputs=("mlm",))
    assert np.array_equal(outputs_of(again, batch)["mlm"], outputs_of(model, batch)["mlm"])


def test_settings_of_the_tokenizer_are_kept(model: Transformer, tmp_path: Path) -> None:
    cased = Tokenizer(VOCABULARY, lowercase=False, special_tokens=["moon"], special_tokens_in_text=True)
    for format in hub.FORMATS:
        _, again = bert4k.load(bert4k.save(model, cased, tmp_path / format, format))
        assert (again.lowercase, again.special_tokens, again.vocabulary) == (False, ("moon",), VOCABULARY)


def test_an_empty_folder_is_filled(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "new")
    bert4k.save(model, tokenizer, tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "new"]
    assert files(tmp_path / "link") == files(tmp_path / "new") != {}


def test_a_folder_that_holds_something_is_left_alone(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "note.txt").write_text("keep me")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for target in (folder, folder / "note.txt", tmp_path / "dangling"):
        for format in hub.FORMATS:
            with pytest.raises(CheckpointError, match=r"exists and is not an empty folder; nothing was written.*Choose a new folder"):
                bert4k.save(model, tokenizer, target, format)
    assert files(tmp_path) == {"mine/note.txt": b"keep me"}


@pytest.mark.parametrize("format", hub.FORMATS)
def test_a_folder_that_cannot_be_written(format: str, model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Cannot write to .*file.*Choose a folder"):
        bert4k.save(model, tokenizer, tmp_path / "file" / "model", format)
    assert files(tmp_path) == {"file": b""}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CheckpointError, match=r"Permission denied.*Choose a folder"):
            bert4k.save(model, tokenizer, tmp_path / "model")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("format", hub.FORMATS)
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "interrupted"])
def test_saving_that_fails_midway_leaves_nothing(
    failure: BaseException, format: str, model: Transformer, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def fail(_: Tokenizer, folder: Path) -> None:
        written.extend(path.name for path in folder.iterdir())
        raise failure

    monkeypatch.setattr(Tokenizer, "save", fail)
    with pytest.raises(CheckpointError if isinstance(failure, OSError) else KeyboardInterrupt):
        bert4k.save(model, tokenizer, tmp_path / "model", format)
    assert written, "it failed before anything was on disk"
    assert list(tmp_path.iterdir()) == []


def test_two_who_save_to_the_same_folder(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """One succeeds, the others are told; what stands is whole."""
    told: list[Any] = []

    def save() -> None:
        try:
            told.append(bert4k.save(model, tokenizer, tmp_path / "model", "huggingface"))
        except CheckpointError as error:
            told.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(one).__name__ for one in told if not isinstance(one, Path)) == ["CheckpointError"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert same(bert4k.load(tmp_path / "model", outputs=OUTPUTS)[0].weight_values(), model.weight_values())


def test_an_unknown_format(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no format 'hugingface'. Did you mean 'huggingface'\? Formats are google, huggingface, keras"):
        bert4k.save(model, tokenizer, tmp_path / "model", "hugingface")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_model_is_not_saved(model: Transformer, tmp_path: Path) -> None:
    other = Tokenizer([*VOCABULARY, "more"])
    with pytest.raises(VocabularyError, match=r"has 22 tokens and the model's embedding 21 rows"):
        bert4k.save(model, other, tmp_path / "model")
    moved = Tokenizer([*VOCABULARY[1:], VOCABULARY[0]])
    with pytest.raises(VocabularyError, match=r"\[PAD\] is token 20 of the vocabulary, and the model takes token 0 for padding"):
        bert4k.save(model, moved, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# What is wrong with a checkpoint. --------------------------------------------------------------------------------------------------


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_vocabulary(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    (folder / "vocab.txt").write_bytes("".join(f"{token}\n" for token in change(list(VOCABULARY))).encode())


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    write_bundle(folder / "bert_model.ckpt", change({name: array.copy() for name, array in open_checkpoint(folder).items()}))


def albert(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same numbers under ALBERT's names: one group of layers that are shared."""
    group = "bert/encoder/transformer/group_0/inner_group_0"
    return {
        name.replace("bert/encoder/layer_0", group): array
        for name, array in arrays.items()
        if "layer_1" not in name and "layer_2" not in name
    }


INDEX, DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
TRANSFORM = "cls/predictions/transform/dense/kernel"

# What is done to the Google folder; the error; what its message must say: found, expected, remedy.
DAMAGES: dict[str, tuple[Callable[[Path], Any], type[Error], list[str]]] = {
    "no index": (lambda folder: (folder / INDEX).unlink(), CheckpointError, [DATA, "without", INDEX, "Fetch"]),
    "empty index": (
        lambda folder: cut(folder / INDEX, 0),
        CheckpointError,
        [INDEX, "0 bytes", "not a sound TensorFlow index", "Fetch it again"],
    ),
    "truncated index": (lambda folder: cut(folder / INDEX, 500), CheckpointError, [INDEX, "500 bytes", "Fetch it again"]),
    "flipped bit in the index": (lambda folder: flip(folder / INDEX, 40), CheckpointError, [INDEX, "Fetch it again"]),
    "no data": (lambda folder: (folder / DATA).unlink(), CheckpointError, [DATA, "cannot be opened", "put the data file"]),
    "empty data": (lambda folder: cut(folder / DATA, 0), CheckpointError, [DATA, "has only 0 bytes", "Fetch it again"]),
    "truncated data": (lambda folder: cut(folder / DATA, -4), CheckpointError, [DATA, "cut off", "Fetch it again"]),
    "flipped bit in the data": (lambda folder: flip(folder / DATA, 1234), CheckpointError, ["checksum", DATA, "Fetch both files again"]),
    "flipped last bit": (lambda folder: flip(folder / DATA, -1), CheckpointError, ["checksum", DATA, "Fetch both files again"]),
    "no checkpoint": (
        lambda folder: [(folder / name).unlink() for name in (INDEX, DATA)],
        CheckpointError,
        ["no checkpoint in", "expected bert_model.ckpt.index", "it holds bert_config.json", "Give the folder"],
    ),
    "two checkpoints": (lambda folder: shutil.copy(folder / INDEX, folder / "b.index"), CheckpointError, ["There are 2", "Give the path"]),
    "another width in the config": (
        lambda folder: change_config(folder, intermediate_size=24),
        CheckpointError,
        ["shape (12, 20) in the checkpoint", "expects (12, 24)", "Use the config"],
    ),
    "more layers in the config": (
        lambda folder: change_config(folder, num_hidden_layers=4),
        CheckpointError,
        ["Missing, 16 of", "block_3/attention/query/kernel", "bert/encoder/layer_3", "Load a checkpoint that has these"],
    ),
    "a tensor is missing": (
        lambda folder: rewrite(folder, lambda arrays: {name: array for name, array in arrays.items() if name != TRANSFORM}),
        CheckpointError,
        ["Missing, 1 of", "mlm/dense/kernel", TRANSFORM, "allowed to be missing"],
    ),
    "a tensor has another name": (
        lambda folder: rewrite(folder, lambda arrays: {name.replace(TRANSFORM, TRANSFORM + "s"): array for name, array in arrays.items()}),
        CheckpointError,
        ["mlm/dense/kernel", f"did you mean '{TRANSFORM}s'", "Unused in the checkpoint, 1"],
    ),
    "ALBERT's tensors, and BERT's config": (
        lambda folder: (rewrite(folder, albert), change_config(folder, model_type="bert")),
        CheckpointError,
        ["look like ALBERT", "the model is BERT", "Load a BERT checkpoint", "model='albert'"],
    ),
    "another family's config": (
        lambda folder: change_config(folder, model_type="distilbert"),
        ConfigError,
        ["model_type 'distilbert'", "does not build", "Load a checkpoint of one of these"],
    ),
    "a factorised embedding in the config": (
        lambda folder: change_config(folder, embedding_size=6),
        CheckpointError,
        ["embeddings/projection/kernel (looked for nothing in this layout)", "shape (2, 12) in the checkpoint", "expects (2, 6)"],
    ),
    "no config": (
        lambda folder: (folder / "bert_config.json").unlink(),
        ConfigError,
        ["no config in", "expected bert_config.json", "Put the config"],
    ),
    "a config that is not JSON": (
        lambda folder: (folder / "bert_config.json").write_text("{"),
        ConfigError,
        ["is not JSON", "Expected the config"],
    ),
    "unknown config key": (
        lambda folder: change_config(folder, hidden_sise=12),
        ConfigError,
        ["unknown key 'hidden_sise'", "Did you mean 'hidden_size'", "Remove it if"],
    ),
    "no vocabulary": (
        lambda folder: (folder / "vocab.txt").unlink(),
        VocabularyError,
        ["Cannot read the vocabulary", "Expected vocab.txt"],
    ),
    "a longer vocabulary": (
        lambda folder: change_vocabulary(folder, lambda tokens: [*tokens, "more"]),
        VocabularyError,
        ["has 22 tokens", "embedding 21 rows", "use the vocab.txt and the config"],
    ),
    "a longer vocabulary, and the config says so": (
        lambda folder: (change_vocabulary(folder, lambda tokens: [*tokens, "more"]), change_config(folder, vocab_size=22)),
        CheckpointError,
        ["The vocabulary sizes differ", "21 rows in the checkpoint", "has 22", "Use the config and vocab.txt"],
    ),
    "a duplicated token": (
        lambda folder: change_vocabulary(folder, lambda tokens: [*tokens[:-1], "天"]),
        VocabularyError,
        ["'天' more than once", "lines 6, 21", "Every token must have one id", "fetch the file again"],
    ),
    "an empty line": (
        lambda folder: change_vocabulary(folder, lambda tokens: [*tokens[:7], "", *tokens[8:]]),
        VocabularyError,
        ["empty token in line 8", "Every line must hold one token", "fetch the file again"],
    ),
    "a line with U+2028 cut in two": (
        lambda folder: (folder / "vocab.txt").write_bytes("\n".join("\n".join(VOCABULARY).splitlines()).encode()),
        VocabularyError,
        ["empty token"],
    ),
    "[PAD] elsewhere": (
        lambda folder: change_vocabulary(folder, lambda tokens: [tokens[5], *tokens[1:5], tokens[0], *tokens[6:]]),
        VocabularyError,
        ["[PAD] is token 5", "token 0 for padding", "pad_token_id=5"],
    ),
}


@pytest.mark.parametrize(("damage", "error", "says"), DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_folder(damage: Callable[[Path], Any], error: type[Error], says: list[str], google: Path) -> None:
    damage(google)
    before = files(google)
    with pytest.raises(error) as caught:
        bert4k.load(google, outputs=OUTPUTS)
    message = str(caught.value)
    for part in says:
        assert part in message, message
    assert "\n" not in message
    assert len(message) < 3000
    assert type(caught.value) is error
    assert files(google) == before


def test_padding_elsewhere_can_be_told(google: Path) -> None:
    change_vocabulary(google, lambda tokens: [tokens[5], *tokens[1:5], tokens[0], *tokens[6:]])
    model, tokenizer = bert4k.load(google, pad_token_id=5)
    assert model.config.pad_token_id == tokenizer.pad_id == 5


@pytest.mark.parametrize("size", [0, 7, 100, -4])
def test_a_truncated_safetensors_file(size: int, huggingface: Path) -> None:
    cut(huggingface / "model.safetensors", size)
    with pytest.raises(CheckpointError, match=r"not a sound safetensors file.*fetch it again"):
        bert4k.load(huggingface)


def test_a_file_that_is_no_pytorch_file_is_refused(huggingface: Path) -> None:
    (huggingface / "model.safetensors").rename(huggingface / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin .* is not a sound PyTorch file"):
        bert4k.load(huggingface)


@pytest.mark.parametrize("source", ["nowhere", "nowhere/at/all", "天" * 200, "a\0b", "wenbais"])
def test_a_source_that_does_not_exist(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for ask in (bert4k.load, bert4k.inspect):
        with pytest.raises(CheckpointError, match=r"There is no file or folder .* Give the folder of a release, or one of: wenbai"):
            ask(source)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_name_of_the_catalogue() -> None:
    with pytest.raises(CheckpointError, match="Did you mean 'wenbai'"):
        bert4k.load("wenbei")


def test_a_text_file_as_source(google: Path) -> None:
    with pytest.raises(Error):
        bert4k.load(google / "vocab.txt")


def test_arguments_that_a_keras_file_cannot_honour(saved: Path) -> None:
    for argument in ({"layers": [0]}, {"keep_tokens": [0]}, {"dtype": "float16"}, {"hidden_dropout_prob": 0.0}, {"allow_missing": ["mlm"]}):
        with pytest.raises(ConfigError, match=r"is a whole model.*apply to checkpoints only"):
            bert4k.load(saved / "keras", **argument)  # type: ignore[arg-type]


def test_an_output_that_a_keras_file_does_not_have(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = bert4k.save(Transformer(CONFIG), tokenizer, tmp_path / "model", "keras")
    with pytest.raises(ConfigError, match=r"has no weights for 'mlm'"):
        bert4k.load(folder, outputs=("mlm",))


def test_a_keras_file_of_another_class(tokenizer: Tokenizer, tmp_path: Path) -> None:
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "model.keras")
    tokenizer.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds a Sequential; expected a Transformer.*keras.saving.load_model"):
        bert4k.load(tmp_path)


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_truncated_keras_file(size: int, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "keras", tmp_path, dirs_exist_ok=True)
    cut(tmp_path / "model.keras", size)
    with pytest.raises(CheckpointError, match=r"Keras cannot load .*model\.keras.*cut off"):
        bert4k.load(tmp_path)


def test_a_keras_file_without_its_vocabulary(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved / "keras" / "model.keras", tmp_path)
    with pytest.raises(VocabularyError, match="Cannot read the vocabulary"):
        bert4k.load(tmp_path)


# What is wrong with a question. ----------------------------------------------------------------------------------------------------


def test_an_unknown_mask(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"encodr.*encoder"):
        bert4k.load(saved / "google", mask="encodr")


@pytest.mark.parametrize("outputs", [("mln",), (), "mlm", ("mlm", "mlms")])
def test_unknown_outputs(outputs: Any, saved: Path) -> None:
    with pytest.raises(ConfigError, match="mlm"):
        bert4k.load(saved / "google", outputs=outputs)


@pytest.mark.parametrize("width", [0, -1])
def test_beam_of_nothing(width: int) -> None:
    with pytest.raises(ConfigError, match=rf"beam\({width}\): expected .* at least 1"):
        bert4k.beam(width)


def test_a_text_longer_than_the_positions(saved: Path) -> None:
    model, tokenizer = bert4k.load(saved / "google", outputs=OUTPUTS)
    batch = tokenizer(["天" * 20])
    for run in (model, model.predict):
        with pytest.raises(DataError, match=r"22 tokens a row; the model has 16 positions.*max_length=16"):
            run(batch)
    with pytest.warns(TruncationWarning, match="6 tokens were cut"):
        assert tokenizer(["天" * 20], max_length=16)["token_ids"].shape == (1, 16)
    for ask in (bert4k.score, bert4k.embed):
        with pytest.raises(DataError, match="22 tokens; the model has 16 positions"):
            ask(model, tokenizer, ["天" * 20])
    with pytest.raises(DataError, match="22 tokens; the model has 16 positions"):
        bert4k.fill(model, tokenizer, "[MASK]" * 20)
    with pytest.raises(DataError, match=r"the model has 16 positions.*ask for fewer tokens"):
        bert4k.generate(model.with_mask("lm"), tokenizer, ["天地"], max_tokens=15)


@pytest.mark.parametrize(("name", "wrong"), [("token_ids", 21), ("token_ids", -1), ("segment_ids", 2), ("position_ids", 16)])
def test_ids_outside_the_model(name: str, wrong: int, model: Transformer, tokenizer: Tokenizer) -> None:
    batch = tokenizer(["天地"]) | {"position_ids": np.arange(4, dtype="int32")[None]}
    batch[name] = batch[name].copy()
    batch[name][0, 1] = wrong
    with pytest.raises(DataError, match=rf"{name} holds {wrong}; the model's embedding has rows 0 to .*Use the tokenizer"):
        model.predict(batch, verbose=0)


def test_an_empty_string_is_a_text(model: Transformer, tokenizer: Tokenizer) -> None:
    assert tokenizer([""])["token_ids"].tolist() == [[2, 3]]
    assert bert4k.embed(model, tokenizer, [""]).shape == (1, 12)
    assert bert4k.score(model.with_mask("lm"), tokenizer, [""]).shape == (1,)
    [written] = bert4k.generate(model.with_mask("lm"), tokenizer, [""], max_tokens=3)
    assert len(written.token_ids) <= 3


def test_an_empty_batch(model: Transformer, tokenizer: Tokenizer) -> None:
    for ask in (bert4k.generate, bert4k.score, bert4k.embed):
        with pytest.raises(DataError, match=r"list is empty. Give at least one"):
            ask(model.with_mask("lm"), tokenizer, [])
    with pytest.raises(DataError, match="batch of texts is empty"):
        tokenizer([])
    with pytest.raises(DataError, match=r"shape \(0, 4\); expected \[batch, tokens\]"):
        model.predict({"token_ids": np.zeros((0, 4), "int32")}, verbose=0)


# What inspect tells. ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["google", "google/bert_model.ckpt.index", "huggingface"])
def test_inspect(source: str, saved: Path, model: Transformer) -> None:
    found = bert4k.inspect(saved / source)
    weights = model.weight_names()
    assert (found.summary.family, found.summary.layers, found.vocabulary, found.config, found.problem) == ("bert", 3, 21, CONFIG, None)
    assert found.summary.parameters == sum(np.prod(shape, dtype=int) for shape in weights.values())
    assert found.summary.nbytes == 4 * found.summary.parameters
    assert found.report is not None
    assert {ours for ours, _ in found.report.matched} == set(weights)
    assert not (found.report.missing or found.report.misshapen or found.report.unused or found.report.optimizer)


@pytest.mark.parametrize("name", ["another width in the config", "a longer vocabulary, and the config says so"])
def test_inspect_reports_what_load_refuses(name: str, google: Path) -> None:
    DAMAGES[name][0](google)
    found = bert4k.inspect(google)
    assert found.report is not None
    assert found.report.misshapen


@pytest.mark.parametrize("name", ["no config", "unknown config key", "another family's config", "a duplicated token"])
def test_inspect_lists_the_tensors_of_what_it_cannot_build(name: str, google: Path) -> None:
    DAMAGES[name][0](google)
    found = bert4k.inspect(google)
    assert (found.report, len(found.summary.tensors)) == (None, len(Transformer(CONFIG, outputs=OUTPUTS).weight_names()))
    assert found.problem
    assert DAMAGES[name][2][0] in found.problem


def test_inspect_needs_no_data_file(google: Path) -> None:
    (google / DATA).unlink()
    assert bert4k.inspect(google).report.matched  # type: ignore[union-attr]


def test_inspect_refuses_a_keras_file(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"whole Keras model.*model.summary"):
        bert4k.inspect(saved / "keras")


@pytest.mark.parametrize(
    ("name", "family", "layers"),
    [("bert_uncased_medium_L8_H512", "bert", 8), ("bert_wwm_hwf87", "bert", 12), ("albert_tiny_zh_brightmart", "albert_zh", 0)],
)
def test_inspect_on_real_indexes(name: str, family: str, layers: int, shared_data: Path) -> None:
    folder = shared_data / "ckpt_index" / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    found = bert4k.inspect(folder)
    lines = (folder / "tensors.tsv").read_text(encoding="utf-8").strip().split("\n")
    assert len(found.summary.tensors) in (len(lines), len(lines) - 1)  # with or without a heading
    assert found.summary.family == family
    assert found.summary.layers == layers
    assert found.report is not None
    assert found.config is not None and found.config.family == family
    assert not (found.report.misshapen or found.report.missing or found.report.unused)
    assert all(tensor.fate != "unknown" for tensor in found.summary.tensors)
    assert len([ours for ours, _ in found.report.matched if ours.startswith("block_")]) == 16 * max(1, layers)
    with pytest.raises(CheckpointError if (folder / "vocab.txt").exists() else VocabularyError):
        bert4k.load(folder)


def test_a_dtype_that_does_not_exist(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"dtype='flaot16' is no Keras dtype policy.*mixed_bfloat16"):
        bert4k.load(saved / "google", dtype="flaot16")


# Outputs that were never trained. --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["google", "huggingface"])
def test_an_output_that_was_never_trained_is_told(format: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As chinese-roberta-wwm-ext-large was released: a random matrix, and a norm and biases as they were made."""
    untrained = Transformer(CONFIG, outputs=OUTPUTS)
    bert4k.save(untrained, tokenizer, tmp_path / "saved", format)
    with pytest.warns(assembly.UntrainedOutputWarning, match=r"MLM output of .*saved.* was never trained.*Use another checkpoint"):
        bert4k.load(tmp_path / "saved", outputs=("mlm",))
    bert4k.load(tmp_path / "saved")  # nothing is said of what was not asked for
    values = untrained.weight_values()
    values["mlm/bias"] = values["mlm/bias"] + np.float32(1e-3)
    bert4k.save(Transformer(CONFIG, outputs=OUTPUTS, values=values), tokenizer, tmp_path / "trained", format)
    bert4k.load(tmp_path / "trained", outputs=("mlm",))

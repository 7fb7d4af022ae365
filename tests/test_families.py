"""The contract of every family: computes what transformers computes, is saved and loaded bit for bit in each of its layouts, takes every
mask, decodes with a cache as without, and goes through `.keras` and half precision.

The references: transformers reads the folder that `save` wrote, which proves the model and the name table at once, since names mean what
transformers makes of them; where it has no such model, and for masks and caches, the NumPy model of `decoding.reference`.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from decoding import reference, test_generation, test_infilling, test_orders
from decoding.conftest import CHARACTERS, SPECIAL, tiny_model
from keras import ops
from marks import on_backends
from test_parity import our_gradients, ragged

import bert4k
from bert4k import masks
from bert4k.attention_maps import attention_probabilities
from bert4k.checkpoints import open_checkpoint, write_bundle, write_safetensors
from bert4k.checkpoints.recognise import recognise
from bert4k.config import Config
from bert4k.convolution import Convolution
from bert4k.decoding.orders import score_permuted
from bert4k.errors import CheckpointError, ConfigError, DataError
from bert4k.families import FAMILIES
from bert4k.layers import Attention
from bert4k.model import Transformer, weights_of
from bert4k.positions import Places, Rotary
from bert4k.pretrained import TABLES, table_of
from bert4k.tokenizers import Tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

backends = pytest.mark.backends
# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

VOCABULARY = SPECIAL + CHARACTERS
TINY = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,
}


@dataclass(frozen=True)
class Case:
    """A family, the kinds of its config that a file would tell, and how transformers calls the outputs that its model has."""

    family: str
    kinds: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)

    def config(self, **changes: Any) -> Config:
        return Config(**{**TINY, **FAMILIES[self.family].values, "family": self.family, **self.kinds, **changes})


_BERT_HEADS = {"mlm": "prediction_logits", "nsp": "seq_relationship_logits"}
_ALBERT_HEADS = {"mlm": "prediction_logits", "nsp": "sop_logits"}
_DISTANCES = {"position_buckets": 4, "max_relative_position": 16}
CASES = {
    "BERT": Case("bert", {}, _BERT_HEADS),
    "BERT without segments": Case("bert", {"type_vocab_size": 0}),
    "ALBERT": Case("albert", {"embedding_size": 10, "hidden_act": "gelu_tanh"}, _ALBERT_HEADS),
    "ALBERT in two groups": Case("albert", {"embedding_size": 10, "num_hidden_groups": 2}, _ALBERT_HEADS),
    "ALBERT unshared, of one width": Case("albert", {"embedding_size": None, "num_hidden_groups": None}, _ALBERT_HEADS),
    "albert_zh": Case("albert_zh", {"embedding_size": 10, "hidden_act": "gelu_tanh"}),
    "ERNIE 1": Case("ernie", {"hidden_act": "relu"}, _BERT_HEADS),
    "ERNIE 3": Case("ernie", {"task_type_vocab_size": 3, "type_vocab_size": 4}, _BERT_HEADS),
    "ELECTRA": Case("electra", {"embedding_size": 10}, {"discriminator": "logits"}),
    "ELECTRA of one width": Case("electra", {}, {"discriminator": "logits"}),
    "ELECTRA's generator": Case("electra_generator", {"embedding_size": 10}, {"mlm": "logits"}),
    "NEZHA": Case("nezha", {"max_relative_position": 4}),
    "RoFormer": Case("roformer", {}, {"mlm": "logits"}),
    "RoFormer, factorised": Case("roformer", {"embedding_size": 10}, {"mlm": "logits"}),
    "RoFormerV2": Case("roformer_v2", {"hidden_act": "relu"}),
    "GAU-alpha": Case("gau_alpha", {"num_attention_heads": 1, "attention_head_size": 10}),
    "RoBERTa": Case("roberta", {"position_offset": 2}, {"mlm": "logits"}),
    "XLM-RoBERTa": Case("xlm_roberta", {"position_offset": 2}, {"mlm": "logits"}),
    "GPT": Case("gpt", {"intermediate_size": 96}, {"mlm": "logits"}),
    "GPT-2": Case("gpt2", {}, {"mlm": "logits"}),
    "GPT-2 with erf": Case("gpt2", {"hidden_act": "gelu"}, {"mlm": "logits"}),
    "GPT2-ML": Case("gpt2_ml", {"num_hidden_layers": 11}),
    "NEZHA-Gen": Case("nezha_gen"),
    "DeBERTa-v2": Case("deberta_v2", {**_DISTANCES, "conv_kernel_size": 3, "conv_act": "gelu"}, {"mlm": "logits"}),
    "DeBERTa-v2 with positions": Case("deberta_v2", {**_DISTANCES, "position_biased_input": True}, {"mlm": "logits"}),
    "DeBERTa-v2 with segments": Case("deberta_v2", {**_DISTANCES, "conv_kernel_size": 5, "type_vocab_size": 2}, {"mlm": "logits"}),
    "ModernBERT": Case("modernbert", {"local_attention": 6}, {"mlm": "logits"}),
    "ModernBERT, all layers global": Case("modernbert", {"global_attn_every_n_layers": 1, "hidden_act": "silu"}, {"mlm": "logits"}),
}
every_case = pytest.mark.parametrize("name", CASES)
IN_TRANSFORMERS = [name for name, case in CASES.items() if case.theirs]
# One of each kind, for what takes long.
KINDS = ["ALBERT", "albert_zh", "ERNIE 3", "ELECTRA's generator", "NEZHA", "RoFormer", "RoFormerV2", "GAU-alpha", "RoBERTa"]
KINDS += ["DeBERTa-v2", "ModernBERT"]
DECODERS = ["GPT", "GPT-2", "GPT2-ML"]


def build(name: str, outputs: tuple[str, ...] | None = None, **changes: Any) -> Transformer:
    """A model in which no weight has its initial value: zeros and ones would hide a swap."""
    case = CASES[name]
    config = case.config(**changes)
    model = Transformer(config, outputs=outputs or config.outputs)
    random = np.random.default_rng(3)
    for _, layer, attribute in weights_of(model.parts):
        variable = getattr(layer, attribute)
        deviation = 0.2 if attribute in ("kernel", "embeddings") else 0.1
        variable.assign(random.normal(float(attribute == "gamma"), deviation, variable.shape).astype("float32"))
    return model


def tokenizer_of(config: Config) -> Tokenizer:
    """[PAD] is where the family has it."""
    tokens = list(VOCABULARY)
    tokens[0], tokens[config.pad_token_id] = tokens[config.pad_token_id], tokens[0]
    return Tokenizer(tokens)


def batch_of(config: Config, batch: int = 3, length: int = 13) -> dict[str, np.ndarray]:
    """Rows of different lengths, of random tokens and of every segment."""
    found = ragged(config.override(type_vocab_size=max(1, config.type_vocab_size)), batch, length)
    real, random = found["token_ids"] != 0, np.random.default_rng(1)
    token_ids = random.integers(len(SPECIAL), config.vocab_size, real.shape)
    return {"token_ids": np.where(real, token_ids, config.pad_token_id).astype("int32"), "segment_ids": found["segment_ids"]}


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def outputs_of(model: Transformer, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = model(batch, training=False)
    return {name: numpy(value) for name, value in (found if isinstance(found, dict) else {model.output_kinds[0]: found}).items()}


def same(values: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Bit for bit."""
    assert set(values) == set(others)
    return all(value.dtype == others[name].dtype and value.tobytes() == others[name].tobytes() for name, value in values.items())


# As transformers computes it. ---------------------------------------------------------------------------------------------------


def pair(name: str, folder: Path) -> tuple[Transformer, Any]:
    """Our model with the outputs that transformers' model has, and that one, read from the folder that was saved."""
    case = CASES[name]
    model = build(name, ("sequence", *case.theirs))
    bert4k.save(model, tokenizer_of(model.config), folder, "huggingface")
    theirs, info = getattr(transformers, FAMILIES[case.family].architecture).from_pretrained(folder, output_loading_info=True)
    # Rotary angles are no weights here.
    lacking = {key: [one for one in found if not one.endswith("embed_positions.weight")] for key, found in info.items()}
    assert not any(lacking.values()), lacking
    return model, theirs.eval()


def run_theirs(model: Any, case: Case, batch: dict[str, np.ndarray], pad: int) -> tuple[dict[str, Any], list[Any]]:
    """Their outputs by our names, and the hidden states of every layer."""
    token_ids, segment_ids = (torch.tensor(batch[key], dtype=torch.long) for key in ("token_ids", "segment_ids"))
    out = model(
        input_ids=token_ids,
        **(
            {"token_type_ids": segment_ids}  # without rows of their own they would be tokens
            if case.config().type_vocab_size and "token_type_ids" in inspect.signature(model.forward).parameters
            else {}
        ),
        attention_mask=(token_ids != pad).long(),
        output_hidden_states=True,
        return_dict=True,
    )
    return {"sequence": out.hidden_states[-1], **{ours: out[theirs] for ours, theirs in case.theirs.items()}}, list(out.hidden_states)


def hidden_states(model: Transformer, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the hooks give after the embeddings and after each layer, the last one normalised."""
    segment_ids, position_ids, allowed = model.get_layer("tokens")(batch["token_ids"], batch["segment_ids"])
    x = model.embed(batch["token_ids"], segment_ids, position_ids)
    states = [x]
    for index in range(model.config.num_hidden_layers):
        states.append(x := model.block(index, x, lambda attention, x: attention(x, allowed, position_ids)))
    states[-1] = model.parts["final_norm"](x) if "final_norm" in model.parts else x
    return [numpy(state) for state in states]


@backends
@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_outputs_and_gradients_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    ours, theirs = pair(name, tmp_path / "saved")
    pad, batch = ours.config.pad_token_id, batch_of(ours.config)
    real = batch["token_ids"] != pad
    expected, states = run_theirs(theirs, case, batch, pad)

    for layer, (mine, yours) in enumerate(zip(hidden_states(ours, batch)[::-1], states[::-1], strict=False)):
        assert np.abs(mine - yours.detach().numpy())[real].max() <= 1e-5, f"{layer} layers from the end"
    found = outputs_of(ours, batch)
    for output, value in expected.items():
        where = real if value.ndim > 1 and output not in ("pooled", "nsp") else slice(None)
        assert np.abs(found[output] - value.detach().numpy())[where].max() <= 1e-5, output

    random = np.random.default_rng(2)
    weights = {}
    for output, value in found.items():
        mask = real.reshape(*real.shape, *[1] * (value.ndim - 2)) if value.shape[:2] == real.shape else 1
        weights[output] = (random.standard_normal(value.shape) * mask).astype("float32")
    theirs.zero_grad()
    sum((expected[output] * torch.tensor(value)).sum() for output, value in weights.items()).backward()
    gradients = {key: one.grad.numpy() for key, one in theirs.named_parameters(remove_duplicate=False) if one.grad is not None}
    mine = table_of(case.family, "huggingface").save(our_gradients(ours, batch, weights))
    for key, gradient in mine.items():
        size = np.linalg.norm(gradients[key])
        if key.endswith("key.bias") and ours.config.position != "rotary":  # zero (see test_parity): rounding is held against the kernel's
            assert np.linalg.norm(gradient) <= 1e-4 * np.linalg.norm(gradients[key.replace("bias", "weight")]), key
        else:
            assert np.linalg.norm(gradient - gradients[key]) <= 1e-4 * max(size, 1e-3), key


# As NumPy computes it. -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", on_backends(reference.MASKS, "(causal | source) & real"))
@pytest.mark.parametrize("name", [*KINDS, *DECODERS, "ALBERT in two groups", "ELECTRA"])
def test_every_mask(name: str, mask: str) -> None:
    model = build(name, ("sequence",)).with_mask(mask)
    batch = batch_of(model.config)
    found, slow = numpy(model(batch, training=False)), reference.Bert(model, mask)
    for row, (ids, segments) in enumerate(zip(batch["token_ids"], batch["segment_ids"], strict=True)):
        length = int((ids != model.config.pad_token_id).sum())
        expected = slow.sequence(ids[:length], segments[:length])
        np.testing.assert_allclose(found[row, :length], expected, atol=2e-5 * max(1.0, np.abs(expected).max()))


def test_custom_positions_are_those_that_count() -> None:
    """A gap between two tokens, and tokens out of order, for every kind of position."""
    for name in ("BERT", "NEZHA", "RoFormer", "DeBERTa-v2", "ModernBERT"):
        model = build(name, ("sequence",))
        places = [5, 4, 9, 0, 17, 3]
        batch = {"token_ids": np.array([[7, 8, 9, 10, 11, 12]]), "position_ids": np.array([places])}
        expected = reference.Bert(model, "real").sequence(batch["token_ids"][0], [0] * 6, places)
        np.testing.assert_allclose(numpy(model(batch))[0], expected, atol=2e-5 * max(1.0, np.abs(expected).max()))
        assert np.abs(numpy(model({"token_ids": batch["token_ids"]}))[0] - expected).max() > 1e-2, name


@pytest.mark.parametrize("name", ["NEZHA", "albert_zh", "RoFormerV2", "GAU-alpha", "GPT2-ML", "NEZHA-Gen"])
def test_gradients_are_those_of_differences(name: str) -> None:
    """Where there is no autograd to compare with: the loss of the NumPy model on either side, weight by weight, in float64."""
    model = build(name, ("sequence", "mlm"), num_hidden_layers=2)
    batch = {"token_ids": np.array([[7, 8, 9, 10, 11, 12, 5]], "int32"), "segment_ids": np.array([[0, 0, 0, 1, 1, 1, 1]], "int32")}
    random = np.random.default_rng(2)
    weights = {output: random.standard_normal(value.shape).astype("float32") for output, value in outputs_of(model, batch).items()}
    gradients, slow = our_gradients(model, batch, weights), reference.Bert(model, str(model.mask))

    def loss() -> float:
        x = slow.sequence(batch["token_ids"][0], batch["segment_ids"][0])
        if model.config.mlm_head == "plain":
            return float((x * weights["sequence"][0]).sum() + (x @ slow.weights["embeddings/token/embeddings"].T * weights["mlm"][0]).sum())
        transformed = slow.norm("mlm/norm", reference.ACTIVATIONS[model.config.hidden_act](slow.dense("mlm/dense", x)))
        if name == "albert_zh":
            transformed = transformed @ slow.weights["embeddings/projection/kernel"].T
        logits = transformed @ slow.weights["embeddings/token/embeddings"].T + slow.weights["mlm/bias"]
        return float((x * weights["sequence"][0]).sum() + (logits * weights["mlm"][0]).sum())

    for weight, gradient in gradients.items():
        if weight.endswith("key/bias"):  # zero
            continue
        value, step = slow.weights[weight], 1e-6
        direction = gradient.astype("float64") / np.linalg.norm(gradient)
        sides = []
        for sign in (1, -1):
            slow.weights[weight] = value + sign * step * direction
            sides.append(loss())
        slow.weights[weight] = value
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(np.linalg.norm(gradient), rel=2e-4), weight


# Saved and loaded. ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", on_backends(CASES, "ALBERT", "ERNIE 3", "DeBERTa-v2", "GPT2-ML"))
def test_saved_and_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = build(name)
    tokenizer, batch = tokenizer_of(model.config), batch_of(model.config)
    before = outputs_of(model, batch)
    formats = [layout for family, layout in TABLES if family == model.config.family] + ["keras"]
    if name == "BERT without segments":
        formats.remove("huggingface")  # transformers' BERT has at least one
    for format in formats:
        bert4k.save(model, tokenizer, tmp_path / format, format)
        loaded, _ = bert4k.load(tmp_path / format, outputs=model.config.outputs)
        assert loaded.config == model.config, format
        assert same(loaded.weight_values(), model.weight_values()), format
        assert same(outputs_of(loaded, batch), before), format
        if format != "keras":
            found = bert4k.inspect(tmp_path / format)
            assert found.report is not None, found.problem
            assert {ours for ours, _ in found.report.matched} == set(model.weight_names())
            assert not (found.report.missing or found.report.misshapen or found.report.unused or found.report.ignored)


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_what_transformers_wrote_is_read(name: str, tmp_path: Path) -> None:
    """With the tied copies and buffers that it stores."""
    ours, theirs = pair(name, tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "vocab.txt").write_bytes((tmp_path / "ours" / "vocab.txt").read_bytes())
    loaded, _ = bert4k.load(tmp_path / "theirs", outputs=ours.output_kinds)
    assert loaded.config.override(initializer_range=ours.config.initializer_range) == ours.config
    assert same(loaded.weight_values(), ours.weight_values())
    report = bert4k.inspect(tmp_path / "theirs").report
    assert report is not None and not report.unused


@pytest.mark.parametrize("name", ["ALBERT", "ALBERT unshared, of one width", "albert_zh", "ALBERT in two groups"])
def test_some_layers_of_a_model_that_shares_them(name: str, tmp_path: Path) -> None:
    model = build(name)
    bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "google")
    if name == "ALBERT in two groups":
        with pytest.raises(ConfigError, match="share the weights of 2"):
            bert4k.load(tmp_path / "saved", layers=[0, 1])
        return
    loaded, _ = bert4k.load(tmp_path / "saved", layers=[0, 2])
    x, batch = loaded(batch_of(model.config)), batch_of(model.config)
    _, position_ids, allowed = model.get_layer("tokens")(batch["token_ids"], batch["segment_ids"])
    expected = model.embed(batch["token_ids"], batch["segment_ids"], position_ids)
    for index in (0, 2):
        expected = model.block(index, expected, lambda attention, x: attention(x, allowed, position_ids))
    np.testing.assert_allclose(numpy(x), numpy(expected), atol=1e-5)


def test_a_layout_that_a_family_lacks_is_said_so(tmp_path: Path) -> None:
    for name, format, message in (
        ("ERNIE 1", "google", "ERNIE has no google layout: .* huggingface only"),
        ("albert_zh", "huggingface", "no huggingface layout"),
        ("BERT without segments", "huggingface", "type_vocab_size"),
    ):
        model = build(name)
        with pytest.raises((CheckpointError, ConfigError), match=message):
            bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", format)
        assert not (tmp_path / "saved").exists()


def test_kinds_that_transformers_lacks_are_not_written_for_it() -> None:
    with pytest.raises(ConfigError, match=r"transformers has no BERT with position='rotary'.*Save with format='google'"):
        Config(vocab_size=10, position="rotary").to_huggingface()
    assert Config.from_dict(Config(vocab_size=10, position="rotary").to_google()).position == "rotary"


# Whose it is. --------------------------------------------------------------------------------------------------------------------

# As the files were released, without what every BERT says.
_SIZES = {"vocab_size": 21128, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu"}
_MODERN = {
    "model_type": "modernbert",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "classifier_activation": "gelu",
    "classifier_pooling": "mean",
    "decoder_bias": True,
    "embedding_dropout": 0.0,
    "hidden_activation": "gelu",
    "local_attention": 64,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "norm_bias": False,
    "norm_eps": 1e-05,
    "pad_token_id": 3,
    "position_embedding_type": "absolute",
}
_MODERN_READ = {
    "family": "modernbert",
    "position": "rotary_halves",
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 80000.0,
    "local_rope_theta": 10000.0,
    "local_attention": 64,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 3,
    "type_vocab_size": 0,
}
RELEASED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ALBERT by Google": (
        {
            "embedding_size": 128,
            "num_hidden_groups": 1,
            "net_structure_type": 0,
            "gap_size": 0,
            "num_memory_blocks": 0,
            "inner_group_num": 1,
            "down_scale_factor": 1,
        },
        {"family": "albert", "embedding_size": 128, "groups": 1, "hidden_act": "gelu_tanh", "projected": "all"},
    ),
    "albert_zh": (
        {"embedding_size": 128, "ln_type": "postln", "pooler_type": "first_token_transform"},
        {"family": "albert_zh", "groups": 1, "projected": "tokens", "hidden_act": "gelu_tanh"},
    ),
    "ALBERT by Hugging Face": (
        {"model_type": "albert", "embedding_size": 128, "num_hidden_groups": 1, "inner_group_num": 1, "classifier_dropout_prob": 0.1},
        {"family": "albert", "hidden_act": "gelu"},
    ),
    "NEZHA by Huawei": (
        {"max_relative_position": 64, "use_relative_position": True},
        {"family": "nezha", "position": "relative", "max_relative_position": 64},
    ),
    "NEZHA by Hugging Face": ({"model_type": "nezha", "max_relative_position": 32}, {"family": "nezha", "max_relative_position": 32}),
    "ERNIE 1": ({"model_type": "ernie", "task_type_vocab_size": 3, "use_task_id": False}, {"family": "ernie", "task_type_vocab_size": 0}),
    "ERNIE 3": ({"model_type": "ernie", "task_type_vocab_size": 3, "use_task_id": True}, {"family": "ernie", "task_type_vocab_size": 3}),
    "ELECTRA": (
        {"model_type": "electra", "embedding_size": 128, "summary_type": "first", "architectures": ["ElectraForPreTraining"]},
        {"family": "electra", "embedding_size": 128, "projected": "all", "outputs": ("sequence", "discriminator")},
    ),
    "ELECTRA's generator": (
        {"model_type": "electra", "embedding_size": 128, "architectures": ["ElectraForMaskedLM"]},
        {"family": "electra_generator", "outputs": ("sequence", "mlm")},
    ),
    "RoFormer": (
        {"model_type": "roformer", "embedding_size": 768, "rotary_value": False, "max_position_embeddings": 1536},
        {"family": "roformer", "position": "rotary", "projected": None, "max_position_embeddings": 1536},
    ),
    "CDial-GPT, as its repository has it": (
        {
            "afn": "gelu",
            "attn_pdrop": 0.2,
            "embd_pdrop": 0.1,
            "resid_pdrop": 0.1,
            "layer_norm_epsilon": 1e-05,
            "n_ctx": 512,
            "n_embd": 384,
            "n_head": 6,
            "n_layer": 3,
            "n_positions": 513,
            "n_special": 0,
            "vocab_size": 13088,
        },
        {
            "family": "gpt",
            "hidden_act": "gelu_tanh",
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "max_position_embeddings": 513,
            "attention_probs_dropout_prob": 0.2,
            "type_vocab_size": 0,
            "embedding_norm": False,
            "block": "post_norm",
            "mask": "lm",
        },
    ),
    "GPT-2": (
        {
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "n_embd": 384,
            "n_head": 6,
            "n_layer": 3,
            "n_positions": 1024,
            "n_inner": None,
            "pad_token_id": None,
            "bos_token_id": 50256,
            "task_specific_params": {"text-generation": {"do_sample": True}},
            "tokenizer_class": "BertTokenizer",
            "scale_attn_weights": True,
        },
        {
            "family": "gpt2",
            "hidden_act": "gelu_tanh",
            "intermediate_size": 1536,
            "block": "pre_norm",
            "pad_token_id": 0,
            "layer_norm_eps": 1e-5,
        },
    ),
    "GPT2-ML": ({"max_position_embeddings": 1024, "initializer_range": 0.014142135623731}, {"family": "bert"}),  # its tensors tell
    "RoBERTa": (
        {"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        {"family": "xlm_roberta", "max_position_embeddings": 512, "position_offset": 2},
    ),
    "Erlangshen-DeBERTa-v2": (
        {
            "model_type": "deberta-v2",
            "conv_act": "gelu",
            "conv_kernel_size": 3,
            "layer_norm_eps": 1e-07,
            "max_relative_positions": -1,
            "norm_rel_ebd": "layer_norm",
            "pooler_dropout": 0,
            "pooler_hidden_act": "gelu",
            "pooler_hidden_size": 768,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "position_buckets": 256,
            "relative_attention": True,
            "share_att_key": True,
            "type_vocab_size": 0,
        },
        {"family": "deberta_v2", "position": "disentangled", "max_relative_position": 512, "position_buckets": 256, "conv_act": "gelu"},
    ),
    "DeBERTa-v2 by Microsoft": (
        {
            "model_type": "deberta-v2",
            "max_position_embeddings": 256,
            "norm_rel_ebd": "layer_norm",
            "pos_att_type": "p2c|c2p",
            "position_buckets": 64,
            "relative_attention": True,
            "share_att_key": True,
            "attention_head_size": 64,
        },
        {"conv_kernel_size": 0, "position_biased_input": True, "max_relative_position": 256, "layer_norm_eps": 1e-7, "type_vocab_size": 0},
    ),
    "ModernBERT": (_MODERN | {"global_attn_every_n_layers": 3, "global_rope_theta": 80000.0, "local_rope_theta": 10000.0}, _MODERN_READ),
    "ModernBERT, since transformers 5": (
        _MODERN
        | {
            "layer_types": ["full_attention", *["sliding_attention"] * 2] * 4,
            "num_hidden_layers": 12,
            "rope_parameters": {
                "full_attention": {"rope_theta": 80000.0, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
            },
        },
        _MODERN_READ,
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_configs(name: str) -> None:
    values, expected = RELEASED[name]
    sizes = {} if "n_embd" in values else _SIZES
    config = Config.from_dict({"vocab_size": 21128, **sizes, **values})
    assert {key: getattr(config, key) for key in expected} == expected
    assert Config.from_dict(config.to_dict()) == config
    assert Config.from_dict(config.to_google(), family=config.family) == config


_DEBERTA = {"model_type": "deberta-v2", "relative_attention": True, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
_DEBERTA |= {"pos_att_type": ["p2c", "c2p"]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "distilbert"}, "model_type 'distilbert', a family that .* does not build.*Known are bert, albert"),
        ({"model_type": "albert", "inner_group_num": 2}, "inner_group_num = 2; only 1 is implemented for ALBERT"),
        ({"embedding_size": 128, "ln_type": "preln"}, "ln_type = 'preln'; only 'postln'"),
        ({"model_type": "roformer", "rotary_value": True}, "rotary_value = True; only False is implemented for RoFormer"),
        ({"model_type": "nezha", "use_relative_position": False}, "use_relative_position = False"),
        ({"model_type": "deberta-v2"}, "relative_attention = False; only True is implemented for DeBERTa-v2"),
        ({**_DEBERTA, "pos_att_type": "c2p"}, "pos_att_type = ..c2p..; only"),
        (_DEBERTA, "position_buckets is -1; expected a whole number of at least 1"),
        ({"model_type": "modernbert", "layer_types": ["sliding_attention", "full_attention"]}, "layer_types is .* from the first on"),
        ({"model_type": "modernbert", "rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type 'yarn' for full_attention"),
        ({"model_type": "modernbert", "classifier_activation": "silu"}, "classifier_activation and hidden_activation differ"),
        ({"model_type": "modernbert", "norm_bias": True}, "norm_bias = True; only False"),
        ({"global_attn_every_n_layers": 3, "num_hidden_groups": 2}, "differ in what they see"),
        ({"global_rope_theta": 0.5}, "global_rope_theta is 0.5; expected a number above 1"),
        ({"conv_kernel_size": 4}, "conv_kernel_size is 4; expected an odd number"),
        ({"conv_act": "swiglu"}, "conv_act is 'swiglu'"),
        ({"mlm_head": "plain", "embedding_size": 128}, "plain MLM head multiplies 768 numbers with an embedding of 128"),
        ({"use_bias": 0}, "use_bias is 0; expected true or false"),
        ({"norm": "batch"}, "norm is 'batch'; known kinds are layer, unit"),
        ({"position": "relativ"}, "position is 'relativ'.*Did you mean 'relative'"),
        ({"num_hidden_groups": 13}, "num_hidden_groups is 13, and there are 12 layers"),
        ({"position": "rotary", "hidden_size": 36}, "3 numbers; rotary positions turn them in pairs"),
    ],
)
def test_configs_that_cannot_be_built(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_dict({**_SIZES, **values})


def as_released(name: str, folder: Path) -> Path:
    """The model in the TensorFlow layout, with the config of a plain BERT: only the names of the tensors tell whose it is."""
    model = build(name)
    bert4k.save(model, tokenizer_of(model.config), folder, "google")
    config = {key: value for key, value in model.config.to_google().items() if key in Config(vocab_size=1).to_google()}
    if model.config.embedding_width != model.config.hidden_size:
        config["embedding_size"] = model.config.embedding_width
    (folder / "bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["ALBERT", "albert_zh", "ELECTRA", "ELECTRA's generator", "RoFormer", "RoFormerV2", *DECODERS])
def test_names_tell_the_family_where_the_config_does_not(name: str, tmp_path: Path) -> None:
    loaded, _ = bert4k.load(as_released(name, tmp_path / "saved"))
    assert loaded.config.family == CASES[name].family
    assert loaded.config.position == CASES[name].config().position
    assert bert4k.inspect(tmp_path / "saved").summary.family.startswith(CASES[name].family)


def test_the_family_can_be_said(tmp_path: Path) -> None:
    """NEZHA's and RoFormer's names are the same; a discriminator and a generator share a checkpoint."""
    folder = as_released("NEZHA", tmp_path / "saved")
    assert bert4k.load(folder)[0].config.position == "rotary"
    assert bert4k.load(folder, model="nezha")[0].config.position == "relative"
    assert bert4k.inspect(folder, model="nezha").config.max_relative_position == 64  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"no family 'neza'.*Did you mean 'nezha'"):
        bert4k.load(folder, model="neza")


def test_two_electras_in_one_checkpoint(tmp_path: Path) -> None:
    discriminator, generator = build("ELECTRA"), build("ELECTRA's generator")
    for name in ("token", "segment", "position"):
        layer = f"embeddings/{name}"
        generator.parts[layer].embeddings.assign(discriminator.parts[layer].embeddings)
    for attribute in ("gamma", "beta"):
        getattr(generator.parts["embeddings/norm"], attribute).assign(getattr(discriminator.parts["embeddings/norm"], attribute))
    folder = bert4k.save(discriminator, tokenizer_of(discriminator.config), tmp_path / "both", "google")
    values = {model: table_of(model.config.family, "google").save(model.weight_values()) for model in (discriminator, generator)}
    write_bundle(folder / "bert_model.ckpt", values[discriminator] | values[generator])
    assert same(bert4k.load(folder, outputs=discriminator.config.outputs)[0].weight_values(), discriminator.weight_values())
    found, _ = bert4k.load(folder, outputs=generator.config.outputs, model="electra_generator")
    assert same(found.weight_values(), generator.weight_values())
    for model in ("electra", "electra_generator"):
        report = bert4k.inspect(folder, model=model).report
        assert report is not None and report.ignored and not report.unused


def test_relatives_that_were_converted_as_if_they_were_bert(tmp_path: Path) -> None:
    """ERNIE's tensors under "bert.", as the first conversions from PaddlePaddle have them."""
    model = build("ERNIE 3")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    tensors = {name.replace("ernie.", "bert."): array.copy() for name, array in open_checkpoint(folder).items()}
    write_safetensors(folder, tensors)
    assert same(bert4k.load(folder, outputs=model.config.outputs)[0].weight_values(), model.weight_values())


def test_decoders_are_language_models_when_nothing_else_is_said(tmp_path: Path) -> None:
    """Under "encoder" they would compute what nobody trained."""
    model = build("GPT-2")
    bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    for folder in (tmp_path / "saved", bert4k.save(model, tokenizer_of(model.config), tmp_path / "keras", "keras")):
        assert bert4k.load(folder)[0].mask == masks.lm
        assert bert4k.load(folder, "encoder")[0].mask == masks.encoder
    assert Transformer(Config(vocab_size=10)).mask == masks.encoder


def test_nezha_gen_as_released(tmp_path: Path) -> None:
    """BERT's names and a config that counts segments, but no rows for them: only the user knows that it is no BERT."""
    folder = as_released("NEZHA-Gen", tmp_path / "saved")
    config = json.loads((folder / "bert_config.json").read_text())
    (folder / "bert_config.json").write_text(json.dumps({**config, "type_vocab_size": 2}))
    with pytest.raises(CheckpointError, match="embeddings/segment"):
        bert4k.load(folder, outputs=("mlm",))
    loaded, _ = bert4k.load(folder, outputs=("mlm",), model="nezha_gen")
    assert loaded.mask == masks.lm
    assert loaded.config.type_vocab_size == 0


def test_gpt2_ml_reads_texts_without_added_tokens(tmp_path: Path) -> None:
    """As it was trained: no [CLS] and no [SEP] (imcaspar/gpt2-ml, dataset/prepare_data.py)."""
    model = build("GPT2-ML", num_hidden_layers=2)
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "google")
    assert "newslm/layer01/query_layer/kernel" in open_checkpoint(folder)
    loaded, tokenizer = bert4k.load(folder, outputs=("mlm",))
    ids = [VOCABULARY.index(char) for char in "东西南"]
    assert tokenizer(["东西南", "东"])["token_ids"].tolist() == [ids, [ids[0], 0, 0]]
    slow = reference.Bert(loaded, "causal & real")
    log_probs = slow.log_probs(ids, [0] * 3)
    assert bert4k.score(loaded, tokenizer, ["东西南"])[0] == pytest.approx(log_probs[0, ids[1]] + log_probs[1, ids[2]], abs=1e-4)
    [found] = bert4k.generate(loaded, tokenizer, ["东西南"], max_tokens=1)
    assert found.log_probs[0] == pytest.approx(np.delete(log_probs[-1], [0, 1, 2, 4]).max(), abs=1e-4)
    bert4k.save(loaded, tokenizer, tmp_path / "keras", "keras")
    assert not bert4k.load(tmp_path / "keras", outputs=("mlm",))[1].added_tokens


def test_gpt_names_as_others_wrote_them(tmp_path: Path) -> None:
    """Without the model's name before all others, and with the buffers of a causal mask."""
    model = build("GPT-2")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    tensors = {name.removeprefix("transformer."): array.copy() for name, array in open_checkpoint(folder).items()}
    tensors |= {f"h.{i}.attn.{name}": np.zeros((1, 1, 4, 4), "float32") for i in range(4) for name in ("bias", "masked_bias")}
    write_safetensors(folder, tensors | {"lm_head.weight": tensors["wte.weight"]})
    assert same(bert4k.load(folder, outputs=model.config.outputs)[0].weight_values(), model.weight_values())
    report = bert4k.inspect(folder).report
    assert report is not None and not report.unused
    write_safetensors(folder, tensors | {"lm_head.weight": tensors["wte.weight"] + 1})
    with pytest.raises(CheckpointError, match="not tied"):
        bert4k.load(folder)


@backends
def test_who_speaks_is_a_token_as_transformers_has_it(tmp_path: Path) -> None:
    """CDial-GPT tells by segment ids which token, [speaker1] or [speaker2], has said each token."""
    model = build("GPT")
    bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    ours, _ = bert4k.load(tmp_path / "saved", outputs=("mlm",), shared_segment_embeddings=True)
    theirs = transformers.OpenAIGPTLMHeadModel.from_pretrained(tmp_path / "saved").eval()
    batch = {"token_ids": np.int32([[2, 9, 12, 8, 3], [2, 7, 3, 11, 3]]), "segment_ids": np.int32([[5, 5, 5, 6, 6], [6, 6, 5, 5, 5]])}
    with torch.no_grad():
        expected = theirs(*(torch.tensor(batch["token_ids"]).long(),), token_type_ids=torch.tensor(batch["segment_ids"]).long()).logits
    np.testing.assert_allclose(numpy(ours(batch)), expected.numpy(), atol=1e-5)
    plain = bert4k.load(tmp_path / "saved", outputs=("mlm",))[0]
    nobody = {"token_ids": batch["token_ids"]}
    np.testing.assert_array_equal(numpy(ours(nobody)), numpy(plain(nobody)))
    with pytest.raises(DataError, match=r"segment_ids holds 999; the model's embedding has rows 0 to"):
        ours(batch | {"segment_ids": batch["segment_ids"] * 0 + 999})
    with pytest.raises(ConfigError, match="shared_segment_embeddings takes the rows of segments"):
        Config(vocab_size=9, shared_segment_embeddings=True)


def test_the_other_names_of_the_head_of_deberta(tmp_path: Path) -> None:
    """As transformers stores it where the config says that it is no legacy."""
    model = build("DeBERTa-v2")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    tensors = {}
    for name, array in open_checkpoint(folder).items():
        name = name.replace("cls.predictions.transform.", "lm_predictions.lm_head.").replace("cls.predictions.", "lm_predictions.lm_head.")
        tensors[name] = array.copy()
    assert "lm_predictions.lm_head.bias" in tensors and "lm_predictions.lm_head.dense.weight" in tensors
    write_safetensors(folder, tensors)
    assert same(bert4k.load(folder, outputs=model.config.outputs)[0].weight_values(), model.weight_values())


def test_layers_that_differ_keep_their_turns(tmp_path: Path) -> None:
    model = build("ModernBERT")
    bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    loaded, _ = bert4k.load(tmp_path / "saved", layers=[0, 1])
    batch = batch_of(model.config)
    segment_ids, position_ids, allowed = model.get_layer("tokens")(batch["token_ids"], batch["segment_ids"])
    expected = model.embed(batch["token_ids"], segment_ids, position_ids)
    for index in (0, 1):
        expected = model.block(index, expected, lambda attention, x: attention(x, allowed, position_ids))
    np.testing.assert_allclose(numpy(loaded(batch)), numpy(model.parts["final_norm"](expected)), atol=1e-5)
    for layers in ([0, 2], [3], [1, 2]):
        with pytest.raises(ConfigError, match=r"every 3th layer looks at all tokens.*such as \[0, 1, 2, 6, 7, 8\]"):
            bert4k.load(tmp_path / "saved", layers=layers)


def test_modern_families_are_recognised() -> None:
    for family, names in {
        "deberta_v2": ["encoder.rel_embeddings.weight", "encoder.layer.0.attention.self.query_proj.weight"],
        "deberta": ["deberta.encoder.rel_embeddings.weight", "deberta.encoder.layer.0.attention.self.in_proj.weight"],
        "modernbert": ["layers.0.attn.Wqkv.weight", "embeddings.tok_embeddings.weight"],
    }.items():
        assert recognise(names) == family


# Decoding. -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


def decoder(name: str, mask: str) -> Transformer:
    case = CASES[name]
    kinds = {**FAMILIES[case.family].values, "family": case.family, **case.kinds, "pad_token_id": 0}
    kinds = {name: value for name, value in kinds.items() if name not in TINY}
    return tiny_model(vocabulary=len(VOCABULARY), layers=2, mask=mask, kinds=kinds)


@pytest.mark.parametrize(("mask", "sampler"), on_backends([("seq2seq", "beam"), ("lm", "greedy")], ("seq2seq", "beam")))
@pytest.mark.parametrize("name", [*KINDS, *DECODERS])
def test_cached_equals_uncached(name: str, mask: str, sampler: str, tokenizer: Tokenizer) -> None:
    """Sources of several lengths in one batch, so that a slot of the cache is not a position."""
    model, sources = decoder(name, mask), ["一", "东西南北", "十九八七六五"]
    ours = bert4k.generate(model, tokenizer, sources, test_generation.SAMPLERS[sampler], max_tokens=test_generation.LIMIT)
    test_generation.same(ours, test_generation.expected(model, tokenizer, sources, test_generation.SAMPLERS[sampler]))


@pytest.mark.parametrize("name", ["NEZHA", "RoFormer", "DeBERTa-v2", "ModernBERT"])
def test_filling_and_scoring_in_an_order(name: str, tokenizer: Tokenizer) -> None:
    """Queries that stand among keys that are seen."""
    model, text = decoder(name, "permuted"), "东[MASK]南北[MASK]{2}一二三[MASK]"
    row = test_infilling.row_of(tokenizer, text)
    bert = reference.Bert(model)
    [found] = bert4k.infill(model, tokenizer, [text], order="right_to_left")
    test_infilling.same(found, test_infilling.one_by_one(test_infilling.unseen(bert, row), row, "right_to_left"))
    [found] = bert4k.infill(model.with_mask("encoder"), tokenizer, [text], order="confidence")
    test_infilling.same(found, test_infilling.one_by_one(test_infilling.in_place(bert, row), row, "confidence"))
    orders = [[2, 0, 3, 1], [0, 1, 2, 3]]
    expected = [test_orders.one_by_one(model, tokenizer, "东西南北", order) for order in orders]
    np.testing.assert_allclose(score_permuted(model, tokenizer, ["东西南北"] * 2, orders), expected, atol=3e-4)


@pytest.mark.parametrize("name", [*KINDS, *DECODERS])
def test_texts_that_share_rows(name: str, tokenizer: Tokenizer) -> None:
    """Vectors and scores of texts in common rows, where positions begin anew, against the model on each alone."""
    texts = ["上下左右", "东", "一二三"]
    model, lm = decoder(name, "encoder"), decoder(name, "lm")
    vectors, scores = bert4k.embed(model, tokenizer, texts), bert4k.score(lm, tokenizer, texts)
    for text, vector, score in zip(texts, vectors, scores, strict=True):
        batch = tokenizer([text])
        alone = numpy(model.with_outputs("sequence")(batch))[0]
        np.testing.assert_allclose(vector, alone.mean(axis=0), atol=1e-5)
        logits = numpy(lm.with_outputs("mlm")(batch))[0].astype("float64")
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        ids = np.asarray(batch["token_ids"])[0]
        assert score == pytest.approx(log_probs[np.arange(len(ids) - 1), ids[1:]].sum(), abs=1e-4)


@pytest.mark.parametrize("name", ["NEZHA", "RoFormer", "DeBERTa-v2", "ModernBERT"])
def test_attention_maps(name: str, tokenizer: Tokenizer) -> None:
    """The probabilities that the maps show lead to the model's own output."""
    model = build(name, ("sequence",))
    batch = tokenizer(["东西南北中", "一二"])
    found, number = attention_probabilities(model, batch), iter(range(4))
    segment_ids, position_ids, allowed = model.get_layer("tokens")(batch["token_ids"], batch["segment_ids"])

    def attend(attention: Attention, x: Any) -> Any:
        if isinstance(attention, Convolution):
            return attention(x, allowed, position_ids)
        memory = attention.keys_values(x, position_ids)
        places = Places(position_ids, position_ids)
        return attention.gather(x, ops.convert_to_tensor(found[:, next(number)]), memory, places)

    x = model.run(batch["token_ids"], segment_ids, position_ids, attend)
    np.testing.assert_allclose(numpy(x), numpy(model(batch)), atol=1e-4)


# Keras. --------------------------------------------------------------------------------------------------------------------------


@every_case
def test_keras_round_trip_and_half_precision(name: str, tmp_path: Path) -> None:
    model = build(name)
    batch = batch_of(model.config)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    assert same(again.weight_values(), model.weight_values())
    before = outputs_of(model, batch)
    assert same(outputs_of(again, batch), before)
    half = Transformer(model.config, masks.lm, model.config.outputs, values=model.weight_values(), dtype="mixed_bfloat16")
    assert all(np.isfinite(value).all() for value in outputs_of(half, batch).values())


def test_layers_are_rebuilt_from_their_configs() -> None:
    for name in ("BERT", "NEZHA", "RoFormer", "albert_zh", "DeBERTa-v2", "ModernBERT"):
        for part in build(name, num_hidden_layers=1).parts.values():
            again = type(part).from_config(part.get_config())
            assert again.get_config() == part.get_config()
            if isinstance(part, Attention) and name != "DeBERTa-v2":  # whose positions are a layer with weights
                assert again.positions == part.positions


def test_rotation_keeps_its_precision_far_from_the_start() -> None:
    """Angles of hundreds of turns, against float64."""
    x, places = np.random.default_rng(0).standard_normal((1, 1, 4, 64)).astype("float32"), [0, 511, 1024, 1535]
    found = numpy(Rotary(64, 1536).turned(ops.convert_to_tensor(x), np.array([places])))
    np.testing.assert_allclose(found[0, 0], reference.turned(x[0, 0].astype("float64"), places), atol=1e-6)


def test_attention_that_needs_positions_says_so() -> None:
    layer = build("NEZHA").parts["block_0/attention"]
    with pytest.raises(TypeError, match="positions"):
        layer(np.zeros((1, 2, 24), "float32"), np.ones((1, 1, 2, 2), bool))

"""The contract of every encoder-decoder: computes what transformers computes, is saved and loaded bit for bit in each of its layouts, and
writes with a cache, in batches and under beams what it writes without.

The references: transformers, which reads the folder that `save` wrote; and `decoding.pairs_reference`, in NumPy, for T5-PEGASUS, which
transformers has not, and for all decoding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from decoding import reference
from decoding.conftest import CHARACTERS, SPECIAL
from decoding.pairs_reference import Pairs
from decoding.test_generation import same as same_texts
from keras import ops
from marks import on_backends
from test_families import VOCABULARY, numpy, outputs_of, same, tokenizer_of
from test_parity import our_gradients

import bert4k
from bert4k.attention_maps import attention_probabilities
from bert4k.checkpoints import open_checkpoint
from bert4k.checkpoints.recognise import recognise
from bert4k.config import Config
from bert4k.encoder_decoder import EncoderDecoder
from bert4k.errors import CheckpointError, ConfigError, DataError
from bert4k.families import FAMILIES
from bert4k.model import Transformer, weights_of
from bert4k.positions import Bucketed
from bert4k.pretrained import TABLES, table_of
from bert4k.telling import Written, WrittenBatches, decoder_teller, judge, log_likelihood
from bert4k.tokenizers import Tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

backends = pytest.mark.backends
# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

CLS, END = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
TINY = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# A width of heads that the hidden size does not imply, and buckets that few tokens fill.
OF_T5 = {"attention_head_size": 10, "position_buckets": 8, "max_relative_position": 9}


@dataclass(frozen=True)
class Case:
    """A family and the kinds of its config that a file would tell."""

    family: str
    kinds: dict[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> Config:
        return Config(**{**FAMILIES[self.family].values, "family": self.family, **TINY, **self.kinds, **changes})


CASES = {
    "T5": Case("t5", OF_T5),
    "T5 with a deeper decoder": Case("t5", OF_T5 | {"num_decoder_layers": 3, "decoder_end": END}),
    "T5 1.1": Case("t5_v1_1", OF_T5),
    "mT5": Case("mt5", {"attention_head_size": 8}),
    "T5-PEGASUS": Case("t5_pegasus", OF_T5),
    "BART": Case("bart", {"decoder_start": (END, CLS), "decoder_end": END}),
    "BART with a deeper encoder": Case("bart", {"num_hidden_layers": 3, "decoder_start": (END, CLS), "decoder_end": END}),
}
every_case = pytest.mark.parametrize("name", CASES)
IN_TRANSFORMERS = [name for name, case in CASES.items() if FAMILIES[case.family].model_type]
KINDS = ["T5", "mT5", "T5-PEGASUS", "BART"]


def build(name: str, outputs: tuple[str, ...] | None = None, **changes: Any) -> EncoderDecoder:
    """A model in which no weight has its initial value: zeros and ones would hide a swap."""
    config = CASES[name].config(**changes)
    model = EncoderDecoder(config, outputs=outputs or config.outputs)
    random = np.random.default_rng(3)
    for _, layer, attribute in weights_of(model.parts):
        variable = getattr(layer, attribute)
        deviation = 0.2 if attribute in ("kernel", "embeddings") else 0.1
        variable.assign(random.normal(float(attribute == "gamma"), deviation, variable.shape).astype("float32"))
    return model


def batch_of(config: Config, length: int = 13, target: int = 9) -> dict[str, np.ndarray]:
    """Rows of different lengths; the start of a target may be padding."""
    random, pad = np.random.default_rng(1), config.pad_token_id
    token_ids, decoder_ids = (random.integers(len(SPECIAL), config.vocab_size, (3, size)).astype("int32") for size in (length, target))
    decoder_ids[:, 0] = config.decoder_start[0] if config.decoder_start else 0
    for row, (source, written) in enumerate(((13, 4), (5, 9), (9, 1))):
        token_ids[row, source:], decoder_ids[row, written:] = pad, pad
    return {"token_ids": token_ids, "decoder_ids": decoder_ids}


def real_of(batch: dict[str, np.ndarray], name: str, pad: int) -> np.ndarray:
    """bool [B, L]: what is no padding."""
    real: np.ndarray = batch[name] != pad
    if name == "decoder_ids":
        real[:, 0] = True
    return real


# As transformers computes it. ---------------------------------------------------------------------------------------------------


def pair(name: str, folder: Path, **changes: Any) -> tuple[EncoderDecoder, Any]:
    """Our model, and transformers', read from the folder that was saved."""
    model = build(name, **changes)
    bert4k.save(model, tokenizer_of(model.config), folder, "huggingface")
    kind = getattr(transformers, FAMILIES[model.config.family].architecture)
    theirs, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model, theirs.eval()


def run_theirs(model: Any, batch: dict[str, np.ndarray], pad: int) -> dict[str, Any]:
    """Their outputs by our names."""
    ids = {name: torch.tensor(batch[name], dtype=torch.long) for name in batch}
    out = model(
        input_ids=ids["token_ids"],
        attention_mask=torch.tensor(real_of(batch, "token_ids", pad)).long(),
        decoder_input_ids=ids["decoder_ids"],
        decoder_attention_mask=torch.tensor(real_of(batch, "decoder_ids", pad)).long(),
        output_hidden_states=True,
        return_dict=True,
    )
    return {"sequence": out.encoder_last_hidden_state, "decoder": out.decoder_hidden_states[-1], "logits": out.logits}


@backends
@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_outputs_and_gradients_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    ours, theirs = pair(name, tmp_path / "saved")
    pad, batch = ours.config.pad_token_id, batch_of(ours.config)
    expected, found = run_theirs(theirs, batch, pad), outputs_of(ours, batch)
    random, weights = np.random.default_rng(2), {}
    for output, value in expected.items():
        real = real_of(batch, "token_ids" if output == "sequence" else "decoder_ids", pad)
        limit = 1e-5 * max(1.0, float(value.detach().abs().max()))
        assert np.abs(found[output] - value.detach().numpy())[real].max() <= limit, output
        weights[output] = (random.standard_normal(value.shape) * real[..., None]).astype("float32")
    theirs.zero_grad()
    sum((expected[output] * torch.tensor(value)).sum() for output, value in weights.items()).backward()
    gradients = {key: one.grad.numpy() for key, one in theirs.named_parameters(remove_duplicate=False) if one.grad is not None}
    mine = table_of(ours.config.family, "huggingface").save(our_gradients(ours, batch, weights))
    assert len(mine) > 40
    for key, gradient in mine.items():
        size = np.linalg.norm(gradients[key])
        if key.endswith("k_proj.bias"):  # zero (see test_parity): rounding is held against the kernel's
            assert np.linalg.norm(gradient) <= 1e-4 * np.linalg.norm(gradients[key.replace("bias", "weight")]), key
        else:
            assert np.linalg.norm(gradient - gradients[key]) <= 1e-4 * max(size, 1e-3), key


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 9), (16, 50)])
def test_buckets_are_those_of_transformers(buckets: int, farthest: int, both: bool) -> None:
    """At every distance, and beyond the farthest."""
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = np.arange(-2 * farthest, 2 * farthest + 1)
    expected = T5Attention._relative_position_bucket(torch.tensor(distance), both, buckets, farthest).numpy()
    layer = Bucketed(1, buckets, farthest, both)
    found = layer.bucket[np.clip(distance, -farthest, farthest) + farthest]
    np.testing.assert_array_equal(found, expected)
    assert set(expected) <= set(range(buckets))


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_what_transformers_wrote_is_read(name: str, tmp_path: Path) -> None:
    """With the tied copies that it stores, and all that its config says."""
    ours, theirs = pair(name, tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "vocab.txt").write_bytes((tmp_path / "ours" / "vocab.txt").read_bytes())
    loaded, _ = bert4k.load(tmp_path / "theirs", outputs=ours.output_kinds)
    assert loaded.config == ours.config
    assert same(loaded.weight_values(), ours.weight_values())
    report = bert4k.inspect(tmp_path / "theirs").report
    assert report is not None and not report.unused


@pytest.mark.parametrize("name", ["T5", "mT5", "BART"])
@pytest.mark.parametrize("beams", [1, 3])
def test_texts_are_those_of_transformers(name: str, beams: int, tmp_path: Path) -> None:
    """Without a length penalty, and with the special tokens forbidden there as they are here; under a beam no worse."""
    ours, theirs = pair(name, tmp_path / "saved", decoder_start=(CLS,), decoder_end=END)
    boost(ours, name)
    theirs = type(theirs).from_pretrained(bert4k.save(ours, tokenizer_of(ours.config), tmp_path / "again", "huggingface")).eval()
    tokenizer, sources = tokenizer_of(ours.config), ["一", "东西南北", "十九八七六五"]
    # They let a beam's texts compete for as long as one may become better only when early_stopping is "never".
    how = {"num_beams": beams, "length_penalty": 0.0} | ({"early_stopping": "never"} if beams > 1 else {})
    found = bert4k.generate(ours, tokenizer, sources, bert4k.beam(beams, length_penalty=0.0) if beams > 1 else None, max_tokens=6)
    for source, one in zip(sources, found, strict=True):
        ids = torch.tensor([tokenizer.encode(source).ids.tolist()])
        special = [token for token in range(len(SPECIAL)) if token != END]
        fixed = {"decoder_start_token_id": CLS, "eos_token_id": END, "pad_token_id": 0, "suppress_tokens": special, "do_sample": False}
        config = transformers.GenerationConfig(max_new_tokens=6, **fixed, **how)
        written = theirs.generate(ids, generation_config=config)[0, 1:].tolist()
        yours, mine = [token for token in written if token != 0], [*one.token_ids, *([END] if one.ended else [])]
        # Their beams drop a text that ends below the first ranks, so that ours may find a better one; never a worse.
        if beams == 1 or mine == yours:
            assert mine == yours
        else:
            log_probs = Pairs(ours).log_probs(ids[0].tolist(), [CLS, *yours[:-1]])
            assert one.score > log_probs[np.arange(len(yours)), yours].sum()


# As NumPy computes it. -----------------------------------------------------------------------------------------------------------


@backends
@every_case
def test_outputs_are_those_of_numpy(name: str) -> None:
    """Row by row without padding, T5-PEGASUS' buckets between decoder and encoder included."""
    model = build(name)
    batch, slow, pad = batch_of(model.config), Pairs(model), model.config.pad_token_id
    found, counts = outputs_of(model, batch), {key: real_of(batch, key, pad).sum(axis=1) for key in batch}
    for row in range(3):
        source, target = (batch[key][row, : counts[key][row]] for key in ("token_ids", "decoder_ids"))
        for output, value in slow.outputs(source, target).items():
            np.testing.assert_allclose(found[output][row, : len(value)], value, atol=2e-5 * max(1.0, np.abs(value).max()), err_msg=output)


def test_what_sets_t5_pegasus_apart_is_seen() -> None:
    """Each of the three things that transformers' mT5 has not."""
    model = build("T5-PEGASUS")
    batch, before = batch_of(model.config), outputs_of(model, batch_of(model.config))["logits"]
    for change in ({"hidden_act": "gelu_tanh"}, {"logits_scaled": False}, {"cross_position": "absolute"}):
        other = EncoderDecoder(model.config.override(**change), outputs=("logits",), values=model.weight_values())
        assert np.abs(outputs_of(other, batch)["logits"] - before)[1].max() > 5e-5, change


# Saved and loaded. ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", on_backends(CASES, "T5", "BART"))
def test_saved_and_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = build(name)
    tokenizer, batch = tokenizer_of(model.config), batch_of(model.config)
    before = outputs_of(model, batch)
    formats = [layout for family, layout in TABLES if family == model.config.family] + ["keras"]
    if name == "T5-PEGASUS":  # which transformers' mT5 is not, though it reads such a folder
        formats.remove("huggingface")
        with pytest.raises(ConfigError, match=r"transformers has no T5-PEGASUS.*format='google'"):
            bert4k.save(model, tokenizer, tmp_path / "huggingface", "huggingface")
    for format in formats:
        bert4k.save(model, tokenizer, tmp_path / format, format)
        loaded, _ = bert4k.load(tmp_path / format, outputs=model.config.outputs)
        assert loaded.config == model.config, format
        assert same(loaded.weight_values(), model.weight_values()), format
        assert same(outputs_of(loaded, batch), before), format
        assert bert4k.load(tmp_path / format)[0].output_kinds == ("logits",)
        if format != "keras":
            found = bert4k.inspect(tmp_path / format)
            assert found.report is not None, found.problem
            assert {ours for ours, _ in found.report.matched} == set(model.weight_names())
            assert not (found.report.missing or found.report.misshapen or found.report.unused or found.report.ignored)


@pytest.mark.parametrize("name", ["T5", "T5 1.1", "T5-PEGASUS"])
def test_names_tell_the_family_where_the_config_does_not(name: str, tmp_path: Path) -> None:
    """With the config that bert4keras asks its users to write."""
    model = build(name, num_decoder_layers=2, decoder_start=FAMILIES[CASES[name].family].values["decoder_start"])
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "google")
    keys = "vocab_size hidden_size num_hidden_layers num_attention_heads attention_head_size intermediate_size hidden_act".split()
    config = {key: value for key, value in model.config.to_google().items() if key in keys}
    assert config["hidden_act"] == ("relu" if name == "T5" else ["gelu", "linear"])
    (folder / "bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded, _ = bert4k.load(folder, position_buckets=8, max_relative_position=9)
    assert loaded.config.family == CASES[name].family
    assert same(outputs_of(loaded, batch_of(model.config)), {"logits": outputs_of(model, batch_of(model.config))["logits"]})
    if name == "T5-PEGASUS":  # the names are mT5's, too
        assert bert4k.load(folder, model="mt5", position_buckets=8, max_relative_position=9)[0].config.cross_position == "absolute"


def test_t5_pegasus_in_the_layout_of_transformers(tmp_path: Path) -> None:
    """As it was converted: under mT5's name, with mT5's ids. It can be read as what it is."""
    model = build("mT5")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    loaded, _ = bert4k.load(folder, model="t5_pegasus")
    kinds = {"hidden_act": "gelu", "logits_scaled": True, "cross_position": "bucketed", "decoder_start": (), "decoder_end": None}
    assert {key: getattr(loaded.config, key) for key in kinds} == kinds
    values = model.weight_values()
    assert same(loaded.weight_values(), {name: values[name] for name in loaded.weight_names()})


def test_the_encoder_alone(tmp_path: Path) -> None:
    """Has no part of the decoder, takes no decoder_ids, and is what embed() and attention maps ask."""
    model, tokenizer = build("T5"), tokenizer_of(CASES["T5"].config())
    folder = bert4k.save(model, tokenizer, tmp_path / "saved", "huggingface")
    alone, _ = bert4k.load(folder, outputs=("sequence",))
    assert not any(name.startswith(("decoder", "logits")) for name in alone.parts)
    batch = batch_of(model.config)
    found = numpy(alone({"token_ids": batch["token_ids"]}))
    np.testing.assert_array_equal(found, outputs_of(model, batch)["sequence"])
    np.testing.assert_array_equal(numpy(model.with_outputs("sequence")({"token_ids": batch["token_ids"]})), found)
    text = "东西南北"
    vectors = bert4k.embed(alone, tokenizer, [text, "一"])
    np.testing.assert_allclose(vectors[0], numpy(alone(tokenizer([text])))[0].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(bert4k.embed(model, tokenizer, [text, "一"]), vectors, atol=1e-6)
    maps = attention_probabilities(alone, tokenizer([text]))
    np.testing.assert_allclose(maps.sum(axis=-1), 1.0, atol=1e-5)
    with pytest.raises(ConfigError, match="no weights for 'logits'"):
        alone.with_outputs("logits")


@pytest.mark.parametrize("name", ["mT5", "BART"])
def test_some_of_the_vocabulary_and_some_layers(name: str, tmp_path: Path) -> None:
    model = build(name)
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "huggingface")
    keep = [0, 1, 2, 3, 4, 9, 7, 12]
    start = () if name == "mT5" else (END, CLS)
    pruned, tokenizer = bert4k.load(folder, keep_tokens=keep)
    assert len(tokenizer) == pruned.config.vocab_size == 8 and pruned.config.decoder_start == (start or (0,))
    batch = {"token_ids": np.array([[5, 7, 6, 5]]), "decoder_ids": np.array([[0, 6, 7]])}
    whole = {key: np.asarray(keep)[ids] for key, ids in batch.items()}
    np.testing.assert_allclose(outputs_of(pruned, batch)["logits"], outputs_of(model, whole)["logits"][..., keep], atol=1e-5)
    one, _ = bert4k.load(folder, layers=[1])
    assert (one.config.num_hidden_layers, one.config.num_decoder_layers) == (1, 1)
    part, other = "decoder/block_{}/cross_attention/query/kernel", model.weight_values()
    np.testing.assert_array_equal(one.weight_values()[part.format(0)], other[part.format(1)])


def test_layers_of_uneven_stacks(tmp_path: Path) -> None:
    model = build("T5 with a deeper decoder")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved", "google")
    with pytest.raises(ConfigError, match="encoder has 2 layers and the decoder 3"):
        bert4k.load(folder, layers=[0])


# Decoding. -----------------------------------------------------------------------------------------------------------------------

SAMPLERS = {
    "greedy": bert4k.greedy(),
    "sample": bert4k.sample(temperature=1.5, top_k=9, seed=5),
    "beam": bert4k.beam(3, length_penalty=0.6, n_best=2),
}
SOURCES = ["一", "东西南北", "上下左右中", "", "一", "十九八七六五"]
LIMIT = 6
MACHINES: dict[str, EncoderDecoder] = {}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer([*SPECIAL, *CHARACTERS])


def boost(model: EncoderDecoder, name: str) -> None:
    """Uneven distributions, and an end that is likely enough to come."""
    random = np.random.default_rng(7)
    for path, layer, attribute in weights_of(model.parts):
        if attribute in ("kernel", "embeddings"):
            variable = getattr(layer, attribute)
            scale = {"T5": 0.5, "BART": 0.4}.get(name, 1.5) if path == "embeddings/token/embeddings" else 0.6 if name == "T5" else 0.4
            variable.assign(random.normal(0.0, scale, variable.shape).astype("float32"))


def writer(name: str) -> EncoderDecoder:
    """The model of the case, once, with ids of the tokenizer's."""
    if name not in MACHINES:
        ids = {} if name in ("BART", "T5-PEGASUS") else {"decoder_start": (0,), "decoder_end": END}
        model = build(name, **ids)
        boost(model, name)
        MACHINES[name] = model
    return MACHINES[name]


def expected(model: EncoderDecoder, tokenizer: Tokenizer, sampler: Any, sources: list[str] = SOURCES) -> list[list[reference.Found]]:
    from bert4k.decoding import generation

    slow, found = Pairs(model), []
    rows = [tokenizer.encode(source).ids.tolist() for source in sources]
    uniform = generation.random_numbers(rows, sampler, LIMIT)
    forbidden = [token for token in range(len(SPECIAL)) if token != END]
    for place, row in enumerate(rows):
        after = reference.constrained(slow.after(row, model.config.decoder_start or (CLS,)), END, forbidden)
        match sampler:
            case bert4k.decoding.samplers.Beam():
                found.append(reference.beam(after, END, LIMIT, sampler.beams, sampler.length_penalty, sampler.n_best))
            case bert4k.decoding.samplers.Sample():
                found.append([reference.sample(after, END, LIMIT, uniform[place, 0], sampler.temperature, sampler.top_k)])
            case _:
                found.append([reference.greedy(after, END, LIMIT)])
    return found


@backends
@pytest.mark.parametrize("sampler", ["greedy", "beam"])
@pytest.mark.parametrize("name", KINDS)
def test_cached_equals_uncached(name: str, sampler: str, tokenizer: Tokenizer) -> None:
    """Sources of several lengths in one batch, under one cache of what they are to the decoder."""
    found = bert4k.generate(writer(name), tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=LIMIT)
    same_texts(found, expected(writer(name), tokenizer, SAMPLERS[sampler]))
    assert len({one.token_ids for one in found}) > 1, "the texts are too much alike to show anything"


def test_samples_and_each_source_alone(tokenizer: Tokenizer) -> None:
    model = writer("mT5")
    found = bert4k.generate(model, tokenizer, SOURCES, SAMPLERS["sample"], max_tokens=LIMIT)
    same_texts(found, expected(model, tokenizer, SAMPLERS["sample"]))
    for name in ("T5-PEGASUS", "BART"):
        together = bert4k.generate(writer(name), tokenizer, SOURCES, SAMPLERS["beam"], max_tokens=LIMIT)
        for place in (1, 3, 5):
            [alone] = bert4k.generate(writer(name), tokenizer, [SOURCES[place]], SAMPLERS["beam"], max_tokens=LIMIT)
            assert alone.token_ids == together[place].token_ids
            np.testing.assert_allclose(alone.log_probs, together[place].log_probs, atol=1e-4)


@pytest.mark.parametrize("name", ["T5-PEGASUS", "BART"])
def test_streams_constraints_and_lookup_are_the_same_code(name: str, tokenizer: Tokenizer) -> None:
    model, source = writer(name), "东西南北"
    [whole] = bert4k.generate(model, tokenizer, [source], max_tokens=LIMIT)
    assert "".join(bert4k.stream(model, tokenizer, source, max_tokens=LIMIT)) == whole.text
    [quick] = bert4k.generate(model, tokenizer, [source], max_tokens=LIMIT, prompt_lookup=3)
    assert quick.token_ids == whole.token_ids
    names = ["上下", "左右", "中"]
    [chosen] = bert4k.generate(model, tokenizer, [source], max_tokens=LIMIT, constraints=bert4k.constraints.one_of(names))
    scores = bert4k.score(model, tokenizer, [(source, one) for one in names])
    assert chosen.ended and chosen.text in names
    [every] = bert4k.generate(
        model, tokenizer, [source], bert4k.beam(3, 0.0), max_tokens=LIMIT, constraints=bert4k.constraints.one_of(names)
    )
    assert every.text == names[int(np.argmax(scores))]
    [long] = bert4k.generate(model, tokenizer, [source], max_tokens=LIMIT, min_tokens=LIMIT)
    assert len(long.token_ids) == LIMIT


@backends
@pytest.mark.parametrize("name", KINDS)
def test_scores_are_sums_over_the_target(name: str, tokenizer: Tokenizer) -> None:
    model, pairs = writer(name), [("东西南北", "一二三"), ("一", ""), ("", "中"), ("十九八七六五", "上下左右中一")]
    slow, start = Pairs(model), model.config.decoder_start or (CLS,)
    found = bert4k.score(model, tokenizer, pairs)
    for (source, target), value in zip(pairs, found, strict=True):
        ids = [*map(tokenizer.token_to_id, tokenizer.tokenize(target)), END]
        log_probs = slow.log_probs(tokenizer.encode(source).ids, [*start, *ids[:-1]])[len(start) - 1 :]
        assert value == pytest.approx(log_probs[np.arange(len(ids)), ids].sum(), abs=5e-4)
    np.testing.assert_allclose(bert4k.score(model, tokenizer, pairs, batch_size=1), found, atol=1e-4)


@backends
@pytest.mark.parametrize("name", KINDS)
def test_batches_tell_targets_and_their_ends(name: str) -> None:
    """As a recipe trains: sources and targets of unlike lengths, padded; the third target was cut and does not end."""
    model, random = writer(name), np.random.default_rng(5)
    slow, start = Pairs(model), model.config.decoder_start or (CLS,)
    sizes = [(3, 1), (9, 2), (1, 7), (5, 5), (12, 3), (2, 2)]
    rows = [[random.integers(len(SPECIAL), len(VOCABULARY), size).astype(np.int32) for size in pair] for pair in sizes]
    examples = [Written(source, np.append(target, END).astype(np.int32)) for source, target in rows]
    examples[2] = Written(*rows[2])
    batches = WrittenBatches(examples, start, model.config.pad_token_id, tokens=32, shuffle=False)
    assert len({inputs["decoder_ids"].shape for inputs, *_ in map(batches.__getitem__, range(len(batches)))}) > 1
    total, count = log_likelihood(judge(decoder_teller(model, len(start))), batches)
    assert count == sum(len(each.labels) for each in examples)
    expected = 0.0
    for source, labels in examples:
        log_probs = slow.log_probs(source.tolist(), [*start, *labels[:-1].tolist()])[len(start) - 1 :]
        expected += log_probs[np.arange(len(labels)), labels].sum()
    assert total == pytest.approx(expected, abs=2e-3)


# Keras. --------------------------------------------------------------------------------------------------------------------------


@every_case
def test_keras_round_trip_and_half_precision(name: str, tmp_path: Path) -> None:
    model = build(name)
    batch = batch_of(model.config)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, EncoderDecoder) and again.config == model.config
    assert same(again.weight_values(), model.weight_values())
    before = outputs_of(model, batch)
    assert same(outputs_of(again, batch), before)
    half = EncoderDecoder(model.config, outputs=model.config.outputs, values=model.weight_values(), dtype="mixed_bfloat16")
    assert all(np.isfinite(value).all() for value in outputs_of(half, batch).values())
    for part in build(name, num_hidden_layers=1, num_decoder_layers=1).parts.values():
        if not isinstance(part, keras.layers.Identity):  # of which Keras wants a get_config, though it has no settings
            assert type(part).from_config(part.get_config()).get_config() == part.get_config()


@backends
def test_training_reaches_every_weight() -> None:
    """And an epoch of fit lowers the loss of what comes next."""
    for name in ("T5", "T5-PEGASUS", "BART"):
        model = build(name, ("decoder", "logits"))
        batch = batch_of(model.config)
        gradients = our_gradients(
            model, batch, {"logits": np.random.default_rng(0).standard_normal((3, 9, len(VOCABULARY))).astype("float32")}
        )
        # A vector that is added to all keys of a query changes nothing.
        assert all(np.abs(gradient).max() > 0 for weight, gradient in gradients.items() if not weight.endswith("key/bias"))
        assert set(model.weight_names()) - set(gradients) == ({"logits/bias"} if name == "BART" else set())
    model = model.with_outputs("logits")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    target = np.roll(batch["decoder_ids"], -1, axis=1)
    history = model.fit(batch, target, batch_size=3, epochs=4, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


def test_low_rank_changes_alone_are_trained() -> None:
    model = build("T5", ("logits",))
    batch, before = batch_of(model.config), outputs_of(build("T5", ("logits",)), batch_of(build("T5").config))
    model.enable_lora(2)
    paths = {variable.path for variable in model.trainable_variables}
    assert paths and all("lora" in path for path in paths)
    assert len(paths) == 2 * 2 * (2 + 2 * 2)  # two matrices of query and value in each attention layer
    assert same(outputs_of(model, batch), before)


# What cannot be. -----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_built() -> None:
    config = CASES["T5"].config()
    for mask in ("seq2seq", "lm", "permuted"):
        with pytest.raises(ConfigError, match=r"cannot be that of an encoder-decoder.*Leave the mask out"):
            EncoderDecoder(config, mask)
    assert str(EncoderDecoder(config, "real & window(3)").mask) == "real & window(3)"
    with pytest.raises(ConfigError, match=r"no output 'mlm'.*sequence, decoder, logits"):
        EncoderDecoder(config, outputs=("mlm",))
    with pytest.raises(ConfigError, match=r"t5 with num_decoder_layers=2 is an encoder-decoder.*bert4k.load"):
        Transformer(config)
    with pytest.raises(ConfigError, match="num_decoder_layers is 0"):
        EncoderDecoder(Config(vocab_size=9))
    with pytest.raises(ConfigError, match="no output 'logits'"):
        Transformer(Config(vocab_size=9), outputs=("logits",))


def test_inputs_that_cannot_be(tokenizer: Tokenizer) -> None:
    model, batch = writer("BART"), batch_of(writer("BART").config)
    with pytest.raises(DataError, match="'decoder_ids' is missing"):
        model({"token_ids": batch["token_ids"]})
    with pytest.raises(DataError, match="decoder_ids holds 99"):
        model(batch | {"decoder_ids": np.array([[99]])})
    with pytest.raises(DataError, match="21 tokens a row; the model has 20 positions"):
        model(batch | {"decoder_ids": np.ones((3, 21), "int32")})
    with pytest.raises(DataError, match=r"no input 'decoder_ids'.*Only an encoder-decoder"):
        Transformer(Config(24, 12, 1, 2, 16))(batch)
    with pytest.raises(DataError, match="Text 0 has no target"):
        bert4k.score(model, tokenizer, ["一"])
    with pytest.raises(DataError, match="max_tokens=19 makes texts of 21 tokens, and the decoder has 20"):
        bert4k.generate(model, tokenizer, ["一"], max_tokens=19)
    with pytest.raises(DataError, match="Source 0 has 25 tokens; the model has 20 positions"):
        bert4k.generate(model, tokenizer, ["一" * 23], max_tokens=2)
    for wrong in (lambda: bert4k.fill(model, tokenizer, "[MASK]"), lambda: bert4k.infill(model, tokenizer, ["一[MASK]"])):
        with pytest.raises(ConfigError, match=r"bert4k\.generate"):
            wrong()
    with pytest.raises(ConfigError, match="decoder also needs targets"):
        bert4k.predict(model, tokenizer, ["一"])
    with pytest.raises(ConfigError, match="cloze=True is for BERT"):
        bert4k.generate(model, tokenizer, ["一"], max_tokens=4, cloze=True)
    with pytest.raises(ConfigError, match=r"outputs=\('logits',\)"):
        bert4k.generate(model.with_outputs("sequence"), tokenizer, ["一"])


def test_real_tokens_can_be_said() -> None:
    """What decoder_real leaves out is not seen, and the tokens after it stand one place earlier."""
    model = build("T5")
    batch = {"token_ids": np.array([[7, 8, 9]]), "decoder_ids": np.array([[0, 9, 11, 12]])}
    found = outputs_of(model, batch | {"decoder_real": np.array([[True, False, True, True]])})["logits"]
    without = outputs_of(model, batch | {"decoder_ids": np.array([[0, 11, 12]])})["logits"]
    np.testing.assert_allclose(found[:, [0, 2, 3]], without, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        # As the files were released, without what all of them say.
        (
            {"model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "n_positions": 512}
            | {"dropout_rate": 0.1, "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": 32, "eos_token_id": 1}
            | {"decoder_start_token_id": 0, "is_encoder_decoder": True, "initializer_factor": 1.0, "task_specific_params": {}},
            {"family": "t5", "hidden_act": "relu", "feed_forward": "plain", "logits": "tied", "logits_scaled": True, "head_size": 64}
            | {"num_decoder_layers": 6, "decoder_start": (0,), "decoder_end": 1, "attention_scale": False},
        ),
        (
            {"model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6}
            | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "dropout_rate": 0.0},
            {"family": "t5_v1_1", "hidden_act": "gelu_tanh", "feed_forward": "gated", "logits": "untied", "logits_scaled": False}
            | {"head_size": 64, "num_attention_heads": 6, "attention_probs_dropout_prob": 0.0},
        ),
        (
            {"model_type": "mt5", "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12, "eos_token_id": 1}
            | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0},
            {"family": "mt5", "feed_forward": "gated", "num_decoder_layers": 12, "attention_head_size": None},
        ),
        (
            {"model_type": "bart", "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "num_hidden_layers": 6, "pad_token_id": 0}
            | {"encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "encoder_attention_heads": 12, "decoder_attention_heads": 12}
            | {"activation_function": "gelu", "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "init_std": 0.02}
            | {"bos_token_id": 101, "eos_token_id": 102, "decoder_start_token_id": 102, "forced_eos_token_id": 102}
            | {"max_position_embeddings": 1024, "scale_embedding": False, "normalize_before": False, "normalize_embedding": True}
            | {"add_bias_logits": False, "add_final_layer_norm": False, "classif_dropout": 0.1, "encoder_layerdrop": 0.0},
            {"family": "bart", "decoder_start": (102, 101), "decoder_end": 102, "position_offset": 2, "logits": "tied_bias"},
        ),
    ],
)
def test_released_configs(values: dict[str, Any], wanted: dict[str, Any]) -> None:
    config = Config.from_dict({"vocab_size": 21128, "is_encoder_decoder": True, **values})
    assert {key: getattr(config, key) for key in wanted} == wanted
    assert Config.from_dict(config.to_dict()) == config
    assert Config.from_dict(json.loads(json.dumps(config.to_google())), family=config.family) == config
    assert Config.from_dict(json.loads(json.dumps(config.to_huggingface()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_type": "bart", "d_model": 24, "encoder_ffn_dim": 40, "decoder_ffn_dim": 48},
            "decoder_ffn_dim is 48, and the encoder has 40",
        ),
        ({"model_type": "bart", "scale_embedding": True}, "scale_embedding = True; only False is implemented for BART"),
        ({"model_type": "t5", "is_encoder_decoder": False}, "is_encoder_decoder = False; only True"),
        ({"model_type": "mt5", "decoder_start_token_id": 99}, r"decoder_start is \(99,\); expected ids of tokens, below vocab_size 24"),
        ({"model_type": "t5", "logits": "both"}, "logits is 'both'; known kinds are tied"),
    ],
)
def test_configs_that_cannot_be_built(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_dict({"vocab_size": 24, **values})


def test_layouts_that_transformers_lacks() -> None:
    with pytest.raises(ConfigError, match=r"gated feed-forward with hidden_act='gelu'"):
        CASES["mT5"].config(hidden_act="gelu").to_huggingface()
    with pytest.raises(ConfigError, match=r"transformers has no mT5 with .*cross_position='bucketed'"):
        CASES["mT5"].config(cross_position="bucketed").to_huggingface()
    with pytest.raises(CheckpointError, match="BART has no google layout"):
        table_of("bart", "google")


def test_recognised_by_their_names(tmp_path: Path) -> None:
    found = {}
    for name in ("T5", "mT5", "BART"):
        folder = bert4k.save(build(name), tokenizer_of(CASES[name].config()), tmp_path / name, "huggingface")
        found[name] = recognise(open_checkpoint(folder))
    assert found == {"T5": "t5", "mT5": "t5_v1_1 or mt5 or t5_pegasus", "BART": "bart"}
    slots = ["shared/embedding", "shared/embedding_slot_vr", "encoder/block_000/layer_000/rms_norm/scale_slot_v", "global_step"]
    assert [table_of("mt5", "google").fate(slot) for slot in slots] == ["model", "optimizer", "optimizer", "optimizer"]


def test_inputs_of_a_larger_model() -> None:
    """Built into another functional model, without the optional inputs."""
    model = build("T5", ("logits",))
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "decoder_ids")}
    larger = keras.Model(inputs, ops.softmax(model(inputs)))
    batch = batch_of(model.config)
    np.testing.assert_allclose(numpy(larger(batch)), numpy(ops.softmax(model(batch))), atol=1e-6)

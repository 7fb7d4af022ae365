"""Tables read forwards and backwards; Hugging Face's own model is the reference for its names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bert4k.checkpoints import Stored, open_checkpoint, write_bundle, write_safetensors
from bert4k.checkpoints.tables import Binding, Row, Table, fused, same, split, transposed
from bert4k.errors import CheckpointError
from bert4k.pretrained import BERT

VOCABULARY, HIDDEN, INNER, POSITIONS, LAYERS = 31, 8, 12, 10, 3
SIZES = {"kernel": (HIDDEN, HIDDEN), "bias": (HIDDEN,), "gamma": (HIDDEN,), "beta": (HIDDEN,)}


def bert_shapes() -> dict[str, tuple[int, ...]]:
    """Our names and shapes, written out without the tables that are tested."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings/token/embeddings": (VOCABULARY, HIDDEN),
        "embeddings/position/embeddings": (POSITIONS, HIDDEN),
        "embeddings/segment/embeddings": (2, HIDDEN),
        "mlm/bias": (VOCABULARY,),
        "nsp/dense/kernel": (HIDDEN, 2),
        "nsp/dense/bias": (2,),
    }
    norms, denses = ["embeddings/norm", "mlm/norm"], ["pooled/dense", "mlm/dense"]
    for layer in range(LAYERS):
        norms += [f"block_{layer}/attention_norm", f"block_{layer}/feed_forward_norm"]
        denses += [f"block_{layer}/attention/{part}" for part in ("query", "key", "value", "output")]
        shapes |= {f"block_{layer}/feed_forward/inner/kernel": (HIDDEN, INNER), f"block_{layer}/feed_forward/inner/bias": (INNER,)}
        shapes |= {f"block_{layer}/feed_forward/outer/kernel": (INNER, HIDDEN), f"block_{layer}/feed_forward/outer/bias": (HIDDEN,)}
    shapes |= {f"{norm}/{part}": SIZES[part] for norm in norms for part in ("gamma", "beta")}
    return shapes | {f"{dense}/{part}": SIZES[part] for dense in denses for part in ("kernel", "bias")}


SHAPES = bert_shapes()


@pytest.fixture
def ours() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


WRITERS: dict[str, Callable] = {
    "google": lambda path, arrays: write_bundle(path / "bert_model.ckpt", arrays),
    "huggingface": write_safetensors,
}


def stored_as(layout: str, folder: Path, arrays: dict[str, np.ndarray]) -> Stored:
    """The stored arrays, written and opened again."""
    WRITERS[layout](folder, arrays)
    return open_checkpoint(folder)


def identical(one: Binding, other: dict[str, np.ndarray]) -> bool:
    return set(one) == set(other) and all(
        one[name].tobytes() == other[name].tobytes() and one[name].shape == other[name].shape for name in one
    )


@pytest.mark.parametrize("layout", BERT)
def test_saved_and_loaded_again(tmp_path: Path, layout: str, ours: dict[str, np.ndarray]) -> None:
    stored = stored_as(layout, tmp_path, BERT[layout].save(ours))
    assert len(stored) == len(ours)
    binding = BERT[layout].bind(stored, SHAPES, LAYERS)
    binding.report.raise_if_wrong()
    assert len(binding.report.matched) == len(SHAPES)
    assert not binding.report.unused + binding.report.ignored + binding.report.optimizer
    assert identical(binding, ours)
    assert all(array.flags.c_contiguous for array in binding.values())


@pytest.mark.parametrize(("start", "between"), [("google", "huggingface"), ("huggingface", "google")])
def test_there_and_back_is_bit_identical(tmp_path: Path, start: str, between: str, ours: dict[str, np.ndarray]) -> None:
    first = stored_as(start, tmp_path / "1", BERT[start].save(ours))
    second = stored_as(between, tmp_path / "2", BERT[between].save(BERT[start].bind(first, SHAPES, LAYERS)))
    third = stored_as(start, tmp_path / "3", BERT[start].save(BERT[between].bind(second, SHAPES, LAYERS)))
    for path in (tmp_path / "1").iterdir():
        assert (tmp_path / "3" / path.name).read_bytes() == path.read_bytes(), path.name
    assert list(third) == list(first)


class TestTransformers:
    @pytest.fixture(autouse=True)
    def _transformers(self) -> None:
        self.torch = pytest.importorskip("torch", reason="compares with Hugging Face's model")
        self.transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's model")
        self.transformers.utils.logging.disable_progress_bar()
        self.config = self.transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=INNER,
            max_position_embeddings=POSITIONS,
        )

    def test_loads_what_is_written(self, tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
        stored = BERT["huggingface"].save(ours)
        write_safetensors(tmp_path, stored)
        self.config.save_pretrained(tmp_path)
        model, info = self.transformers.BertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values()), info
        state = model.state_dict()
        assert all(np.array_equal(state[name].numpy(), array) for name, array in stored.items())
        assert np.array_equal(state["cls.predictions.decoder.weight"], ours["embeddings/token/embeddings"])

    def test_reads_what_it_writes(self, tmp_path: Path) -> None:
        model = self.transformers.BertForPreTraining(self.config)
        with self.torch.no_grad():
            for weight in model.parameters():
                weight.normal_()
        model.save_pretrained(tmp_path)
        binding = BERT["huggingface"].bind(open_checkpoint(tmp_path), SHAPES, LAYERS)
        binding.report.raise_if_wrong()
        assert not binding.report.unused
        state = model.state_dict()
        for layer in range(LAYERS):
            for name, theirs in (("attention/query", "attention.self.query"), ("feed_forward/inner", "intermediate.dense")):
                weight = state[f"bert.encoder.layer.{layer}.{theirs}.weight"].numpy()
                assert np.array_equal(binding[f"block_{layer}/{name}/kernel"], weight.T)
        assert np.array_equal(binding["mlm/norm/gamma"], state["cls.predictions.transform.LayerNorm.weight"])
        assert np.array_equal(binding["nsp/dense/kernel"], state["cls.seq_relationship.weight"].T)
        assert np.array_equal(binding["mlm/bias"], state["cls.predictions.bias"])

    def test_reads_a_model_without_heads(self, tmp_path: Path) -> None:
        model = self.transformers.BertModel(self.config)
        model.save_pretrained(tmp_path)
        wanted = {name: shape for name, shape in SHAPES.items() if not name.startswith(("mlm", "nsp"))}
        binding = BERT["huggingface"].bind(open_checkpoint(tmp_path), wanted, LAYERS)
        binding.report.raise_if_wrong()
        assert np.array_equal(binding["pooled/dense/kernel"], model.pooler.dense.weight.detach().numpy().T)


def test_old_spelling_of_norms_and_buffers(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    arrays = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in BERT["huggingface"].save(ours).items()
    }
    arrays["bert.embeddings.position_ids"] = np.arange(POSITIONS)
    binding = BERT["huggingface"].bind(stored_as("huggingface", tmp_path, arrays), SHAPES, LAYERS)
    binding.report.raise_if_wrong()
    assert binding.report.ignored == ["bert.embeddings.position_ids"]
    assert identical(binding, ours)


def test_an_exact_name_wins_over_another_spelling(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    arrays = BERT["huggingface"].save(ours) | {"pooler.dense.bias": np.zeros(HIDDEN, np.float32)}
    binding = BERT["huggingface"].bind(stored_as("huggingface", tmp_path, arrays), SHAPES, LAYERS)
    assert identical(binding, ours)
    assert binding.report.ignored == ["pooler.dense.bias"]


COPIES = {"cls.predictions.decoder.weight": "embeddings/token/embeddings", "cls.predictions.decoder.bias": "mlm/bias"}


def test_tied_copies_are_ignored_or_stand_in(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    arrays = BERT["huggingface"].save(ours) | {copy: ours[name] for copy, name in COPIES.items()}
    binding = BERT["huggingface"].bind(stored_as("huggingface", tmp_path / "both", arrays), SHAPES, LAYERS)
    assert sorted(binding.report.ignored) == sorted(COPIES)
    assert identical(binding, ours)
    del arrays["cls.predictions.bias"]
    binding = BERT["huggingface"].bind(stored_as("huggingface", tmp_path / "copy", arrays), SHAPES, LAYERS)
    binding.report.raise_if_wrong()
    assert ("mlm/bias", "cls.predictions.decoder.bias") in binding.report.matched
    assert identical(binding, ours)


@pytest.mark.parametrize("copy", COPIES)
def test_an_output_layer_that_is_not_tied_is_refused_where_it_matters(tmp_path: Path, ours: dict[str, np.ndarray], copy: str) -> None:
    arrays = BERT["huggingface"].save(ours) | {copy: ours[COPIES[copy]] + 1}
    stored = stored_as("huggingface", tmp_path, arrays)
    with pytest.raises(CheckpointError, match=f"holds {copy}, which should repeat .* not tied"):
        dict(BERT["huggingface"].bind(stored, SHAPES, LAYERS))
    encoder = {name: shape for name, shape in SHAPES.items() if not name.startswith("mlm")}
    assert len(dict(BERT["huggingface"].bind(stored, encoder, LAYERS))) == len(encoder)


def test_heads_that_were_not_asked_for_are_ignored(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    wanted = {name: shape for name, shape in SHAPES.items() if not name.startswith(("mlm", "nsp", "pooled"))}
    binding = BERT["google"].bind(stored_as("google", tmp_path, BERT["google"].save(ours)), wanted, LAYERS)
    assert len(binding.report.ignored) == 9
    assert all(name.startswith(("cls/", "bert/pooler")) for name in binding.report.ignored)


def test_optimizer_and_unknown_tensors_are_told_apart(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    slots = [
        "bert/pooler/dense/bias/adam_m",
        "bert/pooler/dense/bias/adam_v",
        "global_step",
        "beta1_power",
        "bert/pooler/dense/bias/Adam_1",
    ]
    extra = dict.fromkeys([*slots, "output_weights"], np.float32(0))
    report = BERT["google"].bind(stored_as("google", tmp_path, BERT["google"].save(ours) | extra), SHAPES, LAYERS).report
    report.raise_if_wrong()
    assert sorted(report.optimizer) == sorted(slots)
    assert report.unused == ["output_weights"]


def test_some_layers_only(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    stored = stored_as("google", tmp_path, BERT["google"].save(ours))
    wanted = {name: shape for name, shape in SHAPES.items() if not name.startswith("block_2")}
    chosen = BERT["google"].bind(stored, wanted, [0, 2])
    chosen.report.raise_if_wrong()
    assert np.array_equal(chosen["block_1/attention/key/kernel"], ours["block_2/attention/key/kernel"])
    assert len(chosen.report.ignored) == 16
    assert not chosen.report.unused
    counted = BERT["google"].bind(stored, wanted, 2)
    assert np.array_equal(counted["block_1/attention/key/kernel"], ours["block_1/attention/key/kernel"])
    assert len(counted.report.unused) == 16


def test_everything_missing_is_named_with_what_is_near(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    arrays = BERT["google"].save(ours)
    arrays["bert/poolr/dense/kernel"] = arrays.pop("bert/pooler/dense/kernel")
    del (
        arrays["cls/predictions/output_bias"],
        arrays["bert/encoder/layer_0/output/dense/bias"],
        arrays["bert/encoder/layer_2/output/dense/bias"],
    )
    report = BERT["google"].bind(stored_as("google", tmp_path, arrays), SHAPES, LAYERS).report
    with pytest.raises(CheckpointError) as error:
        report.raise_if_wrong()
    text = str(error.value)
    assert f"Missing, 4 of {len(SHAPES)} weights" in text
    assert "pooled/dense/kernel (looked for bert/pooler/dense/kernel, did you mean 'bert/poolr/dense/kernel'?)" in text
    assert "mlm/bias (looked for cls/predictions/output_bias)" in text
    assert "block_{i}/feed_forward/outer/bias with i = 0, 2" in text
    assert "Unused in the checkpoint, 1: bert/poolr/dense/kernel." in text
    assert "\n" not in text


def test_missing_weights_may_be_allowed_by_name_or_by_path(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    arrays = {name: array for name, array in BERT["google"].save(ours).items() if not name.startswith(("cls/", "bert/encoder/layer_1/"))}
    binding = BERT["google"].bind(stored_as("google", tmp_path, arrays), SHAPES, LAYERS)
    binding.report.raise_if_wrong(["mlm", "nsp/dense", "block_1"])
    assert "mlm/bias" not in binding
    with pytest.raises(CheckpointError, match="Missing, 16 of"):
        binding.report.raise_if_wrong(["mlm", "nsp", "block"])
    with pytest.raises(CheckpointError, match="nsp/dense/bias"):
        binding.report.raise_if_wrong(["mlm", "nsp/dense/kernel", "block_1"])


def test_a_vocabulary_of_another_size_is_said_so(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    wanted = SHAPES | {"embeddings/token/embeddings": (21128, HIDDEN), "mlm/bias": (21128,)}
    binding = BERT["google"].bind(stored_as("google", tmp_path, BERT["google"].save(ours)), wanted, LAYERS)
    assert "embeddings/token/embeddings" not in binding
    with pytest.raises(CheckpointError, match=r"vocabulary sizes differ: .*/token/embeddings has 31 rows .* has 21,128\..*vocab\.txt"):
        binding.report.raise_if_wrong()


def test_every_shape_that_differs_is_named(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    wanted = (
        SHAPES | {f"block_{layer}/feed_forward/inner/kernel": (HIDDEN, 99) for layer in range(LAYERS)} | {"nsp/dense/kernel": (HIDDEN, 3)}
    )
    report = BERT["huggingface"].bind(stored_as("huggingface", tmp_path, BERT["huggingface"].save(ours)), wanted, LAYERS).report
    assert ("nsp/dense/kernel", (HIDDEN, 3), (HIDDEN, 2)) in report.misshapen
    with pytest.raises(CheckpointError) as error:
        report.raise_if_wrong(["nsp"])
    assert "block_{i}/feed_forward/inner/kernel with i = 0, 1, 2 has shape (8, 12) in the checkpoint, and the model expects (8, 99)" in str(
        error.value
    )
    assert "nsp/dense/kernel has shape (8, 2)" in str(error.value)


def test_albert_is_recognised(tmp_path: Path, ours: dict[str, np.ndarray]) -> None:
    arrays = {name.replace("layer_0", "layer_shared"): array for name, array in BERT["google"].save(ours).items()}
    arrays = {name: array for name, array in arrays.items() if "layer_1" not in name and "layer_2" not in name}
    report = BERT["google"].bind(stored_as("google", tmp_path, arrays), SHAPES, LAYERS).report
    with pytest.raises(
        CheckpointError, match=r"look like ALBERT_ZH, and the model is BERT.*Load a BERT checkpoint instead, .* model='albert_zh'"
    ):
        report.raise_if_wrong()


def test_what_a_layout_has_no_place_for_is_not_lost_silently(ours: dict[str, np.ndarray]) -> None:
    with pytest.raises(CheckpointError, match="no place for crf/transitions, so saving would lose them"):
        BERT["google"].save(ours | {"crf/transitions": np.zeros((2, 2))})


def test_parts_of_the_model_can_be_saved(ours: dict[str, np.ndarray]) -> None:
    encoder = {name: array for name, array in ours.items() if name.startswith(("embeddings", "block"))}
    assert len(BERT["google"].save(encoder)) == len(encoder)


@pytest.mark.parametrize(
    ("row", "stored"),
    [
        (Row("a", "x", same), {"x": (3, 4)}),
        (Row("a", "x", transposed), {"x": (3, 4)}),
        (Row(("a", "b", "c"), "x", split(3)), {"x": (4, 6)}),
        (Row(("a", "b"), "x", split(2, axis=0)), {"x": (4, 6)}),
        (Row("a", ("x", "y"), fused(2)), {"x": (3, 4), "y": (3, 4)}),
        (Row(("block_{i}/a", "block_{i}/b"), "layer{i}/x", split(2)), {"layer0/x": (6,), "layer1/x": (6,)}),
    ],
)
def test_every_op_reads_both_ways(tmp_path: Path, row: Row, stored: dict[str, tuple[int, ...]]) -> None:
    random = np.random.default_rng(3)
    arrays = {name: random.standard_normal(shape) for name, shape in stored.items()}
    table = Table("test", "google", (row,))
    checkpoint = stored_as("google", tmp_path, arrays)
    names = [name for ours, _, _ in table._expanded(range(2)) for name in ours]
    found = {name: shape for name, _, shape in table.bind(checkpoint, dict.fromkeys(names, (0, 0, 0)), 2).report.misshapen}
    binding = table.bind(checkpoint, found, 2)
    binding.report.raise_if_wrong()
    assert {name: binding[name].shape for name in binding} == found
    back = table.save(binding)
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_large_transposed_kernels_keep_every_number(tmp_path: Path) -> None:
    matrix = np.random.default_rng(5).standard_normal((130, 200)).astype(np.float32)
    stored = stored_as("huggingface", tmp_path, {"x": matrix})
    assert np.array_equal(Table("test", "huggingface", (Row("a", "x", transposed),)).bind(stored, {"a": (200, 130)}, 0)["a"], matrix.T)


def test_a_stored_shape_that_an_op_cannot_take_is_misshapen(tmp_path: Path) -> None:
    stored = stored_as("google", tmp_path, {"x": np.zeros(7)})
    report = Table("test", "google", (Row(("a", "b"), "x", split(2)),)).bind(stored, {"a": (3,), "b": (3,)}, 0).report
    assert report.misshapen == [("a", (3,), (7,)), ("b", (3,), (7,))]


@pytest.mark.parametrize("layout", BERT)
def test_tables_name_everything_once(layout: str) -> None:
    expanded = list(BERT[layout]._expanded(range(LAYERS)))
    ours = [name for names, _, _ in expanded for name in names]
    stored = [name for _, names, _ in expanded for name in names]
    assert sorted(ours) == sorted(SHAPES)
    assert len(set(stored)) == len(stored)
    assert BERT[layout].layout == layout

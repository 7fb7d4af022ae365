"""How far a model is from what transformers computes with the same checkpoint on PyTorch: layer by layer, outputs, gradients.

Differences are relative: of outputs and hidden states, the largest difference over the largest number there is, which counts as at least 1;
of gradients, weight by weight, the norm of the difference over the norm of theirs, which counts as at least a hundredth of the largest such
norm. Only real tokens count; dropout is off; float32 throughout.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4k import hub
from bert4k.backend import differentiated
from bert4k.config import Config
from bert4k.encoder_decoder import EncoderDecoder, kind_of
from bert4k.errors import CheckpointError, ConfigError
from bert4k.families import FAMILIES
from bert4k.model import Transformer, weights_of
from bert4k.pretrained import TABLES, table_of
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer

Batch = dict[str, np.ndarray]

# Float32 carries 7 digits, and a dozen layers lose one or two of them.
OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4

# How transformers calls our outputs, in the models that have them.
_THEIR_NAMES = {
    "mlm": ("prediction_logits", "logits"),
    "nsp": ("seq_relationship_logits", "sop_logits"),
    "discriminator": ("logits",),
    "logits": ("logits",),
}


@dataclass(frozen=True)
class Difference:
    """Of one thing that both compute. size: the largest number in theirs, or the norm of a gradient."""

    name: str
    difference: float
    size: float


@dataclass(frozen=True)
class Comparison:
    """One checkpoint in both. layers: the embeddings and each layer, in order; gradients may be left out."""

    family: str
    backend: str
    layers: list[Difference]
    outputs: list[Difference]
    gradients: list[Difference]

    def departs(self) -> Difference | None:
        """The first layer, or else output or gradient, that differs by more than rounding; None when nothing does."""
        limits = {OUTPUT_TOLERANCE: [*self.layers, *self.outputs], GRADIENT_TOLERANCE: self.gradients}
        return next((each for limit, found in limits.items() for each in found if not each.difference <= limit), None)

    def worst(self) -> tuple[float, float]:
        """The largest difference of layers and outputs, and of gradients."""
        largest = [max((each.difference for each in found), default=0.0) for found in ([*self.layers, *self.outputs], self.gradients)]
        return largest[0], largest[1]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(source: str | Path, gradients: bool = True) -> Comparison:
    """The checkpoint `source` loaded here and by transformers, on rows of random tokens of different lengths.

    A Google folder is first written as a Hugging Face one, which transformers then reads. Raises `CheckpointError` and `ConfigError` when
    one of both cannot load it, and when transformers or PyTorch is not installed."""
    transformers = _transformers()
    ours, tokenizer = hub.load_all(source)
    row = FAMILIES[ours.config.family]
    if row.architecture is None or not hasattr(transformers, row.architecture):
        raise ConfigError(f"transformers {transformers.__version__} has no {row.title}, so there is nothing to compare {source} with.")
    path = hub.locate(source)
    with _as_huggingface(path, ours, tokenizer) as folder:
        theirs, report = getattr(transformers, row.architecture).from_pretrained(folder, output_loading_info=True)
    theirs = theirs.float().eval()
    # Heads that the checkpoint lacks start random there, and are no outputs here. What is read here must be found there.
    written = table_of(ours.config.family, "huggingface").save({name: np.empty(shape) for name, shape in ours.weight_names().items()})
    if unread := sorted(set(written) & set(report["missing_keys"])):
        raise CheckpointError(
            f"transformers finds no {', '.join(unread[:3])} in {source}, and bert4k does: names differ, and theirs starts random."
        )
    return _compared(ours, theirs, _batch(ours.config), gradients)


def _transformers() -> Any:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"verify compares with transformers on PyTorch, and {error.name} is not installed: pip install 'bert4k[verify]'."
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@contextmanager
def _as_huggingface(path: Path, model: Transformer, tokenizer: Tokenizer) -> Iterator[Path]:
    folder = path if path.is_dir() else path.parent
    if (folder / "config.json").is_file() and not list(folder.glob("*.index")) and path.suffix != ".keras":
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        yield hub.save(model, tokenizer, Path(place) / "saved", "huggingface")


def _batch(config: Config, rows: int = 3, length: int = 24, target: int = 9) -> Batch:
    """Rows of `length` tokens and fewer, of every segment; of an encoder-decoder, with targets."""
    random = np.random.default_rng(0)
    length = min(length, config.max_position_embeddings)
    lengths = np.linspace(length, 5, rows).astype(int)[:, None]
    places, kinds = np.arange(length)[None], max(1, config.type_vocab_size)
    real = places < lengths

    def tokens(count: int) -> np.ndarray:  # any but padding
        drawn = random.integers(0, config.vocab_size - 1, (rows, count))
        return (drawn + (drawn >= config.pad_token_id)).astype("int32")

    segments = np.minimum(places * kinds // lengths, kinds - 1)
    batch = {
        "token_ids": np.where(real, tokens(length), config.pad_token_id).astype("int32"),
        "segment_ids": np.where(real, segments, 0).astype("int32"),
    }
    return batch | ({"decoder_ids": tokens(target)} if config.num_decoder_layers else {})


def _real(batch: Batch, pad: int) -> dict[int, np.ndarray]:
    """Which tokens count, bool [B, L], by L: of the sources, and of targets, which have another length."""
    return {ids.shape[1]: ids != pad for name, ids in batch.items() if name in ("token_ids", "decoder_ids")}


def _compared(ours: Transformer, theirs: Any, batch: Batch, gradients: bool) -> Comparison:
    """Both models on the batch."""
    real = _real(batch, ours.config.pad_token_id)
    expected, states = _theirs(theirs, batch, ours)
    outputs = {name: _numpy(value) for name, value in _outputs(ours, batch).items() if name in expected}
    layers = [
        _difference(name, _numpy(mine), yours.detach().numpy(), real)
        for (name, mine), yours in zip(hidden_states(ours, batch).items(), states, strict=True)
    ]
    compared = [_difference(name, value, expected[name].detach().numpy(), real) for name, value in outputs.items()]
    steps = _gradients(ours, theirs, batch, expected, outputs, real) if gradients else []
    return Comparison(ours.config.family, keras.backend.backend(), layers, compared, steps)


def _outputs(model: Transformer, batch: Batch) -> dict[str, Any]:
    found = model(batch, training=False)
    return found if isinstance(found, dict) else {model.output_kinds[0]: found}


def hidden_states(model: Transformer, batch: Batch) -> dict[str, Any]:
    """What the model has after the embeddings and after each layer, [B, L, H] each, by name; behind them those of a decoder."""
    segment_ids, position_ids, allowed = model.get_layer("tokens")(batch["token_ids"], batch.get("segment_ids"))
    x = model.embed(ops.convert_to_tensor(batch["token_ids"]), segment_ids, position_ids)
    states = {"embeddings": x}
    for index in range(model.config.num_hidden_layers):
        x = model.block(index, x, lambda attention, x: attention(x, allowed, position_ids))
        states[f"layer {index + 1}"] = x
    if "final_norm" in model.parts:  # transformers counts it to the last layer
        states[f"layer {model.config.num_hidden_layers}"] = x = model.parts["final_norm"](x)
    return states | (_decoder_states(model, batch, x, position_ids) if isinstance(model, EncoderDecoder) and "decoder_ids" in batch else {})


def _decoder_states(model: EncoderDecoder, batch: Batch, encoded: Any, position_ids: Any) -> dict[str, Any]:
    places, seen, source = model.get_layer("targets")(batch["decoder_ids"], batch["token_ids"])
    y = model.embed_target(ops.convert_to_tensor(batch["decoder_ids"]), places)
    states = {"embeddings of the target": y}
    for index in range(model.config.num_decoder_layers):
        y = model.decoder_block(
            index,
            y,
            lambda attention, y: attention(y, seen, places),
            lambda attention, y: attention(y, source, places, encoded, position_ids),
        )
        states[f"layer {index + 1} of the decoder"] = y
    if "decoder/final_norm" in model.parts:
        states[f"layer {model.config.num_decoder_layers} of the decoder"] = model.parts["decoder/final_norm"](y)
    return states


def _theirs(model: Any, batch: Batch, ours: Transformer) -> tuple[dict[str, Any], list[Any]]:
    """Their outputs by our names, and their hidden states, those of a decoder behind those of the encoder."""
    import torch

    real = batch["token_ids"] != ours.config.pad_token_id
    inputs = {"input_ids": torch.tensor(batch["token_ids"], dtype=torch.long), "attention_mask": torch.tensor(real).long()}
    # Without segments of its own, GPT would add the embedding of the token with that number.
    if ours.config.type_vocab_size and "token_type_ids" in inspect.signature(model.forward).parameters:
        inputs["token_type_ids"] = torch.tensor(batch["segment_ids"], dtype=torch.long)
    if "decoder_ids" in batch:
        inputs["decoder_input_ids"] = torch.tensor(batch["decoder_ids"], dtype=torch.long)
    out = model(**inputs, output_hidden_states=True, return_dict=True)
    names = {mine: next((name for name in theirs if name in out), None) for mine, theirs in _THEIR_NAMES.items()}
    outputs = {name: out[names[name]] for name in ours.output_kinds if names.get(name)}
    if "decoder_ids" in batch:
        states = [*out.encoder_hidden_states, *out.decoder_hidden_states]
        return {"sequence": out.encoder_last_hidden_state, "decoder": states[-1], **outputs}, states
    states = list(out.hidden_states)
    # Where embeddings are projected, some models also tell what they were before.
    return {"sequence": states[-1], **outputs}, states[len(states) - ours.config.num_hidden_layers - 1 :]


def _difference(name: str, mine: np.ndarray, theirs: np.ndarray, real: dict[int, np.ndarray]) -> Difference:
    if mine.ndim > 1 and mine.shape[1] in real:
        mine, theirs = mine[real[mine.shape[1]]], theirs[real[mine.shape[1]]]
    size = float(np.abs(theirs).max())
    return Difference(name, float(np.abs(mine - theirs).max()) / max(1.0, size), size)


def _gradients(
    ours: Transformer, theirs: Any, batch: Batch, expected: dict[str, Any], outputs: dict[str, np.ndarray], real: dict[int, np.ndarray]
) -> list[Difference]:
    """Of a loss that is linear in the outputs, so that rounding in the loss itself plays no part."""
    import torch

    random = np.random.default_rng(1)
    shares = {}
    for name, value in outputs.items():
        share = random.standard_normal(value.shape) / np.sqrt(value.size)
        if value.shape[1] in real:  # only what is of tokens has such a length
            counted = real[value.shape[1]]
            share = share * counted.reshape(*counted.shape, *[1] * (value.ndim - 2))
        shares[name] = share.astype("float32")
    theirs.zero_grad()
    sum((expected[name] * torch.tensor(share)).sum() for name, share in shares.items()).backward()
    # By every name of a weight that is used twice.
    yours = {name: p.grad.numpy() for name, p in theirs.named_parameters(remove_duplicate=False) if p.grad is not None}

    variables = {id(getattr(layer, attribute)): name for name, layer, attribute in weights_of(ours.parts)}

    def loss(values: list[Any]) -> tuple[Any, Any]:
        with keras.StatelessScope(state_mapping=list(zip(ours.trainable_variables, values, strict=True))):
            found = _outputs(ours, batch)
            return sum(ops.sum(found[name] * ops.convert_to_tensor(share)) for name, share in shares.items()), None

    _, _, found = differentiated(loss, [variable.value for variable in ours.trainable_variables])
    mine = {variables[id(variable)]: _numpy(one) for variable, one in zip(ours.trainable_variables, found, strict=True)}
    stored = table_of(ours.config.family, "huggingface").save(mine)
    # A key's bias changes all scores of a query alike, which the softmax does not see: its gradient is zero, and theirs and ours are
    # rounding. It is held against that of its kernel.
    sizes = {name: float(np.linalg.norm(yours[name.replace("key.bias", "key.weight")])) for name in stored if name in yours}
    largest = max(sizes.values())
    return [
        Difference(name, float(np.linalg.norm(stored[name] - yours[name])) / max(sizes[name], 0.01 * largest), sizes[name])
        for name in sizes
    ]


def _numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(x, "float32"))


# Every family. ------------------------------------------------------------------------------------------------------------------------


def comparable() -> list[str]:
    """Families that the installed transformers has too."""
    theirs = _transformers()
    return [
        name for name, row in FAMILIES.items() if row.architecture and (name, "huggingface") in TABLES and hasattr(theirs, row.architecture)
    ]


BASE: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
BASE |= {"max_position_embeddings": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def compare_random(family: str, **sizes: Any) -> Comparison:
    """A model of the family with random weights, of the width and depth of a base model and a small vocabulary, in both.

    A relu is replaced by a gelu: where rounding moves one of its millions of inputs over zero, its gradient jumps (T5 1.0: 5e-3 with relu,
    4e-6 without)."""
    row = FAMILIES[family]
    if row.values.get("hidden_act") == "relu":
        sizes = {"hidden_act": "gelu_tanh"} | sizes
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(0x4E00 + number) for number in range(995))]
    config = Config(**{"vocab_size": len(vocabulary), **BASE, **row.values, "family": family, **sizes})
    vocabulary[0], vocabulary[config.pad_token_id] = vocabulary[config.pad_token_id], vocabulary[0]
    random = np.random.default_rng(0)

    def value(name: str, shape: Sequence[int]) -> np.ndarray:
        deviation = 0.04 if name.endswith(("kernel", "embeddings")) else 0.1
        if not config.attention_scale and name.endswith("attention/query/kernel"):
            # T5 starts its queries so, since nothing divides their products; larger ones make a softmax that turns rounding into choices.
            deviation *= config.head_size**-0.5
        return random.normal(float(name.endswith("gamma")), deviation, shape).astype("float32")

    kind = kind_of(config)
    shapes = kind(config, outputs=config.outputs).weight_names()
    model = kind(config, outputs=config.outputs, values={name: value(name, shape) for name, shape in shapes.items()})
    with tempfile.TemporaryDirectory() as place:
        return compare(hub.save(model, Tokenizer(vocabulary), Path(place) / "saved", "huggingface"))


def compare_all(backends: Sequence[str]) -> list[Comparison]:
    """Every family on every backend, each backend in a process of its own."""
    found = []
    jobs = [(backend, family) for family in comparable() for backend in backends]
    for backend, family in track(jobs, len(jobs), "verifying"):
        program = f"from bert4k import fidelity; print(fidelity.dumps(fidelity.compare_random({family!r})))"
        environment = {**os.environ, "KERAS_BACKEND": backend}
        ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
        last = (ran.stderr if ran.returncode else ran.stdout).strip().rpartition("\n")[2]
        if ran.returncode:
            raise ConfigError(f"{family} on {backend} ended with an error: {last}")
        found.append(loads(last))
    return found


def dumps(comparison: Comparison) -> str:
    """One line of JSON."""
    return json.dumps(comparison.to_dict())


def loads(text: str) -> Comparison:
    """What `dumps` wrote."""
    values = json.loads(text)
    lists = {key: [Difference(**each) for each in values[key]] for key in ("layers", "outputs", "gradients")}
    return Comparison(**values | lists)


def report(comparison: Comparison) -> str:
    """For people: a line for each layer, each output, and the gradients that differ most."""
    worst = sorted(comparison.gradients, key=lambda each: -each.difference)[:3]
    lines = [f"{comparison.family} on {comparison.backend}, against transformers: relative differences, and the size of what is compared"]
    lines += [f"  {each.difference:8.1e}  {each.size:9.3g}  {each.name}" for each in [*comparison.layers, *comparison.outputs]]
    if worst:
        lines.append(f"{len(comparison.gradients)} gradients; those that differ most:")
        lines += [f"  {each.difference:8.1e}  {each.size:9.3g}  {each.name}" for each in worst]
    return "\n".join(lines)


def table(comparisons: Sequence[Comparison]) -> str:
    """Markdown: a line for each family, and for each backend the worst difference of outputs and of gradients."""
    backends = list(dict.fromkeys(each.backend for each in comparisons))
    titles = " | ".join(backends)
    lines = [f"| family | {titles} |", "| --- |" + " --- |" * len(backends)]
    for family in dict.fromkeys(each.family for each in comparisons):
        worst = {each.backend: each.worst() for each in comparisons if each.family == family}
        cells = [f"{worst[name][0]:.0e} / {worst[name][1]:.0e}" if name in worst else "" for name in backends]
        lines.append(f"| {FAMILIES[family].title} | {' | '.join(cells)} |")
    return "\n".join(lines)

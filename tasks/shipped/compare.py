"""Fine-tuning here and with `transformers` on PyTorch, side by side: the losses step by step, the scores, and which is faster.

    KERAS_BACKEND=jax python -m bert4k.tasks.shipped.compare wenbai --data ../shared/data --out compared.json

Both begin with the same weights (the checkpoint goes through a Hugging Face folder, the head is copied), see the same batches and have the
same settings; dropout is off. Here it is `bert4k.finetuning.fit`, all that a recipe does. There it is the model of `transformers` under the
loop that its users write: AdamW of PyTorch, whose epsilon is the one thing that has to be translated (see `Reference`), gradients clipped
to norm 1, biases and norms not decayed. The two take turns, a step each, so that other work on the machine slows both.

    chnsenticorp   sentiment of reviews: the mean of the last layer, a linear layer; accuracy on dev
    resume         entities: tags B, I, O of each kind by a linear layer on each token; F1 of exact spans on dev

A step's time is from the batch, ready as arrays, to the loss as a number; a shape's first two steps (in which it is compiled) do not count.
Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bert4k import finetuning, hub
from bert4k.errors import ConfigError
from bert4k.structured import Pooling
from bert4k.tasks import classify, ner
from bert4k.tasks.shipped import results
from bert4k.tasks.shipped.rows import ROWS
from bert4k.tokenizers import Tokenizer
from bert4k.training import LearningCurves, LengthBatches, WarmupDecay
from bert4k.tuning import Tuning

EPSILON, BETAS = 1e-6, (0.9, 0.98)  # as in bert4k.training.make_optimizer
COLD = 2  # steps of each shape that are not timed


@dataclass(frozen=True)
class Task:
    """Texts and their classes: one each, [1], or one a token, [L], -1 where there is none. `score` takes the logits of the dev texts,
    [C] or [L, C] each."""

    name: str
    classes: int
    by_token: bool
    learn: finetuning.Encoded
    targets: Sequence[NDArray[np.int32]]
    judge: finetuning.Encoded
    score: Callable[[Sequence[NDArray[np.float32]]], float]

    def batches(self, tuning: Tuning) -> LengthBatches:
        """What both train on: inputs, labels [B] or [B, L], and weights, 0 where there is no label."""

        def collate(rows: list[int], length: int) -> tuple[Any, ...]:
            labels = np.full((len(rows), length if self.by_token else 1), -1, np.int32)
            for at, row in enumerate(rows):
                labels[at, : len(self.targets[row])] = self.targets[row]
            labels = labels if self.by_token else labels[:, 0]
            return self.learn.inputs(rows, length), np.maximum(labels, 0), (labels >= 0).astype(np.float32)

        return LengthBatches(self.learn.lengths(), collate, tuning.tokens, seed=tuning.seed)


def sentiment(train: Path, dev: Path, tokenizer: Tokenizer) -> Task:
    """One label a text."""
    learn, judge = (classify.read(path, several=False) for path in (train, dev))
    labels = sorted({label for each in learn for label in each.labels})
    gold = np.array([labels.index(each.labels[0]) for each in judge])
    targets = [np.array([labels.index(each.labels[0])], np.int32) for each in learn]

    def accuracy(logits: Sequence[NDArray[np.float32]]) -> float:
        return float(np.mean([row.argmax() for row in logits] == gold))

    encoded = [classify.encode(part, tokenizer, 128) for part in (learn, judge)]
    return Task("sentiment", len(labels), False, encoded[0], targets, encoded[1], accuracy)


def entities(train: Path, dev: Path, tokenizer: Tokenizer) -> Task:
    """A tag for each token."""
    learn = ner.read(train)
    kinds = sorted({kind for each in learn for _, _, kind in each.entities})
    judge = ner.read(dev, kinds)
    names = ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]
    (texts, places), (judged, judged_places) = (ner.encode([each.text for each in part], tokenizer, 256) for part in (learn, judge))
    targets = []
    for each, own in zip(learn, places, strict=True):
        tags = np.array([0 if end > start else -1 for start, end in own], np.int32)
        for first, end, kind in ner.of_tokens(each.entities, own):
            tags[first:end] = names.index(f"I-{kind}")
            tags[first] = names.index(f"B-{kind}")
        targets.append(tags)

    def f1(logits: Sequence[NDArray[np.float32]]) -> float:
        found = []
        for row, own in zip(logits, judged_places, strict=True):
            tags = [names[tag] if end > start else "O" for tag, (start, end) in zip(row.argmax(axis=-1), own, strict=False)]
            found.append([(own[first][0], own[end - 1][1], kind) for first, end, kind in ner.spans(tags)])
        return ner.score(found, judge)["f1"]

    return Task("entities", len(names), True, texts, targets, judged, f1)


Make = Callable[[Path, Path, Tokenizer], Task]
TASKS: dict[str, tuple[Make, int]] = {"resume": (entities, 3), "chnsenticorp": (sentiment, 1)}  # epochs


# The two trainings. ------------------------------------------------------------------------------------------------------------------


def build(source: str, task: Task, tuning: Tuning) -> tuple[keras.Model, Any, Tokenizer]:
    """The network with a linear layer on top, logits [B, C] or [B, L, C]; the network itself; its tokenizer."""
    network, tokenizer, inputs, x, real = finetuning.body(source, tuning)
    head = keras.layers.Dense(task.classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02), name="classes")
    return keras.Model(inputs, head(x if task.by_token else Pooling("mean")(x, real))), network, tokenizer


class Reference:
    """The same model in `transformers`, from a Hugging Face folder, and its training.

    kernel [H, C] and bias [C]: the weights of the head. schedule: the learning rate of a step.

    Keras' Adam adds epsilon to the root of the second moment before that is corrected for its beginning at 0 ("epsilon hat" of Kingma & Ba
    2015, section 2), PyTorch's after it. So PyTorch is given, at step t, epsilon / sqrt(1 - beta_2 ** t): the same formula.
    """

    def __init__(self, folder: Path, task: Task, kernel: NDArray[np.float32], bias: NDArray[np.float32], schedule: Any, tuning: Tuning):
        try:
            import torch
            import transformers
        except ImportError as error:
            raise ConfigError(f"The comparison needs torch and transformers ({error}): pip install bert4k[torch] transformers.") from error
        self.task, self.schedule, self.steps = task, schedule, 0
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.network = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32, **off).train()
        self.head = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(kernel.T))
            self.head.bias.copy_(torch.tensor(bias))
        named = [*self.network.named_parameters(), *self.head.named_parameters()]
        plain = [each for name, each in named if name.endswith("bias") or "LayerNorm" in name]
        matrices = [each for name, each in named if not (name.endswith("bias") or "LayerNorm" in name)]
        groups = [{"params": matrices, "weight_decay": tuning.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS)
        self.parameters = [*matrices, *plain]

    def logits(self, inputs: dict[str, NDArray[np.int32]]) -> Any:
        """[B, C] or [B, L, C]."""
        import torch

        ids, segments = (torch.tensor(inputs[name]).long() for name in ("token_ids", "segment_ids"))
        real = ids != self.network.config.pad_token_id
        hidden = self.network(input_ids=ids, token_type_ids=segments, attention_mask=real.long()).last_hidden_state
        if not self.task.by_token:
            hidden = (hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return self.head(hidden)

    def step(self, inputs: dict[str, NDArray[np.int32]], labels: NDArray[np.int32], weights: NDArray[np.float32]) -> float:
        """One step of training; the loss before it."""
        import torch

        losses = torch.nn.functional.cross_entropy(
            self.logits(inputs).flatten(0, -2), torch.tensor(labels).long().flatten(), reduction="none"
        )
        counts = torch.tensor(weights).flatten()
        loss = (losses * counts).sum() / counts.sum()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.schedule(self.steps))
            group["eps"] = EPSILON / (1 - BETAS[1] ** (self.steps + 1)) ** 0.5
        self.optimizer.step()
        self.steps += 1
        return float(loss.detach())

    def predict_on_batch(self, inputs: dict[str, NDArray[np.int32]]) -> NDArray[np.float32]:
        """The logits, as a Keras model gives them."""
        import torch

        with torch.inference_mode():
            return self.logits(inputs).numpy()


class TakingTurns(keras.callbacks.Callback):
    """Before each step of Keras' `fit` lets the reference make the same one. Attributes: rows, a dict for each step."""

    def __init__(self, batches: LengthBatches, reference: Reference) -> None:
        super().__init__()
        self.batches, self.reference = batches, reference
        self.rows: list[dict[str, Any]] = []
        self.seen: Counter[tuple[int, ...]] = Counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.total, self.count = 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        inputs, labels, weights = self.batches[batch]
        shape = inputs["token_ids"].shape
        began = time.perf_counter()
        loss = self.reference.step(inputs, labels, weights)
        self.seen[shape] += 1
        real = int((inputs["token_ids"] != self.reference.network.config.pad_token_id).sum())
        self.rows.append({"shape": shape, "tokens": real, "cold": self.seen[shape] <= COLD, "their_loss": loss})
        self.began = time.perf_counter()
        self.rows[-1]["their_seconds"] = self.began - began

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        mean = float((logs or {})["loss"])  # of all examples of this epoch so far
        row = self.rows[-1]
        row["our_seconds"] = time.perf_counter() - self.began
        before, self.count = self.total, self.count + row["shape"][0]
        self.total = mean * self.count
        row["our_loss"] = (self.total - before) / row["shape"][0]


def compare(source: str, task: Task, tuning: Tuning, place: Path) -> dict[str, Any]:
    """Both trainings of `task`, from the checkpoint `source`, in the folder `place`: losses, scores and speed."""
    model, network, tokenizer = build(source, task, tuning)
    folder = hub.save(network, tokenizer, place / "huggingface", "huggingface")
    batches = task.batches(tuning)
    steps = tuning.epochs * len(batches)
    schedule = WarmupDecay(tuning.learning_rate, steps, round(tuning.warmup * steps))
    kernel, bias = map(np.asarray, model.get_layer("classes").get_weights())
    reference = Reference(folder, task, kernel, bias, schedule, tuning)
    turns = TakingTurns(batches, reference)

    def score() -> dict[str, float]:
        ours, theirs = (task.score(finetuning.outputs_of(each, task.judge)) for each in (model, reference))
        return {"ours": 100 * ours, "theirs": 100 * theirs}

    (place / "run").mkdir()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    finetuning.fit(place / "run", model, network.config.num_hidden_layers, batches, loss, score, "ours", tuning, callbacks=[turns])
    last = LearningCurves(place / "run").read()[-1]
    return {"steps": len(turns.rows), "examples": len(task.targets)} | told(turns.rows) | {name: last[name] for name in ("ours", "theirs")}


def told(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The largest differences of the losses, the speed of both in warm steps, and both curves."""
    ours, theirs = (np.array([row[name] for row in rows]) for name in ("our_loss", "their_loss"))
    warm = [row for row in rows if not row["cold"]]
    found: dict[str, Any] = {
        "difference_of_100_steps": float(np.abs(ours - theirs)[:100].max()),
        "difference": float(np.abs(ours - theirs).max()),
        "warm_steps": len(warm),
        "shapes": len({row["shape"] for row in rows}),
    }
    if warm:
        for name in ("our", "their"):
            found[f"{name}_tokens_a_second"] = float(np.median([row["tokens"] / row[f"{name}_seconds"] for row in warm]))
        found["times_as_fast"] = float(np.median([row["their_seconds"] / row["our_seconds"] for row in warm]))
    found["cold_seconds"] = {name: sum(row[f"{name}_seconds"] for row in rows if row["cold"]) for name in ("our", "their")}
    return found | {"our_losses": ours.tolist(), "their_losses": theirs.tolist()}


# The command. ------------------------------------------------------------------------------------------------------------------------


def limit_threads(count: int) -> None:
    """So many threads, and cores, for both: threads wait for each other at every product, and on a busy machine that would measure the
    scheduler. JAX knows but the cores."""
    import torch

    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])

    torch.set_num_threads(count)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare on task after task; print the numbers and put them into a file."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.compare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder of a BERT, or a name of `bert4k list`")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="file for the numbers (JSON); what is in it already is kept")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), help="tasks (all)")
    parser.add_argument("--epochs", type=int, help="of each task (resume 3, chnsenticorp 1)")
    parser.add_argument("--tokens", type=int, default=Tuning.tokens, help="tokens of a batch (%(default)s)")
    parser.add_argument("--rate", type=float, default=Tuning.learning_rate, help="learning rate (%(default)s)")
    parser.add_argument("--limit", type=int, help="at most so many examples of a file, for a quick look")
    parser.add_argument(
        "--threads", type=int, help="of both, PyTorch and the backend (what they choose); 1 where other work shares the cores"
    )
    flags = parser.parse_args(arguments)
    if flags.threads:
        limit_threads(flags.threads)
    folder = hub.locate(flags.model)
    tokenizer, about = Tokenizer.from_folder(folder), {"model": folder.name, "files_sha256": results.weights_digest(folder)}
    results.read(flags.out, about)  # complains before the work, not after it
    for name in flags.only:
        make, epochs = TASKS[name]
        how = {"learning_rate": flags.rate, "epochs": flags.epochs or epochs, "tokens": flags.tokens}
        with tempfile.TemporaryDirectory() as place:
            (train, dev), _ = ROWS[name].limited(flags.limit).prepare(flags.data, Path(place))
            task = make(train, dev, tokenizer)
            numbers = compare(str(folder), task, Tuning(**how, dropout=0.0, network_dropout=0.0), Path(place))
        numbers = {"settings": how | {"threads": flags.threads}} | numbers | {"made": results.provenance()}
        results.keep(flags.out, about, f"{name} on {keras.backend.backend()}", results.rounded(numbers, 6))
        print(json.dumps({name: {key: value for key, value in numbers.items() if "losses" not in key and key != "made"}}), flush=True)


if __name__ == "__main__":
    main()

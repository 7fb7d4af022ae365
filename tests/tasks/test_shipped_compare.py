"""A training here and with `transformers` on PyTorch, step by step, on a random model: the same losses, and so the same gradients, updates,
schedule, clipping and weight decay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from marks import on_backends

from bert4k.tasks.shipped import compare
from bert4k.tokenizers import Tokenizer
from bert4k.tuning import Tuning

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

CHARACTERS = list("的人书好喜欢坏讨厌王明小在北京")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS]
TUNING = Tuning(learning_rate=1e-2, epochs=3, tokens=48, dropout=0.0, network_dropout=0.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    from bert4k.config import Config
    from bert4k.hub import save
    from bert4k.model import Transformer

    keras.utils.set_random_seed(1)
    config = Config(len(VOCABULARY), 16, 1, 2, 32, max_position_embeddings=32, initializer_range=0.2)
    return save(Transformer(config), Tokenizer(VOCABULARY), tmp_path_factory.mktemp("checkpoints") / "tiny")


def texts(count: int, seed: int) -> list[str]:
    """Of 2 to 9 characters, which are two lengths of batches; every other one has other characters, and a name at its end."""
    random = np.random.default_rng(seed)
    kinds = CHARACTERS[:5], CHARACTERS[5:9]
    return ["".join(random.choice(kinds[at % 2], random.integers(2, 8))) + "王明" * (at % 2) for at in range(count)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    """Train and dev file of each task."""
    made = {}
    for name in ("reviews", "names"):
        made[name] = tmp_path / f"{name}_train.txt", tmp_path / f"{name}_dev.txt"
        for path, count, seed in zip(made[name], (16, 8), (1, 2), strict=True):
            if name == "reviews":
                lines = [f"{'坏好'[text.endswith('王明')]}\t{text}" for text in texts(count, seed)]
            else:
                tags = {"王": "B-PER", "明": "I-PER"}
                lines = [line for text in texts(count, seed) for line in (*(f"{each} {tags.get(each, 'O')}" for each in text), "")]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("name", "make"), on_backends([("reviews", compare.sentiment), ("names", compare.entities)], ("names", compare.entities))
)
def test_losses_agree_step_by_step(
    name: str, make: compare.Make, checkpoint: Path, files: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    task = make(*files[name], Tokenizer.from_folder(checkpoint))
    found = compare.compare(str(checkpoint), task, TUNING, tmp_path)
    ours, theirs = (np.array(found[f"{who}_losses"]) for who in ("our", "their"))
    assert len(ours) == found["steps"] >= 10
    assert found["shapes"] > 1
    np.testing.assert_allclose(ours[:10], theirs[:10], atol=1e-4)
    assert found["difference_of_100_steps"] == np.abs(ours - theirs).max()
    assert theirs[-3:].mean() < theirs[:3].mean() - 0.05  # it learns: equal losses of steps that change nothing would say nothing
    assert found["ours"] == found["theirs"]


def test_the_epsilon_matters(
    checkpoint: Path, files: dict[str, tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = compare.sentiment(*files["reviews"], Tokenizer.from_folder(checkpoint))
    monkeypatch.setattr(compare, "EPSILON", 1e-2)
    found = compare.compare(str(checkpoint), task, TUNING, tmp_path)
    assert found["difference_of_100_steps"] > 1e-3


def test_what_is_told_of_steps() -> None:
    def row(ours: float, theirs: float, our_seconds: float, cold: bool = False) -> dict[str, object]:
        return {
            "shape": (2, 8),
            "tokens": 12,
            "cold": cold,
            "our_loss": ours,
            "their_loss": theirs,
            "our_seconds": our_seconds,
            "their_seconds": 2.0,
        }

    found = compare.told([row(1.0, 1.25, 50.0, cold=True), row(0.5, 0.5, 1.0), row(0.5, 0.5, 1.0), row(0.5, 0.5, 4.0)])
    assert found["difference_of_100_steps"] == found["difference"] == 0.25
    assert (found["warm_steps"], found["shapes"]) == (3, 1)
    assert (found["our_tokens_a_second"], found["their_tokens_a_second"], found["times_as_fast"]) == (12, 6, 2)
    assert found["cold_seconds"] == {"our": 50.0, "their": 2.0}


def test_the_command(
    checkpoint: Path,
    files: dict[str, tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bert4k.tasks.shipped.rows import ROWS, Row, sentences

    monkeypatch.setitem(ROWS, "resume", Row("ner", "f1", sentences("names_train.txt", "names_dev.txt"), 1))
    out = tmp_path / "compared.json"
    flags = ["--only", "resume", "--epochs", "1", "--tokens", "64", "--limit", "12"]
    compare.main([str(checkpoint), "--data", str(tmp_path), "--out", str(out), *flags])
    found = json.loads(out.read_text(encoding="utf-8"))
    [name] = [each for each in found if each.startswith("resume on ")]
    assert found[name]["examples"] == 12 and found[name]["made"]["backend"] in name
    assert len(found[name]["our_losses"]) == found[name]["steps"]
    assert '"times_as_fast"' in capsys.readouterr().out or not found[name]["warm_steps"]

"""Settings from flags and files, the run folder, and what several devices can do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from bert4k import recipe
from bert4k.errors import CheckpointError, ConfigError
from bert4k.recipe import alone, distribution, parse_settings, required, same_settings, setting, stored_settings
from bert4k.tasks import pretrain


@dataclass(frozen=True)
class Part:
    """What a part is."""

    rate: float = setting(1e-3, "how fast, in % of nothing")
    limit: float | None = setting(1.0, "how far")
    kind: Literal["fast", "slow"] = setting("fast", "which")


@dataclass(frozen=True)
class Some:
    run: Path = required("where to")
    text: list[Path] = setting([], "files")
    weights: dict[str, float] = setting({}, "how often")
    batch_size: int = setting(8, "how many")
    bold: bool = setting(False, "whether")
    name: str = setting("x", "what it is called")
    words: Literal["jieba"] | None = setting(None, "segmentation")
    part: Part = field(default_factory=Part)


def parse(*arguments: object) -> Some:
    return parse_settings(Some, [str(argument) for argument in arguments], "tool", "Does things.", "--run FOLDER")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(*arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.rpartition("error: ")[2].strip()


# Settings. -----------------------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    found = parse("--run", "here")
    assert found == Some(Path("here"))
    assert found.text is not parse("--run", "here").text


def test_flags_of_every_kind() -> None:
    flags = (
        "--text|a b.txt|c.txt|--batch_size|1e2|--bold|--part.rate|2e-3|--part.limit|none|--part.kind|slow|--words|jieba|--name|none|--run=r"
    )
    part = Part(2e-3, None, "slow")
    assert parse(*flags.split("|")) == Some(Path("r"), [Path("a b.txt"), Path("c.txt")], {}, 100, True, "none", "jieba", part)


@pytest.mark.parametrize(
    "flags",
    ["--weights.a 2 --weights.b-c=0.5", "--weights a=2 b-c=0.5", "--weights a=2 --weights b-c=0.5", "--weights.a=2 --weights.b-c 0.5"],
)
def test_a_dict_by_its_keys(flags: str) -> None:
    assert parse("--run", "r", *flags.split()).weights == {"a": 2.0, "b-c": 0.5}


@pytest.mark.parametrize(("given", "bold"), [(["true"], True), (["no"], False), ([], True)])
def test_switches(given: list[str], bold: bool) -> None:
    assert parse("--bold", *given, "--run", "r").bold is bold


def test_hyphens_do_for_underscores() -> None:
    assert parse("--run", "r", "--batch-size", 3) == parse("--run", "r", "--batch_size=3")


def test_a_file_and_flags_that_change_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("run: 'a'\ntext: [b, c]\nbatch_size: 5\nweights: {d: 2}\npart: {rate: 1e-2, limit: null}\n", encoding="utf-8")
    second.write_text("batch_size: 6\npart.kind: slow\nbold: true\n", encoding="utf-8")
    found = parse("--config", first, "--config", second, "--part.rate", "0.5", "--text", "e")
    assert found == Some(Path("a"), [Path("e")], {"d": 2.0}, 6, True, "x", None, Part(0.5, None, "slow"))
    assert parse("--config", first, second).part == Part(1e-2, None, "slow")
    assert parse("--run", "z", "--config", first).run == Path("z")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--run r --batch_sise 3", "There is no setting --batch_sise. Did you mean '--batch_size'? --help lists them."),
        ("--run r --part.rat 3", "There is no setting --part.rat. Did you mean '--part.rate'? --help lists them."),
        ("--run r stray", "There is no setting stray. --help lists them."),
        ("--text a", "--run is missing: where to."),
        ("--run r --batch_size three", "--batch_size is 'three'; expected a whole number."),
        ("--run r --batch_size 1.5", "--batch_size is '1.5'; expected a whole number."),
        ("--run r --part.rate fast", "--part.rate is 'fast'; expected a number."),
        ("--run r --bold perhaps", "--bold is 'perhaps'; expected true or false."),
        ("--run r --part.kind slwo", "--part.kind is 'slwo'; expected one of fast, slow. Did you mean 'slow'?"),
        ("--run r --weights a", "--weights got 'a'; expected NAME=VALUE."),
        ("--run r --weights a=b", "--weights.a is 'b'; expected a number."),
    ],
)
def test_errors_of_flags(flags: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *flags.split()) == told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("batch_sise: 3", "there is no setting batch_sise. Did you mean 'batch_size'?"),
        ("part: {rat: 3}", "there is no setting part.rat. Did you mean 'part.rate'?"),
        ("part: 3", "there is no setting part."),
        ("batch_size: 1.5", "--batch_size is 1.5; expected a whole number."),
        ("batch_size: true", "--batch_size is True; expected a whole number."),
        ("part: {rate: [1]}", "--part.rate is [1]; expected a number."),
        ("- a", "holds list; expected settings"),
        ("a: [", "Cannot read"),
    ],
)
def test_errors_of_files(content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(content + "\n", encoding="utf-8")
    assert told in refused(capsys, "--run", "r", "--config", tmp_path / "a.yaml")


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refused(capsys, "--run", "r", "--config", tmp_path / "none.yaml")


def test_help_tells_every_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert not stop.value.code
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        *("where to (required)", "files (default: none)", "how many (default: 8)", "whether (default: False)", "What a part is."),
        *(
            "--part.rate FLOAT how fast, in % of nothing (default: 0.001)",
            "--part.kind fast|slow which (default: fast)",
            "--text [PATH ...]",
        ),
    ):
        assert part in told


def test_the_recipes_settings_all_have_a_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    def names(kind: Any, prefix: str = "") -> Iterator[str]:
        for each in dataclasses.fields(kind):
            if dataclasses.is_dataclass(each.default_factory):
                yield from names(each.default_factory, f"{prefix}{each.name}.")
            else:
                yield prefix + each.name

    with pytest.raises(SystemExit):
        pretrain.main(["--help"])
    told = capsys.readouterr().out
    assert len(list(names(pretrain.Settings))) > 40
    assert all(f"--{name} " in told for name in names(pretrain.Settings))


def test_help_loads_no_backend() -> None:
    heavy = {"keras", "tensorflow", "jax", "torch", "yaml", "jieba", "tokenizers", "matplotlib"}
    code = f"import sys; from bert4k.cli import main\ntry: main(['pretrain', '--help'])\nfinally: print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


# A run folder. -------------------------------------------------------------------------------------------------------------------


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    same_settings(Some(tmp_path), path, ("batch_size",))
    same_settings(Some(tmp_path, batch_size=9, part=Part(rate=3.0)), path, ("batch_size", "part.rate"))
    assert stored_settings(path)["part"]["rate"] == 3.0  # those that were last given
    same_settings(Some(tmp_path), path, ("batch_size", "part"))
    changed = Some(tmp_path, batch_size=9, name="y", part=Part(rate=2.0))
    with pytest.raises(ConfigError, match=r"other settings: name was x, now y; part.rate was 0.001, now 2.0. Give the same") as told:
        same_settings(changed, path, ("batch_size",))
    assert "batch_size" not in str(told.value)


def test_a_setting_that_did_not_exist_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"run": str(tmp_path)}), encoding="utf-8")
    same_settings(Some(tmp_path), path, ())


def test_damaged_settings(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is damaged"):
        same_settings(Some(tmp_path), tmp_path / "settings.json", ())


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "new"):
        with pytest.raises(CheckpointError, match="Another process"), alone(tmp_path / "new"):
            pass
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "new"):
        pass
    with pytest.raises(BlockingIOError), alone(tmp_path / "new"):
        raise BlockingIOError  # which is not about the folder


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot write to"), alone(tmp_path / "file" / "run"):
        pass


# Several devices; what they compute is in pretraining/test_distribution.py. ------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "devices", "environment", "told"),
    [
        ("torch", "data", {}, "Keras does not distribute data on torch. Use KERAS_BACKEND=jax or tensorflow, or devices=one."),
        ("tensorflow", "model", {}, "Keras does not distribute model on tensorflow. Use KERAS_BACKEND=jax, or devices=one."),
        ("jax", "everything", {}, "devices is 'everything'; expected one, data or model."),
        (
            "jax",
            "one",
            {"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"},
            "Several processes train together with KERAS_BACKEND=jax and devices=data",
        ),
        ("tensorflow", "data", {"TF_CONFIG": "{}"}, "MultiWorkerMirroredStrategy"),
    ],
)
def test_what_cannot_be_distributed(
    backend: str, devices: str, environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error, distribution(devices):
        pass
    assert told in str(error.value)


def test_one_device_needs_no_scope() -> None:
    with distribution("one"):
        assert recipe.distribution is distribution

"""The script that measures the parts of linking, on a toy knowledge base and without networks: what it runs, keeps and tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import linking_toys
import pytest

from bert4k.tasks import entity_linking
from bert4k.tasks.shipped import linking_ablations
from bert4k.tasks.shipped.linking_ablations import STUDIES, Study, Variant, files, summary

COUNTED: dict[str, Any] = {"head": "dictionary", "ranker": "counts"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("toys", "levels"):
        (tmp_path / name).mkdir()
        _, texts = linking_toys.write(tmp_path / name)
        texts.rename(texts.with_name("train.jsonl"))
        for dev in ("dev.jsonl",) if name == "toys" else ("dev-0.00.jsonl", "dev-1.00.jsonl"):
            (tmp_path / name / dev).write_text((tmp_path / name / "train.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def test_it_measures_and_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    variants = {"counted": Variant(COUNTED), "often": Variant(COUNTED | {"least_links": 2}, parts="counted")}
    studies = {name: Study(name, "who is meant", ("f1", "accuracy"), variants, {"longest": 16}) for name in ("toys", "levels")}
    monkeypatch.setattr(linking_ablations, "STUDIES", studies)
    out = data / "out.json"

    def measure(*flags: str) -> Any:
        linking_ablations.main(["wenbai", "--data", str(data), "--runs", str(data / "runs"), "--out", str(out), *flags])
        return json.loads(out.read_text(encoding="utf-8"))

    first = measure("--only", "toys", "--seeds", "1")["toys"]["variants"]
    assert list(first) == ["counted", "often"] and first["often"]["parts"] == "counted"
    # 王明 is one as often as the other, 小北 always the same: nothing but counts is known here.
    assert 50 < first["counted"]["scores"]["f1"]["mean"] < 100
    trained = Mock(side_effect=entity_linking.train)
    monkeypatch.setattr(entity_linking, "train", trained)
    found = measure("--seeds", "1", "2")
    assert trained.call_count == 2 + 4  # seed 2 of the toys, and all of the other study
    assert [each["seed"] for each in found["toys"]["variants"]["often"]["runs"]] == [1, 2]
    assert found["toys"]["variants"]["counted"]["scores"]["f1"]["spread"] == 0.0
    by_level = found["levels"]["variants"]["counted"]["scores"]
    assert set(by_level) == {f"{level} {score}" for level in ("0.00", "1.00") for score in ("f1", "accuracy")}
    assert by_level["0.00 f1"] == by_level["1.00 f1"] == found["toys"]["variants"]["counted"]["scores"]["f1"]
    told = capsys.readouterr().out
    assert "| often | " in told and "| variant | f1 | accuracy | seeds | seconds a run |" in told

    studies["toys"].settings["longest"] = 24  # made otherwise: made anew
    measure("--only", "toys", "--seeds", "1", "--variants", "often")
    assert trained.call_count == 7
    measure("--only", "toys", "--seeds", "1")
    assert trained.call_count == 8
    with pytest.raises(SystemExit):
        measure("--only", "toys", "--variants", "seldom")
    assert "no variant of toys is called seldom; known are counted, often" in capsys.readouterr().err


def test_the_middle_level_chooses_epochs_and_few_lines_are_learnt_from(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(linking_ablations.LEARNT_FROM, "levels", 5)
    found = files(data, "levels", data)
    assert found["dev"].name == "dev-1.00.jsonl" and set(found) >= {"dev-0.00", "dev-1.00"}
    assert len(found["train"].read_text(encoding="utf-8").splitlines()) == 5
    assert files(data, "toys", data)["dev"].name == "dev.jsonl"


def test_the_studies_name_what_there_is() -> None:
    for name, study in STUDIES.items():
        for variant in study.variants.values():
            assert variant.parts is None or variant.parts in study.variants
            if variant.network:
                other, of = variant.network.split("/")
                assert of in STUDIES[other].variants and list(STUDIES).index(other) < list(STUDIES).index(name)
    assert summary([{"scores": {"f1": 1.0}}, {"scores": {"f1": 2.0}}]) == {"f1": {"mean": 1.5, "spread": 1.0}}

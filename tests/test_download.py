"""Checkpoints of the catalogue, brought from a server on this machine."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server import Server, serving, sha256

import bert4k
from bert4k import transfer
from bert4k.download import download, home, local_copy, locate
from bert4k.errors import CheckpointError, ConfigError
from bert4k.pretrained import catalogue, folder_of

FILES = {"bert_config.json": b"{}", "vocab.txt": b"[PAD]\n" * 50, "bert_model.ckpt.index": bytes(range(256)) * 40}
EMPTY = dict.fromkeys(catalogue()["wenbai"])


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


ARCHIVE = zipped({f"chinese/{name}": data for name, data in FILES.items()})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    with serving() as started:
        yield started


@pytest.fixture
def rows(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """A catalogue with one archive, one repository of the hub, and one that people have to fetch; BERT4K_HOME is new and empty."""
    monkeypatch.setenv("BERT4K_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    names = [{"name": name, "megabytes": None, "sha256": None} for name in FILES]
    made = {
        "packed": EMPTY | {"name": "packed", "archive": server.put("/packed.zip", ARCHIVE), "sha256": sha256(ARCHIVE), "files": []},
        "hub": EMPTY | {"name": "hub", "huggingface": "org/model", "files": names},
        "by-hand": EMPTY | {"name": "by-hand", "source": "https://a.page", "mirror": "https://a.mirror", "files": []},
    }
    for name, content in FILES.items():
        server.put(f"/org/model/resolve/main/{name}", content, etag=f'"{sha256(content)}"', headers={"X-Repo-Commit": "a" * 40})
    for module in ("bert4k.download", "bert4k.hub"):
        monkeypatch.setattr(f"{module}.catalogue", lambda: made)
    return made


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left(folder: Path) -> list[str]:
    """What stands in a folder but for locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BERT4K_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("BERT4K_HOME")
    assert home() == Path.home() / ".cache" / "bert4k"


@pytest.mark.parametrize("name", ["packed", "hub"])
def test_a_checkpoint_comes_into_its_place(rows: dict[str, Any], name: str, server: Server) -> None:
    assert local_copy(name) is None
    folder = download(name)
    assert folder == home() / name == local_copy(name) == locate(name)
    assert found(folder) == FILES
    assert left(home()) == [name]
    requests = len(server.requests)
    assert download(name) == locate(name, True) == folder
    assert len(server.requests) == requests, "what is here is not fetched"


@pytest.mark.parametrize("name", ["packed", "hub"])
def test_a_folder_of_ones_own(rows: dict[str, Any], name: str, tmp_path: Path) -> None:
    assert found(download(name, tmp_path / "a" / "b")) == FILES
    assert left(tmp_path / "a") == ["b"]
    assert local_copy(name) is None
    with pytest.raises(CheckpointError, match="exists and is not an empty folder"):
        download(name, tmp_path / "a" / "b")
    assert found(tmp_path / "a" / "b") == FILES


@pytest.mark.parametrize("name", ["packed", "hub"])
def test_nothing_is_fetched_unless_asked(rows: dict[str, Any], name: str, server: Server) -> None:
    for ask in (locate, bert4k.load, bert4k.inspect):
        with pytest.raises(CheckpointError) as caught:
            ask(name)
        message = str(caught.value)
        assert f"`bert4k download {name}`" in message
        assert str(home() / name) in message
        assert "download=True" in message
        assert (server.address + "/packed.zip" if name == "packed" else "https://huggingface.co/org/model") in message
    assert server.requests == []
    assert not home().exists()


def test_what_a_program_cannot_fetch(rows: dict[str, Any]) -> None:
    for ask in (locate, download):
        with pytest.raises(CheckpointError, match=r"https://a\.page \(or https://a\.mirror\), unpack it, and put the files into .*by-hand"):
            ask("by-hand")


def test_a_copy_made_by_hand(rows: dict[str, Any]) -> None:
    (home() / "by-hand").mkdir(parents=True)
    (home() / "by-hand" / "vocab.txt").write_text("[PAD]")
    assert locate("by-hand") == download("by-hand") == home() / "by-hand"


def test_an_unknown_name(rows: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'packed'"):
        download("pakked")


@pytest.mark.parametrize("name", ["packed", "hub"])
def test_a_missing_file(rows: dict[str, Any], name: str, server: Server) -> None:
    del server.pages["/packed.zip"]
    server.put("/org/model/resolve/main/vocab.txt", b"", status=404, headers={"X-Error-Code": "EntryNotFound"})
    with pytest.raises(CheckpointError, match=r"cannot be fetched.*404"):
        download(name)
    assert local_copy(name) is None


@pytest.mark.parametrize(("name", "path"), [("packed", "/packed.zip"), ("hub", "/org/model/resolve/main/bert_model.ckpt.index")])
def test_a_broken_connection(rows: dict[str, Any], name: str, path: str, server: Server) -> None:
    server.pages[path].breaks = [5000]
    assert found(download(name)) == FILES
    # huggingface_hub writes blocks of 10 MB and begins the one anew that it was in.
    assert server.ranges(path) == [None, "bytes=5000-" if name == "packed" else None]


def test_a_mirror_that_leads_elsewhere(rows: dict[str, Any], server: Server) -> None:
    content = FILES["vocab.txt"]
    server.put("/elsewhere", content)
    told = {"X-Repo-Commit": "a" * 40, "X-Linked-Size": str(len(content)), "X-Linked-ETag": '"x"'}
    elsewhere = server.address.replace("127.0.0.1", "localhost") + "/elsewhere"
    server.put("/org/model/resolve/main/vocab.txt", b"", etag=None, leads_to=elsewhere, headers=told)
    assert found(download("hub")) == FILES
    assert server.ranges("/elsewhere") == [None]


def test_a_mirror_that_cannot_be_reached(rows: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.address)
    with pytest.raises(CheckpointError, match=rf"{gone.address}: .*refused"):
        download("hub")
    assert local_copy("hub") is None


def test_a_wrong_checksum_of_an_archive(rows: dict[str, Any], server: Server) -> None:
    server.put("/packed.zip", ARCHIVE + b"!")
    with pytest.raises(CheckpointError, match="is not the file that it should be"):
        download("packed")
    assert local_copy("packed") is None
    server.put("/packed.zip", ARCHIVE)
    assert found(download("packed")) == FILES


def test_a_wrong_checksum_of_a_file(rows: dict[str, Any], server: Server) -> None:
    rows["hub"]["files"][1]["sha256"] = "0" * 64
    with pytest.raises(CheckpointError, match=r"vocab\.txt of org/model is not the file that it should be"):
        download("hub")
    assert local_copy("hub") is None
    rows["hub"]["files"][1]["sha256"] = sha256(FILES["vocab.txt"])
    assert found(download("hub")) == FILES


def test_an_archive_that_means_harm(rows: dict[str, Any], server: Server, tmp_path: Path) -> None:
    rows["packed"]["sha256"] = None
    for harm, message in (({"../../evil": b"x"}, "leads out of its folder"), ({"a": bytes(90_000_000)}, "would unpack to more")):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in harm.items():
                archive.writestr(name, data)
        server.put("/packed.zip", content.getvalue())
        with pytest.raises(CheckpointError, match=message):
            download("packed")
        assert left(home()) == []
    assert not list(tmp_path.rglob("evil"))


def test_a_tar(rows: dict[str, Any], server: Server) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in FILES.items():
            member = tarfile.TarInfo(f"albert_base/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    rows["packed"] |= {"archive": server.put("/albert_base_zh.tar.gz", content.getvalue()), "sha256": None}
    assert found(download("packed")) == FILES


def script(rows: dict[str, Any], name: str) -> subprocess.Popen[str]:
    """Another process that downloads."""
    code = f"import json, bert4k.download as d; d.catalogue = lambda: json.loads({json.dumps(rows)!r}); print(d.download({name!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1], env=dict(os.environ)
    )


def until(condition: Any) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def test_two_processes_fetch_it_once(rows: dict[str, Any], server: Server) -> None:
    server.pages["/packed.zip"].hangs = [1000]
    first = script(rows, "packed")
    until(lambda: server.requests)
    second = script(rows, "packed")
    time.sleep(1.5)  # time enough to start and to wait for the first
    server.released.set()
    assert [process.communicate(timeout=60)[0].strip() for process in (first, second)] == [str(home() / "packed")] * 2
    assert found(home() / "packed") == FILES
    assert len(server.requests) == 1


def test_a_killed_process_leaves_what_the_next_goes_on_from(rows: dict[str, Any], server: Server) -> None:
    server.pages["/packed.zip"].hangs = [5000]
    process = script(rows, "packed")
    part = home() / ".packed.partial" / "packed.zip.part"
    until(lambda: server.requests)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    server.released.set()
    assert local_copy("packed") is None
    come = part.stat().st_size
    assert found(download("packed")) == FILES
    assert left(home()) == ["packed"]
    assert server.ranges("/packed.zip")[1] == (f"bytes={come}-" if come else None)


def test_a_process_that_was_killed_while_it_unpacked(rows: dict[str, Any], server: Server) -> None:
    partial = home() / ".packed.partial"
    (partial / "complete").mkdir(parents=True)
    (partial / "complete" / "half").write_text("half")
    (partial / "packed.zip").write_bytes(ARCHIVE)
    assert found(download("packed")) == FILES
    assert server.requests == []
    assert left(home()) == ["packed"]


def test_a_home_that_cannot_be_written(rows: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BERT4K_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(CheckpointError, match="Cannot write to"):
        download("packed")


def test_without_the_library(rows: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'bert4k\[hub\]'"):
        download("hub")


def test_load_downloads_when_asked(rows: dict[str, Any], server: Server) -> None:
    """The checkpoint that comes along, under another name."""
    files = {path.name: path.read_bytes() for path in folder_of("wenbai").iterdir() if path.suffix in (".json", ".txt", ".index")}
    files |= {path.name: path.read_bytes() for path in folder_of("wenbai").glob("*.data-*")}
    content = zipped(files)
    rows["packed"] |= {"archive": server.put("/model.zip", content), "sha256": sha256(content)}
    model, tokenizer = bert4k.load("packed", download=True)
    assert len(tokenizer) == model.config.vocab_size
    assert bert4k.inspect("packed").config == model.config
    assert bert4k.load("packed")[0].config == model.config
    assert len(server.requests) == 1


def test_a_torch_checkpoint_of_the_hub_loads(rows: dict[str, Any], server: Server, tmp_path: Path) -> None:
    """`pytorch_model.bin` with its tied output layer, in both formats, as the Hugging Face library saves it."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    theirs = transformers.BertForPreTraining(config).eval()
    theirs.config.save_pretrained(tmp_path)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(0x4E00 + number) for number in range(25))]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    for new in (True, False):
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=new)
        rows["hub"]["files"] = [
            {"name": name, "megabytes": None, "sha256": None} for name in ("config.json", "vocab.txt", "pytorch_model.bin")
        ]
        for name in ("config.json", "vocab.txt", "pytorch_model.bin"):
            content = (tmp_path / name).read_bytes()
            server.put(f"/org/model/resolve/main/{name}", content, etag=f'"{sha256(content)}"', headers={"X-Repo-Commit": "a" * 40})
        model, tokenizer = bert4k.load(download("hub", tmp_path / f"copy-{new}"), outputs=("sequence", "pooled", "mlm", "nsp"))
        batch = tokenizer(["一丁七", "万丈三上下"])
        ours = model.predict(batch)
        with torch.no_grad():
            ids, segments = (torch.tensor(np.asarray(batch[name])) for name in ("token_ids", "segment_ids"))
            expected = theirs(input_ids=ids, token_type_ids=segments, attention_mask=(ids != 0).long())
        real = np.asarray(batch["token_ids"]) != 0
        assert np.abs(np.asarray(ours["mlm"])[real] - expected.prediction_logits.numpy()[real]).max() < 1e-4
        assert np.abs(np.asarray(ours["nsp"]) - expected.seq_relationship_logits.numpy()).max() < 1e-4

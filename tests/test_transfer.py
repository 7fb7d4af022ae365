"""One file from a server on this machine that breaks off, changes its file, or knows no ranges."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server, serving, sha256

from bert4k import transfer
from bert4k.errors import CheckpointError
from bert4k.transfer import fetch

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setattr(transfer, "TIMEOUT", 5)
    with serving() as started:
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


def only(file: Path) -> bool:
    """Whether the file is all that there is in its folder."""
    return list(file.parent.iterdir()) == [file]


def test_a_whole_file(server: Server, file: Path) -> None:
    fetch(server.put("/a", CONTENT), file, sha256(CONTENT))
    assert file.read_bytes() == CONTENT
    assert only(file)
    assert server.ranges("/a") == [None]


def test_an_empty_file(server: Server, file: Path) -> None:
    fetch(server.put("/a", b""), file)
    assert file.read_bytes() == b""
    assert only(file)


def test_broken_connections_are_taken_up_where_they_broke(server: Server, file: Path) -> None:
    fetch(server.put("/a", CONTENT, breaks=[100_000, 50_000, 1]), file)
    assert file.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]


def test_more_breaks_than_tries_are_no_matter_while_something_comes(server: Server, file: Path) -> None:
    fetch(server.put("/a", CONTENT[:1000], breaks=[50] * 15), file)
    assert file.read_bytes() == CONTENT[:1000]


def test_a_server_without_ranges(server: Server, file: Path) -> None:
    fetch(server.put("/a", CONTENT, ranges=False, breaks=[100_000, 200_000]), file)
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_version_nothing_is_taken_up(server: Server, file: Path, etag: str | None) -> None:
    """Two halves of two files would make one of the right size."""
    fetch(server.put("/a", CONTENT, etag=etag, breaks=[100_000]), file)
    assert file.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, None]


def test_the_time_of_the_change_is_a_version(server: Server, file: Path) -> None:
    when = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.put("/a", CONTENT, etag=None, headers={"Last-Modified": when}, breaks=[1000])
    fetch(server.address + "/a", file)
    assert file.read_bytes() == CONTENT
    assert server.ranges("/a") == [None, "bytes=1000-"]


@pytest.mark.parametrize("minds", [True, False])
def test_a_changed_file_is_fetched_from_its_start(server: Server, file: Path, minds: bool) -> None:
    """Whether the server minds If-Range, or offers the rest of the other file."""
    url = server.put("/a", CONTENT, breaks=[100_000, 0, 0, 0, 0, 0, 0])
    with pytest.raises(CheckpointError, match="100,000 bytes have come and stay"):
        fetch(url, file)
    assert not file.exists()
    server.put("/a", OTHER, etag='"two"', minds_if_range=minds)
    server.requests.clear()
    fetch(url, file, sha256(OTHER))
    assert only(file)
    assert server.ranges("/a") == (["bytes=100000-"] if minds else ["bytes=100000-", None])


def test_an_interrupted_process_is_taken_up_by_the_next(server: Server, file: Path) -> None:
    file.with_name("model.bin.part").write_bytes(CONTENT[:123_456])
    file.with_name("model.bin.version").write_text('"one"')
    fetch(server.put("/a", CONTENT), file, sha256(CONTENT))
    assert file.read_bytes() == CONTENT
    assert server.ranges("/a") == ["bytes=123456-"]
    assert only(file)


def test_a_stop_just_when_another_version_is_noted(server: Server, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.with_name("model.bin.part").write_bytes(CONTENT[:1000])
    file.with_name("model.bin.version").write_text('"one"')
    url = server.put("/a", OTHER, etag='"two"')
    write = Path.write_text

    def stopping(path: Path, *arguments: object, **options: object) -> None:
        write(path, *arguments, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", stopping)
        fetch(url, file)
    fetch(url, file)
    assert file.read_bytes() == OTHER


def test_what_is_left_of_nobody_knows_what_is_not_used(server: Server, file: Path) -> None:
    file.with_name("model.bin.part").write_bytes(b"x" * 5000)
    fetch(server.put("/a", CONTENT), file)
    assert file.read_bytes() == CONTENT


def test_what_is_left_is_longer_than_the_file(server: Server, file: Path) -> None:
    file.with_name("model.bin.part").write_bytes(CONTENT + b"more")
    file.with_name("model.bin.version").write_text('"one"')
    fetch(server.put("/a", CONTENT), file)
    assert file.read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, file: Path) -> None:
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {sha256(OTHER)}, expected {sha256(CONTENT)}"):
        fetch(server.put("/a", OTHER), file, sha256(CONTENT))
    assert list(file.parent.iterdir()) == []
    server.put("/a", CONTENT)
    fetch(server.address + "/a", file, sha256(CONTENT))
    assert only(file)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_told_at_once(server: Server, file: Path, status: int) -> None:
    url = server.put("/a", b"no", status=status)
    with pytest.raises(CheckpointError, match=rf"{url} cannot be fetched: the server answers {status} "):
        fetch(url, file)
    assert len(server.requests) == 1
    assert list(file.parent.iterdir()) == []


def test_a_passing_failure_passes(server: Server, file: Path) -> None:
    fetch(server.put("/a", CONTENT, failures=[503, 429, 500]), file)
    assert file.read_bytes() == CONTENT


def test_a_failure_that_does_not_pass(server: Server, file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the server answers 503 .* 0 bytes have come"):
        fetch(server.put("/a", CONTENT, failures=[503] * 99), file)
    assert len(server.requests) <= transfer.TRIES + 1


def test_no_server(file: Path) -> None:
    with serving() as server:
        url = server.put("/a", CONTENT)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CheckpointError, match=r"cannot be fetched: .*refused"):
        patch.setattr(transfer, "PAUSE", 0.0)
        fetch(url, file)


def test_a_redirect(server: Server, file: Path) -> None:
    server.put("/b", CONTENT, breaks=[1000])
    fetch(server.put("/a", b"", leads_to="/b"), file, sha256(CONTENT))
    assert file.read_bytes() == CONTENT
    assert server.ranges("/b") == [None, "bytes=1000-"]


def test_a_redirect_to_a_file_of_this_machine(server: Server, file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with pytest.raises(CheckpointError):
        fetch(server.put("/a", b"", leads_to=secret.as_uri()), file)
    assert not file.exists()


def test_a_file_of_unknown_length(server: Server, file: Path) -> None:
    fetch(server.put("/a", CONTENT, told_size=False), file, sha256(CONTENT))
    assert file.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot write"):
        fetch(server.put("/a", CONTENT), tmp_path / "none" / "model.bin")

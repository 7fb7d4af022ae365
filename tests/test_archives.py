"""Archives as they are published, and archives that mean harm."""

import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bert4k.archives import unpack
from bert4k.errors import CheckpointError

FILES = {"bert_config.json": b"{}", "vocab.txt": b"[PAD]\n" * 100, "sub/bert_model.ckpt.index": bytes(1000)}
LIMIT = 10_000


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


MAKERS = {
    "zip": zipped,
    "gz": tarred,
    "tar": lambda path, files: tarred(path, files, "w:"),
    "xz": lambda path, files: tarred(path, files, "w:xz"),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    return lambda files: MAKERS[request.param](tmp_path / "archive", files)


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("top", ["", "chinese_L-12_H-768_A-12/", "./chinese/"])
def test_a_folder_at_the_top_is_left_out(make: Callable[..., Path], tmp_path: Path, top: str) -> None:
    unpack(make({top + name: content for name, content in FILES.items()}), tmp_path / "new", LIMIT)
    assert found(tmp_path / "new") == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "new"}


def test_what_macos_adds_is_left_out(make: Callable[..., Path], tmp_path: Path) -> None:
    unpack(
        make({f"m/{name}": content for name, content in FILES.items()} | {"__MACOSX/m/._x": b"", "m/.DS_Store": b""}),
        tmp_path / "new",
        LIMIT,
    )
    assert found(tmp_path / "new") == FILES


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "\\evil", "C:\\evil", "C:evil", "a/b/../../../evil", ".."]
)
def test_paths_that_escape(make: Callable[..., Path], tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        unpack(make({"vocab.txt": b"x", name: b"evil"}), tmp_path / "new", LIMIT)
    assert [path.name for path in tmp_path.rglob("*")] == ["archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "archive", "w") as archive:
        member = tarfile.TarInfo("m/link")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(CheckpointError, match="a link or a device"):
        unpack(tmp_path / "archive", tmp_path / "new", LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        info = zipfile.ZipInfo("m/link")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(CheckpointError, match="a link or a device"):
        unpack(tmp_path / "archive", tmp_path / "new", LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_more_bytes_than_stated(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="would unpack to more than 10,000 bytes"):
        unpack(make({"a": bytes(6000), "b": bytes(6000)}), tmp_path / "new", LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_header_of_a_tar_that_is_a_bomb(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"comment": "x" * 1_000_000}
        archive.addfile(member)
    with pytest.raises(CheckpointError, match="a header is longer"):
        unpack(tmp_path / "archive", tmp_path / "new", LIMIT)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_path_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("m/a", b"1")
        archive.writestr("m/./a", b"2")
    with pytest.raises(CheckpointError, match="holds m/a twice"):
        unpack(tmp_path / "archive", tmp_path / "new", LIMIT)


def test_a_file_that_is_also_a_folder(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot unpack"):
        unpack(make({"a": b"1", "a/b": b"2"}), tmp_path / "new", LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_damaged_archives_leave_nothing(make: Callable[..., Path], tmp_path: Path) -> None:
    """Every archive that is cut off or has a changed byte unpacks to the same files or not at all."""
    archive = make(FILES)
    whole = archive.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            archive.write_bytes(damaged)
            try:
                unpack(archive, tmp_path / "new", LIMIT)
            except CheckpointError:
                assert [path.name for path in tmp_path.iterdir()] == ["archive"]
            else:
                for path in (tmp_path / "new").rglob("*"):
                    assert path.resolve().is_relative_to(tmp_path / "new")
                shutil.rmtree(tmp_path / "new")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "archive", {"a": b"secret"}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or in a form that is not understood"):
        unpack(tmp_path / "archive", tmp_path / "new", LIMIT)


def test_a_page_instead_of_an_archive(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("<html>Too large to be scanned for viruses</html>")
    with pytest.raises(CheckpointError, match="neither a zip nor a tar archive; it begins with b'<html>"):
        unpack(tmp_path / "archive", tmp_path / "new", LIMIT)

"""Unpacking an archive that comes from elsewhere: files only, inside one folder, and no more bytes than expected."""

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from bert4k.errors import CheckpointError


class _Entry(NamedTuple):
    """One file of an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Unpack a zip or tar archive (also .gz, .bz2, .xz) into a new folder.

    A folder at the top that holds everything is left out, as is what macOS adds. Raises `CheckpointError`, with nothing left behind, for
    an archive that is damaged, that would unpack to more than `limit` bytes, or that has an absolute path, a path out of its
    folder, a link, a device, or one path twice.
    """
    files: dict[PurePosixPath, Path] = {}
    total = 0
    content = folder.with_name(f"{folder.name}.files")
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir(parents=True)
    try:
        for entry in _entries(archive, limit):
            path = _inside(entry.name, archive)
            if path.parts[0] == "__MACOSX" or path.name == ".DS_Store":
                continue
            if path in files:
                raise CheckpointError(f"{archive} holds {path} twice. Do not trust this archive.")
            total += entry.size
            if total > limit:
                raise CheckpointError(
                    f"{archive} would unpack to more than {limit:,} bytes, more than such a checkpoint has. Do not trust this archive."
                )
            files[path] = content / str(len(files))  # names of our own until all are known
            with files[path].open("xb") as out:
                if (source := entry.open()) is not None:
                    with source:
                        shutil.copyfileobj(source, out, 1 << 20)
        top = {path.parts[0] for path in files}
        skip = 1 if len(top) == 1 and all(len(path.parts) > 1 for path in files) else 0
        for path, unpacked in files.items():
            target = folder.joinpath(*path.parts[skip:])
            target.parent.mkdir(parents=True, exist_ok=True)
            unpacked.rename(target)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointError(f"{archive} is damaged or in a form that is not understood ({error}). Fetch it again.") from error
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointError(f"Cannot unpack {archive}: {error}. Is the disk full, or the archive cut off?") from error
    finally:
        shutil.rmtree(content, ignore_errors=True)


def _entries(archive: Path, limit: int) -> Iterator[_Entry]:
    """The files of an archive, in its order; anything that is no file or folder is refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _no_file(info.filename, archive)
                if not info.is_dir():
                    yield _Entry(info.filename, info.file_size, partial(opened.open, info))
        return
    if not tarfile.is_tarfile(archive):
        with archive.open("rb") as page:
            start = page.read(40)
        raise CheckpointError(
            f"{archive} is neither a zip nor a tar archive; it begins with {start!r}. A page to click through, perhaps:"
            " fetch the archive with a browser, and unpack it yourself."
        )
    with _decompressed(archive) as file, tarfile.open(fileobj=_Bounded(file, limit), mode="r:") as tar:  # type: ignore[call-overload]
        for member in tar:
            if not (member.isreg() or member.isdir()):
                raise _no_file(member.name, archive)
            if member.isreg():
                yield _Entry(member.name, member.size, partial(tar.extractfile, member))


class _Bounded:
    """A file that is never read in more than `limit` bytes at once. A tar archive may have headers of any length, which Python's reader
    takes into memory whole: some thousand times more than the archive has, when it is compressed."""

    def __init__(self, file: IO[bytes], limit: int):
        self._file, self._limit = file, limit
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._limit:
            raise tarfile.ReadError("a header is longer than all files should be together")
        return self._file.read(size)


def _decompressed(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        start = file.read(6)
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if start.startswith(magic):
            return opened(archive)  # type: ignore[return-value]
    return archive.open("rb")


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The path of an entry, if it stays in its folder on every system."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise CheckpointError(f"{archive} holds the path {name!r}, which leads out of its folder. Do not trust this archive.")
    return path


def _no_file(name: str, archive: Path) -> CheckpointError:
    return CheckpointError(f"{archive} holds {name!r}, a link or a device; expected files only. Do not trust this archive.")

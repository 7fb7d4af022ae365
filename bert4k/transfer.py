"""One file over HTTP(S): resumed when the connection breaks, checked, and in its place only when it is whole."""

import hashlib
import os
import time
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from bert4k.errors import CheckpointError
from bert4k.progress import measured

TRIES = 5  # connections in a row that bring nothing new
PAUSE = 0.5  # seconds before the second one; each further pause is twice as long
TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_PASSING = (408, 416, 425, 429, 500, 502, 503, 504)  # answers that may be others next time


def fetch(url: str, file: Path, sha256: str | None = None) -> None:
    """Bring what stands at `url` to `file`, whose folder exists.

    Until it is whole it stands beside as `NAME.part`, with the version that the server told (ETag or Last-Modified) in `NAME.version`.
    A broken connection is taken up again where it broke, now or in a later call, by a Range request that holds for that
    version only: a file that has changed, or whose server tells no version or no ranges, is fetched from its start.

    Raises `CheckpointError` when the server refuses, when TRIES connections in a row bring nothing, or when the SHA-256 is another one
    (what has come is removed then; else it stays for the next call).
    """
    part, version = _beside(file, "part"), _beside(file, "version")
    idle, most = 0, -1
    while True:
        try:
            _receive(url, part, version)
            break
        except HTTPError as error:
            if error.code not in _PASSING:
                raise CheckpointError(
                    f"{url} cannot be fetched: the server answers {error.code} ({error.reason})."
                    " It may have moved; the page of its publisher, which `bert4k list --json` names, tells where it is now."
                ) from error
            if error.code == 416:  # the server has no byte there: what has come is not a beginning of its file
                part.unlink(missing_ok=True)
            reason = f"the server answers {error.code} ({error.reason})"
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        except OSError as error:
            raise CheckpointError(f"Cannot write {part}: {error.strerror}. Choose a folder with space and write permission.") from error
        come = _size(part)
        idle = 0 if come > most else idle + 1
        most = max(most, come)
        if idle >= TRIES:
            raise CheckpointError(
                f"{url} cannot be fetched: {reason}. {come:,} bytes have come and stay in {part}; the same command goes on from there."
            )
        time.sleep(PAUSE * 2**idle)
    version.unlink(missing_ok=True)
    if sha256 is not None:
        check(part, sha256, url)
    os.replace(part, file)


def check(file: Path, sha256: str, origin: str) -> None:
    """Remove a file that does not have this SHA-256 and raise `CheckpointError`, which names where it came from."""
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != sha256:
        file.unlink()
        raise CheckpointError(
            f"{origin} is not the file that it should be: its SHA-256 is {found}, expected {sha256}. It was removed."
            " Fetch it from its publisher, and do not trust this address."
        )


def _receive(url: str, part: Path, version: Path) -> None:
    """Receive the rest of a file, or all of it, over one connection. Raises ConnectionError when that ends too early."""
    request = Request(url, headers={"User-Agent": "bert4k", "Accept-Encoding": "identity"})
    come, known = _size(part), version.read_text(encoding="utf-8") if version.exists() else ""
    if come and known:
        request.add_header("Range", f"bytes={come}-")
        request.add_header("If-Range", known)
    with urlopen(request, timeout=TIMEOUT) as response:
        if urlsplit(url).scheme == "https" != urlsplit(response.url).scheme:
            raise CheckpointError(f"{url} leads to {response.url}, where anyone on the way could change the file. It was not fetched.")
        range_, told = response.headers.get("Content-Range", ""), _version(response.headers)
        resumed = response.status == 206
        if resumed and (told != known or not range_.startswith(f"bytes {come}-")):
            part.unlink(missing_ok=True)  # what is offered is the rest of another file, or another part of it
            raise ConnectionError("the file has changed at its source")
        length = range_.rpartition("/")[2] if resumed else response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if not resumed:
            come = 0
            part.unlink(missing_ok=True)  # before its new version is noted: a stop in between must not join two files
        version.write_text(told, encoding="utf-8")
        with part.open("ab") as out, measured(total, f"fetching {part.stem}", in_bytes=True) as advance:
            advance(come)
            while block := response.read(_BLOCK):
                out.write(block)
                advance(len(block))
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _version(headers: Message) -> str:
    """What tells one version of a file from another: a strong ETag or the time of its change; "" when the server tells none."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(f"{file.name}.{ending}")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0

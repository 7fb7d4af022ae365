"""Sorted tables in leveldb's file format, which TensorFlow uses for `PREFIX.index`.

A table is a row of blocks and a 48-byte footer. A block is a list of entries with the prefix shared with the key before left out,
then the positions of the keys written in full; after it come one byte of compression (0 none, 1 Snappy) and a masked CRC-32C.
Format: leveldb `doc/table_format.md`, TensorFlow `core/lib/io/table_builder.cc`.
"""

from collections.abc import Iterable, Iterator
from itertools import takewhile

import cramjam
import google_crc32c
import numpy as np

from bert4k.checkpoints.stored import Array

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression and CRC
_RESTART_INTERVAL = 16


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The base-128 number at `at`, least significant group first, and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def to_varint(value: int) -> bytes:
    """`value` >= 0 as a base-128 number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def masked_crc(data: bytes | Array) -> int:
    """CRC-32C, rotated and shifted as leveldb does so that a CRC of data that contains CRCs stays useful."""
    if not isinstance(data, bytes):
        data = data.reshape(-1).view(np.uint8)  # bfloat16 has no buffer interface of its own
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every (key, value) of a table, in order. Raises `ValueError` or `IndexError` when the table is damaged."""
    if len(data) < _FOOTER_BYTES or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ValueError("it does not end with the mark of a table, so it is cut off or another kind of file")
    at = len(data) - _FOOTER_BYTES
    _, at = varint(data, at)  # the metaindex block, which TensorFlow leaves empty
    _, at = varint(data, at)
    for _, handle in _entries(_block(data, *_handle(data, at))):
        yield from _entries(_block(data, *_handle(handle, 0)))


def write_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of (key, value) pairs sorted by key, in one uncompressed block: what TensorFlow writes, up to 256 KB byte for byte."""
    table = bytearray()

    def add(block: bytes) -> bytes:
        handle = to_varint(len(table)) + to_varint(len(block))
        table.extend(block + b"\0" + masked_crc(block + b"\0").to_bytes(4, "little"))
        return handle

    entries = list(entries)
    content = add(_to_block(entries))
    metaindex = add(_to_block([]))
    index = add(_to_block([(_successor(entries[-1][0]), content)]))
    footer = (metaindex + index).ljust(_FOOTER_BYTES - 8, b"\0") + _MAGIC.to_bytes(8, "little")
    return bytes(table + footer)


def _handle(data: bytes, at: int) -> tuple[int, int]:
    """The position and size of a block."""
    start, at = varint(data, at)
    return start, varint(data, at)[0]


def _block(data: bytes, start: int, size: int) -> bytes:
    end = start + size
    if end + _TRAILER_BYTES > len(data):
        raise ValueError(f"a block ends at byte {end + _TRAILER_BYTES:,} of {len(data):,}, so the file is cut off")
    if masked_crc(data[start : end + 1]) != int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little"):
        raise ValueError(f"the checksum of the block at byte {start:,} does not match, so at least one bit has changed")
    match data[end]:
        case 0:
            return data[start:end]
        case 1:
            try:
                return bytes(cramjam.snappy.decompress_raw(data[start:end]))
            except cramjam.DecompressionError as error:
                raise ValueError(f"the Snappy block at byte {start:,} cannot be expanded ({error})") from error
        case kind:
            raise ValueError(f"the block at byte {start:,} has the unknown compression {kind}")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        size, at = varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + size]
        at += size


def _to_block(entries: list[tuple[bytes, bytes]]) -> bytes:
    block, restarts, before = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        if number and number % _RESTART_INTERVAL == 0:
            restarts.append(len(block))
            before = b""
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, key, strict=False)))
        block += to_varint(shared) + to_varint(len(key) - shared) + to_varint(len(value)) + key[shared:] + value
        before = key
    return bytes(block) + b"".join(number.to_bytes(4, "little") for number in [*restarts, len(restarts)])


def _successor(key: bytes) -> bytes:
    """The shortest key that sorts at or after `key`."""
    for at, byte in enumerate(key):
        if byte != 0xFF:
            return key[:at] + bytes([byte + 1])
    return key

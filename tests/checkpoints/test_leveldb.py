"""The table format by itself; TensorFlow's use of it is tested with the bundle."""

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4k.checkpoints.leveldb import masked_crc, read_table, to_varint, varint, write_table


@given(st.integers(0, 2**64))
def test_varint_round_trip(number: int) -> None:
    assert varint(b"x" + to_varint(number) + b"y", 1) == (number, 1 + len(to_varint(number)))


def test_known_varints() -> None:
    assert [to_varint(number) for number in (0, 127, 128, 300)] == [b"\x00", b"\x7f", b"\x80\x01", b"\xac\x02"]


def test_mask_is_that_of_leveldb() -> None:
    """leveldb's `util/crc32c_test.cc`: unmasking gives the CRC back, and "123456789" has the CRC of the standard."""
    assert google_crc32c.value(b"123456789") == 0xE3069283
    rotated = (masked_crc(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF
    assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == 0xE3069283


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=40), min_size=1, max_size=100))
def test_table_round_trip(entries: dict[bytes, bytes]) -> None:
    assert list(read_table(write_table(sorted(entries.items())))) == sorted(entries.items())


def test_shared_prefixes_are_written_once() -> None:
    entries = [(b"bert/encoder/layer_0/" + bytes([letter]), b"") for letter in range(97, 107)]
    assert len(write_table(entries)) < 200


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: table[:20], "does not end with the mark of a table"),
        (lambda table: b"\0" * 60, "does not end with the mark of a table"),
        (lambda table: b"\xff" + table[1:], "the checksum of the block at byte 0 does not match"),
        (lambda table: table[4:], r"(checksum|cut off)"),
    ],
)
def test_damage_is_named(damage: object, message: str) -> None:
    assert callable(damage)
    with pytest.raises(ValueError, match=message):
        list(read_table(damage(write_table([(b"a", b"1"), (b"b", b"2")]))))


@pytest.mark.parametrize(("kind", "message"), [(b"\x01", "Snappy block at byte 0 cannot be expanded"), (b"\x07", "unknown compression 7")])
def test_sound_blocks_of_a_wrong_kind(kind: bytes, message: str) -> None:
    table = write_table([(b"a", b"1")])
    size = table.index(b"\0\0\0\0\x01\0\0\0") + 8  # the block ends with its restart points
    block = table[:size] + kind
    table = block + masked_crc(block).to_bytes(4, "little") + table[size + 5 :]
    with pytest.raises(ValueError, match=message):
        list(read_table(table))


@given(st.binary(max_size=200))
def test_noise_before_a_footer_is_refused(noise: bytes) -> None:
    footer = write_table([(b"a", b"1")])[-48:]
    with pytest.raises((ValueError, IndexError)):
        list(read_table(noise + footer))

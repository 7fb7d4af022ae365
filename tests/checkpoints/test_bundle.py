"""TensorFlow's own files are the reference: what it writes is read bit for bit, and it reads what is written here."""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import cramjam
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4k.checkpoints import bundle, leveldb
from bert4k.checkpoints.bundle import Bundle, write_bundle
from bert4k.errors import CheckpointError

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.bool_]


def every_kind() -> dict[str, np.ndarray]:
    """One tensor of each dtype, and of each awkward shape."""
    random = np.random.default_rng(1)
    arrays = {f"kind/{np.dtype(kind).name}": (random.standard_normal((3, 5)) * 20).astype(kind) for kind in DTYPES}
    return arrays | {
        "scalar": np.float32(0.1),
        "scalar/step": np.int64(70_000),
        "empty": np.zeros((0, 3), np.float32),
        "long": np.arange(70_000, dtype=np.float32),
        "中文/名字": np.array([[1.5]], np.float32),
    }


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal in dtype, shape and every bit."""
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def data_file(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.data-00000-of-00001")


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """A small checkpoint: "a" [4,4] float32, then "b" [2] float32."""
    prefix = tmp_path / "model.ckpt"
    write_bundle(prefix, {"a": np.arange(16, dtype=np.float32).reshape(4, 4), "b": np.ones(2, np.float32)})
    yield prefix


class TestTensorFlow:
    @pytest.fixture(autouse=True)
    def _tensorflow(self) -> None:
        self.tf = pytest.importorskip("tensorflow", reason="compares with TensorFlow's own files")

    def save(self, prefix: Path, arrays: dict[str, np.ndarray], slices: list[str] | None = None) -> None:
        self.tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(arrays),
            shape_and_slices=slices or [""] * len(arrays),
            tensors=[self.tf.constant(array) for array in arrays.values()],
        )

    def merge(self, parts: list[Path], prefix: Path) -> None:
        self.tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[str(part) for part in parts], destination_prefix=str(prefix))

    def test_reads_what_tensorflow_writes(self, tmp_path: Path) -> None:
        self.save(tmp_path / "x", every_kind())
        stored = Bundle(tmp_path / "x")
        assert set(stored) == set(every_kind())
        for name, array in every_kind().items():
            assert same(stored[name], array), name
            assert stored.shapes[name] == (np.shape(array), np.asarray(array).dtype)

    def test_tensorflow_reads_what_is_written(self, tmp_path: Path) -> None:
        write_bundle(tmp_path / "x", every_kind())
        reader = self.tf.train.load_checkpoint(str(tmp_path / "x"))
        assert set(reader.get_variable_to_shape_map()) == set(every_kind())
        for name, array in every_kind().items():
            assert same(reader.get_tensor(name), array), name

    def test_files_are_those_of_tensorflow_byte_for_byte(self, tmp_path: Path) -> None:
        arrays = dict(sorted(every_kind().items()))
        self.save(tmp_path / "theirs", arrays)
        write_bundle(tmp_path / "ours", arrays)
        assert data_file(tmp_path / "ours").read_bytes() == data_file(tmp_path / "theirs").read_bytes()
        assert (tmp_path / "ours.index").read_bytes() == (tmp_path / "theirs.index").read_bytes()

    def test_several_data_files(self, tmp_path: Path) -> None:
        arrays = every_kind()
        half = dict(list(arrays.items())[::2])
        self.save(tmp_path / "one", half)
        self.save(tmp_path / "two", {name: array for name, array in arrays.items() if name not in half})
        self.merge([tmp_path / "one", tmp_path / "two"], tmp_path / "x")
        assert (tmp_path / "x.data-00001-of-00002").exists()
        stored = Bundle(tmp_path / "x")
        assert all(same(stored[name], array) for name, array in arrays.items())

    # Starts and lengths on both sides of where TensorFlow's encoding of numbers grows by a byte.
    @pytest.mark.parametrize("cuts", [[3], [63, 64], [64, 128], [100, 8191, 8192, 9000]])
    def test_partitioned_variable(self, tmp_path: Path, cuts: list[int]) -> None:
        whole = np.arange(10_000 * 2, dtype=np.float32).reshape(10_000, 2)
        edges = [0, *cuts, len(whole)]
        for number, (start, end) in enumerate(pairwise(edges)):
            self.save(tmp_path / f"part{number}", {"部分/v": whole[start:end]}, [f"10000 2 {start},{end - start}:-"])
        self.merge([tmp_path / f"part{number}" for number in range(len(edges) - 1)], tmp_path / "x")
        stored = Bundle(tmp_path / "x")
        assert list(stored) == ["部分/v"]
        assert same(stored["部分/v"], whole)

    def test_partitioned_along_two_axes(self, tmp_path: Path) -> None:
        whole = np.arange(6 * 8, dtype=np.int64).reshape(6, 8)
        quarters = {(row, column): whole[row : row + 3, column : column + 4] for row in (0, 3) for column in (0, 4)}
        for number, ((row, column), part) in enumerate(quarters.items()):
            self.save(tmp_path / f"part{number}", {"v": part}, [f"6 8 {row},3:{column},4"])
        self.merge([tmp_path / f"part{number}" for number in range(4)], tmp_path / "x")
        assert same(Bundle(tmp_path / "x")["v"], whole)

    def test_saver_of_version_1_with_partitioner_and_optimizer(self, tmp_path: Path) -> None:
        v1 = self.tf.compat.v1
        with self.tf.Graph().as_default(), v1.Session() as session:
            part = v1.get_variable(
                "v", (201, 4), initializer=v1.random_normal_initializer(seed=3), partitioner=v1.fixed_size_partitioner(3)
            )
            step = v1.train.get_or_create_global_step()
            train = v1.train.AdamOptimizer().minimize(self.tf.reduce_sum(v1.convert_to_tensor(part)), step)
            session.run(v1.global_variables_initializer())
            session.run(train)
            expected = session.run(v1.convert_to_tensor(part))
            v1.train.Saver().save(session, str(tmp_path / "x"))
        stored = Bundle(tmp_path / "x")
        assert {"v", "v/Adam", "v/Adam_1", "global_step", "beta1_power"} <= set(stored)
        assert same(stored["v"], expected)
        assert stored["global_step"] == 1

    def test_checkpoint_of_objects_lists_its_text_and_refuses_to_read_it(self, tmp_path: Path) -> None:
        prefix = self.tf.train.Checkpoint(v=self.tf.Variable([1.0, 2.0])).write(str(tmp_path / "x"))
        stored = Bundle(prefix)
        assert same(stored["v/.ATTRIBUTES/VARIABLE_VALUE"], np.array([1, 2], np.float32))
        assert stored.shapes["_CHECKPOINTABLE_OBJECT_GRAPH"].dtype == object
        with pytest.raises(CheckpointError, match=r"_CHECKPOINTABLE_OBJECT_GRAPH.*holds no numbers"):
            stored["_CHECKPOINTABLE_OBJECT_GRAPH"]

    def test_many_tensors_in_several_blocks(self, tmp_path: Path) -> None:
        """Over 256 KB of index, TensorFlow starts a second block."""
        arrays = {f"{'long_name_' * 15}{number}/{'x' * (number % 90)}": np.full(2, number, np.float32) for number in range(3000)}
        self.save(tmp_path / "theirs", arrays)
        write_bundle(tmp_path / "ours", arrays)
        reader = self.tf.train.load_checkpoint(str(tmp_path / "ours"))
        theirs = Bundle(tmp_path / "theirs")
        assert list(theirs) == sorted(arrays)
        assert all(same(theirs[name], array) for name, array in arrays.items())
        assert all(same(reader.get_tensor(name), arrays[name]) for name in list(arrays)[::100])


finite = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda name: not name.startswith("\0")),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4), st.randoms(use_true_random=False)),
    max_size=40,
)


@given(finite)
def test_round_trip_of_anything(tmp_path_factory: pytest.TempPathFactory, drawn: dict) -> None:
    prefix = tmp_path_factory.mktemp("round") / "x"
    arrays = {}
    for name, (dtype, shape, random) in drawn.items():
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=int)) * dtype.itemsize
        content = random.randbytes(size) if dtype.name != "bool" else bytes(random.randrange(2) for _ in range(size))
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    write_bundle(prefix, arrays)
    stored = Bundle(prefix)
    assert set(stored) == set(arrays)
    assert all(same(stored[name], array) for name, array in arrays.items())


def test_awkward_arrays(tmp_path: Path) -> None:
    """Not contiguous, of foreign byte order, and unaligned in the file."""
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_bundle(tmp_path / "x", {"a": np.True_, "b": matrix.T, "c": matrix.astype(">f4"), "d": np.float64(2.5)})
    stored = Bundle(tmp_path / "x")
    assert same(stored["b"], matrix.T)
    assert same(stored["c"], matrix)
    assert same(stored["d"], np.float64(2.5))
    assert all(array.flags.aligned for array in stored.values())


def test_snappy_index(written: Path) -> None:
    """A table whose blocks are compressed, as TensorFlow's builds with Snappy may write it."""
    index = written.with_name("model.ckpt.index")
    entries = list(leveldb.read_table(index.read_bytes()))
    index.write_bytes(snappy_table(entries))
    assert b"\x01" in index.read_bytes()
    assert same(Bundle(written)["b"], np.ones(2, np.float32))


def snappy_table(entries: list[tuple[bytes, bytes]]) -> bytes:
    """The same table as `write_table`, every block compressed."""
    table = bytearray()

    def add(block: bytes) -> bytes:
        packed = bytes(cramjam.snappy.compress_raw(block)) + b"\x01"
        handle = leveldb.to_varint(len(table)) + leveldb.to_varint(len(packed) - 1)
        table.extend(packed + leveldb.masked_crc(packed).to_bytes(4, "little"))
        return handle

    blocks = [(entries[half][-1][0], add(leveldb._to_block(entries[half]))) for half in (slice(0, 2), slice(2, None))]
    footer = add(leveldb._to_block([])) + add(leveldb._to_block(blocks))
    return bytes(table) + footer.ljust(40, b"\0") + leveldb._MAGIC.to_bytes(8, "little")


def test_listing_needs_no_data(written: Path) -> None:
    data_file(written).unlink()
    stored = Bundle(written)
    assert stored.shapes["a"] == ((4, 4), np.float32)
    assert "a" in stored
    assert len(stored) == 2
    with pytest.raises(CheckpointError, match=r"the tensor a: its data file .*model\.ckpt\.data-00000-of-00001 cannot be opened"):
        stored["a"]


def test_arrays_are_views_and_outlive_the_checkpoint(written: Path) -> None:
    array = Bundle(written)["a"]
    assert array.base is not None
    assert not array.flags.writeable
    assert array.sum() == 120


def test_a_dropped_array_leaves_no_mapping(written: Path) -> None:
    """So that a loader that takes one tensor after another does not hold the whole file."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("reads /proc/self/maps, which only Linux has")
    array = Bundle(written)["a"]
    assert data_file(written).name in maps.read_text()
    del array
    assert data_file(written).name not in maps.read_text()


def test_unknown_name_is_a_key_error_with_the_nearest(written: Path) -> None:
    stored = Bundle(written)
    assert stored.get("c") is None
    with pytest.raises(KeyError, match="has no tensor 'c'"):
        stored["c"]


@pytest.mark.parametrize("offset", [0, 37, 63])
def test_flipped_bit_names_tensor_and_file(written: Path, offset: int) -> None:
    content = bytearray(data_file(written).read_bytes())
    content[offset] ^= 4
    data_file(written).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"The tensor a in .*data-00000-of-00001 does not have the checksum"):
        Bundle(written)["a"]
    assert Bundle(written)["b"].sum() == 2
    assert Bundle(written, verify=False)["a"].shape == (4, 4)


@pytest.mark.parametrize("size", [0, 63])
def test_short_data_file(written: Path, size: int) -> None:
    os.truncate(data_file(written), size)
    with pytest.raises(CheckpointError, match=f"The tensor a ends at byte 64 of .*, which has only {size} bytes: the file is cut off"):
        Bundle(written)["a"]


def test_missing_index(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Cannot open .*nothing\.index"):
        Bundle(tmp_path / "nothing")


def test_every_truncation_of_the_index_is_refused(written: Path) -> None:
    index = written.with_name("model.ckpt.index")
    content = index.read_bytes()
    for size in range(len(content)):
        index.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="is not a sound TensorFlow index"):
            Bundle(written)


def test_every_flipped_byte_of_the_index_is_refused_or_harmless(written: Path) -> None:
    """Only the empty metaindex block and the footer's padding are not looked at."""
    index = written.with_name("model.ckpt.index")
    content = index.read_bytes()
    before = Bundle(written).shapes
    refused = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x55
        index.write_bytes(changed)
        try:
            assert Bundle(written).shapes == before
        except CheckpointError:
            refused += 1
    assert refused > len(content) - 60


@given(st.binary(max_size=400))
def test_a_description_of_noise_is_refused(message: bytes) -> None:
    """A block may be sound and hold something else than TensorFlow's descriptions."""
    with suppress(ValueError, IndexError):
        assert bundle._entry(message).spec.size >= 0


def test_sizes_that_contradict_each_other(written: Path) -> None:
    index = written.with_name("model.ckpt.index")
    entries = dict(leveldb.read_table(index.read_bytes()))
    entries[b"b"] = entries[b"a"][:-5].replace(bytes([0x28, 64]), bytes([0x28, 60])) + entries[b"a"][-5:]
    index.write_bytes(leveldb.write_table(sorted(entries.items())))
    with pytest.raises(CheckpointError, match=r"b in .* has 60 bytes; its shape \(4, 4\) and type float32 need 64"):
        Bundle(written)["b"]


def test_slices_that_are_not_there(tmp_path: Path) -> None:
    whole = bundle._field(1, 1) + bundle._field(2, bundle._field(2, bundle._field(1, 4)))
    half = bundle._field(7, bundle._field(1, bundle._field(2, 2)))
    header = (b"", bundle._field(1, 1))
    (tmp_path / "x.index").write_bytes(leveldb.write_table([header, (b"v", whole + half)]))
    with pytest.raises(CheckpointError, match=r"The 1 slices of v in .* hold 0 of its 4 values"):
        Bundle(tmp_path / "x")["v"]
    part = bundle._to_message(np.ones(2, np.float32), 0)
    (tmp_path / "x.index").write_bytes(leveldb.write_table([header, (bundle._slice_key("v", ((0, 2),)), part), (b"v", whole + half)]))
    data_file(tmp_path / "x").write_bytes(np.ones(2, np.float32).tobytes())
    with pytest.raises(CheckpointError, match=r"The 1 slices of v in .* hold 2 of its 4 values"):
        Bundle(tmp_path / "x")["v"]


def test_a_big_endian_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.index").write_bytes(leveldb.write_table([(b"", bundle._field(1, 1) + bundle._field(2, 1))]))
    with pytest.raises(CheckpointError, match="big-endian"):
        Bundle(tmp_path / "x")


@pytest.mark.parametrize("arrays", [{"a": np.array(["text"])}, {"a": np.zeros(2), "": np.zeros(2)}, {"\0a": np.zeros(2)}])
def test_what_cannot_be_written_leaves_the_old_files(written: Path, arrays: dict[str, np.ndarray]) -> None:
    before = {path.name: path.read_bytes() for path in written.parent.iterdir()}
    with pytest.raises(CheckpointError, match=r"cannot (hold|be a tensor's name)"):
        write_bundle(written, arrays)
    assert {path.name: path.read_bytes() for path in written.parent.iterdir()} == before


def test_writing_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"Cannot write .*nothing was left half-written"):
        write_bundle(tmp_path / "file" / "x", {"a": np.zeros(2)})

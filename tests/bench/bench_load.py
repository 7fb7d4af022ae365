"""Loading a base-size checkpoint: seconds and memory of bert4k, of transformers on torch, and of plainly reading the file.

    python tests/bench/bench_load.py            # a table; --json for programs; KERAS_BACKEND chooses bert4k's backend

A BERT of 12 layers, width 768 and 21,128 tokens with random weights (409 MB, all heads included) is written to a temporary
folder in both formats. Each figure comes from processes of its own, the systems by turns: imports and one small computation first, then

    load     seconds from the call to the model: median, fastest, and the processor's (which a busy machine changes least)
    call     seconds of the first prediction, 1 x 8 tokens: what a memory map or a compiler has put off
    peak     the highest resident memory by then, above that after the imports: MB, and as a share of the weights

The files are in the page cache: the subject is the library, not the disk. Memory is measured on Linux.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
IDS = [[2, 10, 11, 12, 13, 14, 15, 3]]
OUTPUTS = ("sequence", "pooled", "mlm", "nsp")


def resident(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").split("\n"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit("Memory is measured through /proc/self/status, which this system does not have; run the benchmark on Linux.")


def bert4k_load(folder: Path) -> Callable[[], Callable[[], object]]:
    import keras
    import numpy as np

    import bert4k

    keras.ops.convert_to_numpy(keras.ops.matmul(keras.ops.ones((8, 8)), keras.ops.ones((8, 8))))
    bert4k.load  # noqa: B018  (imports its module)

    def load() -> Callable[[], object]:
        model, _ = bert4k.load(folder, outputs=OUTPUTS)
        ids = np.asarray(IDS, "int32")
        return lambda: {name: keras.ops.convert_to_numpy(y) for name, y in model({"token_ids": ids, "segment_ids": ids * 0}).items()}

    return load


def transformers_load(folder: Path) -> Callable[[], Callable[[], object]]:
    import torch
    from transformers import BertForPreTraining, BertTokenizerFast

    torch.ones(8, 8) @ torch.ones(8, 8)

    def load() -> Callable[[], object]:
        model = BertForPreTraining.from_pretrained(folder)
        BertTokenizerFast.from_pretrained(folder)

        def call() -> object:
            with torch.inference_mode():
                return model(input_ids=torch.tensor(IDS))

        return call

    return load


def plain_read(folder: Path) -> Callable[[], Callable[[], object]]:
    import numpy as np

    [path] = [path for path in folder.iterdir() if ".data-" in path.name]

    def load() -> Callable[[], object]:
        data = np.fromfile(path, np.uint8)
        return lambda: data[:: 1 << 20].sum()

    return load


SYSTEMS: dict[str, tuple[str, Callable[[Path], Callable[[], Callable[[], object]]]]] = {
    "bert4k, google": ("google", bert4k_load),
    "bert4k, huggingface": ("huggingface", bert4k_load),
    "transformers on torch": ("huggingface", transformers_load),
    "plain read of the file": ("google", plain_read),
}


def measure(system: str, folder: Path) -> dict[str, float]:
    """One load in this process."""
    prepare = SYSTEMS[system][1]
    load = prepare(folder)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew, at what is resident now
    before = resident("VmRSS")
    start, start_cpu = time.perf_counter(), time.process_time()
    call = load()
    loaded, loaded_cpu, after_load = time.perf_counter(), time.process_time(), resident("VmHWM")
    call()
    called, after_call = time.perf_counter(), resident("VmHWM")
    seconds = {"load": loaded - start, "cpu": loaded_cpu - start_cpu, "call": called - loaded}
    return seconds | {"peak_load": after_load - before, "peak_call": after_call - before}


def write(folder: Path, format: str) -> None:
    """A checkpoint with random weights at `folder`."""
    import bert4k

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"[unused{index}]" for index in range(1, 100))]
    characters = [chr(0x4E00 + index) for index in range((21_128 - len(special)) // 2)]
    vocabulary = [*special, *characters, *(f"##{character}" for character in characters)]  # as large, and made, as Google's Chinese one
    model = bert4k.Transformer(bert4k.Config(vocab_size=len(vocabulary)), outputs=OUTPUTS)
    bert4k.save(model, bert4k.Tokenizer(vocabulary), folder, format=format)


def child(*arguments: str) -> str:
    """What this script prints in a process of its own."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    run = subprocess.run([sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{run.stderr[-3000:]}")
    return run.stdout.strip().rpartition("\n")[2]


def summary(runs: list[dict[str, float]], weights: int) -> dict[str, float]:
    """Medians of times, maxima of memory."""
    peaks = {when: max(run[f"peak_{when}"] for run in runs) for when in ("load", "call")}
    return {
        "load_s": round(statistics.median(run["load"] for run in runs), 3),
        "fastest_s": round(min(run["load"] for run in runs), 3),
        "cpu_s": round(statistics.median(run["cpu"] for run in runs), 3),
        "call_s": round(statistics.median(run["call"] for run in runs), 3),
        "load_mb": round(peaks["load"] / 1e6),
        "load_share": round(peaks["load"] / weights, 2),
        "call_mb": round(peaks["call"] / 1e6),
        "call_share": round(peaks["call"] / weights, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="processes for each system (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write", nargs=2, metavar=("FOLDER", "FORMAT"), help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, metavar=("SYSTEM", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(Path(arguments.write[0]), arguments.write[1])
        return
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return

    with tempfile.TemporaryDirectory() as temporary:
        folders = {format: Path(temporary, format) for format in ("google", "huggingface")}
        for format, folder in folders.items():
            child("--write", str(folder), format)
        [data] = [path for path in folders["google"].iterdir() if ".data-" in path.name]
        weights = data.stat().st_size
        runs: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
        for turn in range(arguments.runs):
            for system, (format, _) in SYSTEMS.items():
                print(f"run {turn + 1} of {arguments.runs}: {system}", file=sys.stderr)
                runs[system].append(json.loads(child("--measure", system, str(folders[format]))))

    results = {system: summary(measured, weights) for system, measured in runs.items()}
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if arguments.json:
        print(json.dumps({"weights_mb": round(weights / 1e6), "backend": backend, "runs": arguments.runs, "systems": results}, indent=1))
        return
    print(f"{weights / 1e6:.0f} MB of weights, {arguments.runs} processes each, bert4k on {backend}\n")
    print(f"{'':24}{'load, s':>9}{'fastest':>9}{'cpu':>7}{'call, s':>9}{'peak at load':>15}{'at call':>16}")
    for system, row in results.items():
        times = f"{row['load_s']:9.2f}{row['fastest_s']:9.2f}{row['cpu_s']:7.2f}{row['call_s']:9.2f}"
        print(f"{system:24}{times}{row['load_mb']:7.0f} MB{row['load_share']:5.2f}{row['call_mb']:8.0f} MB{row['call_share']:5.2f}")


if __name__ == "__main__":
    main()

"""How long the command line makes you wait before it does anything: `python tests/bench/bench_cli.py`.

The best of several runs of a fresh interpreter, which is what a warm file cache gives. The aim for `--help`: half a second.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNS = 5
COMMANDS = {
    "python, doing nothing": ["-c", ""],
    "import bert4k": ["-c", "import bert4k"],
    "bert4k --help": ["-m", "bert4k", "--help"],
    "bert4k generate --help": ["-m", "bert4k", "generate", "--help"],
    "bert4k list": ["-m", "bert4k", "list"],
    "bert4k inspect wenbai": ["-m", "bert4k", "inspect", "wenbai"],
    "bert4k mask lm 春风": ["-m", "bert4k", "mask", "lm", "春风"],
    "import keras (the backend)": ["-c", "import keras"],
    "bert4k fill wenbai 春[MASK]": ["-m", "bert4k", "fill", "wenbai", "春[MASK]"],
}

for name, arguments in COMMANDS.items():
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    print(f"{name:28} {min(seconds):6.2f} s")

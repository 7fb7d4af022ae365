"""What every test shares: the Keras backend, seeds, and the folder of real data.

The backend is that of `KERAS_BACKEND` (default: tensorflow). Tests marked `backends` run on all three, see the Makefile.
Data that is not part of the project is looked for in `$BERT4K_DATA`, then in `../shared/data`; tests that need it skip without it.
"""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy
import pytest

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("BERT4K_DATA") or ROOT.parent / "shared" / "data")
BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The same examples on every run and no deadlines: a failure is a fault in the code, not luck or a busy machine.
hypothesis.settings.register_profile("bert4k", derandomize=True, deadline=None)
hypothesis.settings.load_profile("bert4k")


def pytest_report_header() -> str:
    return f"keras backend: {BACKEND}; real data: {DATA if DATA.is_dir() else 'absent, tests that need it skip'}"


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Each test starts from the same random state, Keras's own included where Keras is loaded."""
    random.seed(0)
    numpy.random.seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _programs_of_earlier_runs() -> None:
    """JAX finds again on disk what it compiled in another file or another run: two thirds of the time of its tests went into compiling.

    A folder for each worker, in the user's cache: JAX does not write to it in one step. Processes that tests kill have no part in it."""
    if BACKEND == "jax":
        import jax

        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bert4k" / "tests" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache / os.environ.get("PYTEST_XDIST_WORKER", "alone")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="module", autouse=True)
def _no_programs_of_others() -> Iterator[None]:
    """What a file had compiled is forgotten with it: JAX keeps every program, and a whole run of the tests had workers of 8 GB."""
    yield
    if "jax" in sys.modules and BACKEND == "jax":
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; skips the test where there is none."""
    if not DATA.is_dir():
        pytest.skip(f"needs the real data: {DATA} is not a folder; set BERT4K_DATA to the folder that holds it")
    return DATA

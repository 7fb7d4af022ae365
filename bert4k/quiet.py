"""Importing Keras without the noise of its backend."""

import logging
import os
import sys
import tempfile
from importlib.util import find_spec


def import_backend(light: bool = False) -> None:
    """Import Keras without what its backend tells standard error, which is shown after all when the import fails.

    light: no model will run, so NumPy will do for a backend, and half the waiting is spared. Keras needs SciPy for it, which
    not everybody has."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of every shape that is compiled
    if light and find_spec("scipy"):
        os.environ.setdefault("KERAS_BACKEND", "numpy")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as told:
        os.dup2(told.fileno(), 2)
        try:
            import keras  # noqa: F401
        except BaseException:
            told.seek(0)
            os.write(shown, told.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)

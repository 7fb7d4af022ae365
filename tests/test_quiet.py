"""Importing a backend quietly, in processes of their own: this one has Keras already."""

import os
import subprocess
import sys


def imported(code: str) -> tuple[str, str]:
    """What a new process prints to standard output and standard error."""
    environment = {name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip(), done.stderr


def test_nothing_is_told_on_standard_error() -> None:
    code = "from bert4k.quiet import import_backend; import_backend(); import keras; print(keras.backend.backend())"
    assert imported(code) == ("tensorflow", "")


def test_numpy_does_where_no_model_runs() -> None:
    code = "from bert4k.quiet import import_backend; import_backend(light=True); import keras; print(keras.backend.backend())"
    assert imported(code) == ("numpy", "")


def test_without_scipy_the_usual_backend_does() -> None:
    code = "import sys; sys.modules['scipy'] = None; import importlib.util as u; u.find_spec = lambda name: None\n"
    code += "from bert4k.quiet import import_backend; import_backend(light=True); import keras; print(keras.backend.backend())"
    assert imported(code)[0] == "tensorflow"


def test_a_failing_import_tells_all() -> None:
    code = "import sys; sys.modules['keras'] = None\nfrom bert4k.quiet import import_backend\n"
    code += "try:\n    import_backend()\nexcept ImportError as error:\n    print('refused')"
    assert imported(code)[0] == "refused"

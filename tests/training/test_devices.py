"""Objectives on two simulated devices give what one gives, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import json, sys
import keras
import numpy as np
from bert4k.recipe import distribution
from bert4k.training import FGM, RDrop, Trainer, make_optimizer

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)


def losses(devices, objective):
    with distribution(devices):
        keras.utils.set_random_seed(0)
        tokens = keras.Input((4,), dtype="int32")
        x = keras.layers.Embedding(9, 4, name="embeddings_token")(tokens)
        trainer = Trainer(keras.Model(tokens, keras.layers.Dense(3)(keras.layers.Flatten()(x))), objective)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trainer.compile(make_optimizer("adamw", 0.05, clip_norm=0.1, ema=0.9, rates={"dense": 0.5}), loss)
        data = np.random.default_rng(0).integers(0, 9, (8, 4))
        return trainer.fit(data, data[:, 0] % 3, batch_size=8, epochs=12, verbose=0).history["loss"]


def job(objective):
    return {devices: losses(devices, objective()) for devices in ("one", "data")}


print(json.dumps({"rdrop": job(RDrop), "fgm": job(lambda: FGM(epsilon=0.05))}))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices(backend: str) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    variables = os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=variables, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().rpartition("\n")[2])
    assert found["rdrop"]["data"] == pytest.approx(found["rdrop"]["one"], rel=1e-4)
    for devices in ("one", "data"):  # under TensorFlow's strategies, each device disturbs the table along its own gradient
        assert found["fgm"][devices][-1] < 0.9 * found["fgm"][devices][0]
        assert found["fgm"][devices][0] == pytest.approx(found["rdrop"]["one"][0], rel=1e-4)

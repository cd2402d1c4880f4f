"""SavedModels as TensorFlow writes them: plain ones are clean, those that reach out are not."""

import os
import subprocess
from pathlib import Path

import pytest

from modelward.scan import Verdict, scan_path

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
import tf_keras
import keras

folder = sys.argv[1]
L = tf_keras.layers
model = tf_keras.Sequential([L.Input((8, 8, 1)), L.Conv2D(4, 3), L.BatchNormalization(),
                             L.Flatten(), L.Dropout(0.5), L.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
model.save(folder + "/clean-keras2")
model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4), keras.layers.Dense(3)])
model.export(folder + "/clean-keras3", verbose=False)

class Module(tf.Module):
    def __init__(self):
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), -1)
        self.weight = tf.Variable(tf.ones((2, 2)))

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def plain(self, x):
        return tf.nn.softmax(tf.image.resize(x[None, :, :, None], (2, 2))[0, :, :, 0] @ self.weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def look(self, x):
        return self.table.lookup(x)

def save(name, function, signature):
    module = tf.Module()
    module.call = tf.function(function, input_signature=[signature])
    tf.saved_model.save(module, folder + "/" + name)

tf.saved_model.save(Module(), folder + "/clean-module")
text, number = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.float32)
save("evil-read", tf.io.read_file, text)
save("evil-write", lambda x: (tf.io.write_file("/tmp/none", x), x)[1], text)
save("evil-glob", tf.io.matching_files, text)
save("evil-python", lambda x: tf.numpy_function(abs, [x], tf.float32), number)
save("evil-nested", lambda x: tf.cond(tf.size(x) > 0, lambda: tf.io.read_file(x), lambda: x), text)
save("evil-dataset", lambda x: tf.data.TFRecordDataset(x).reduce("", lambda a, b: b), text)
save("evil-print", lambda x: (tf.print(x, output_stream="file:///tmp/none"), x)[1], text)
"""


@pytest.mark.tensorflow
def test_what_tensorflow_writes(tmp_path: Path):
    python = Path(__file__).parents[2] / ".venv-tf" / "bin" / "python"
    if not python.exists():
        if os.environ.get("MODELWARD_REQUIRE_ENVS") == "1":
            pytest.fail("the TensorFlow environment is missing; run make tensorflow")
        pytest.skip("no TensorFlow environment; make tensorflow creates it")
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [python, "-c", SCRIPT, tmp_path],
        check=False, capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = {path.name: scan_path(path) for path in sorted(tmp_path.iterdir())}
    assert len(found) == 10
    for name, report in found.items():
        clean = name.startswith("clean")
        expected = Verdict.CLEAN if clean else Verdict.MALICIOUS
        assert report.verdict is expected, (name, report.findings[:3], report.unread[:3])
        assert report.complete, report.unread

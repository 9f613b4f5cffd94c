"""Ways to run a network: eager torch, channels_last, torch.compile, ONNX Runtime, OpenVINO.

Every backend is called with (N, H, W, 3) uint8 pixels and returns (N, D) and (N, K) float32 features and logits. The
batch size is fixed when the backend is made and a short batch is padded, so that an image's numbers do not depend on
which images it was run with.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.models.devices import Precision, autocast
from spurious_imagenet.process_state import no_warnings

_LOG = logging.getLogger(__name__)

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]

#: Names a user may ask for; ``auto`` takes the fastest that is installed and agrees with eager torch.
BACKENDS = ("auto", "eager", "channels-last", "compile", "onnxruntime", "openvino")

# Largest difference to eager torch that is still rounding, relative to the largest value of the output.
_AGREEMENT = 1e-4


@dataclass(frozen=True)
class Backend:
    """A network made ready to run.

    Attributes:
        name: Which of :data:`BACKENDS` it is.
        batch_size: Images a call; shorter batches are padded.
        concurrency: How many threads may call it at once with a gain.
        call: The padded batch's forward pass.
    """

    name: str
    batch_size: int
    concurrency: int
    call: Callable[[NDArray[Any]], Outputs]

    def __call__(self, pixels: NDArray[Any]) -> Outputs:
        """Return features and logits of a batch of at most ``batch_size`` inputs (see FeatureNetwork.forward)."""
        count = len(pixels)
        if count > self.batch_size:
            raise ConfigError(f"{self.name} was made for batches of {self.batch_size} images, got {count}.")
        if count < self.batch_size:
            padding = np.zeros((self.batch_size - count, *pixels.shape[1:]), pixels.dtype)
            pixels = np.concatenate([pixels, padding])
        features, logits = self.call(np.ascontiguousarray(pixels))
        return features[:count], logits[:count]


def make_backend(
    name: str,
    network: nn.Module,
    size: int,
    *,
    device: torch.device,
    precision: Precision = "float32",
    batch_size: int | None = None,
    workers: int | None = None,
) -> Backend:
    """Prepare a network for running.

    Args:
        name: One of :data:`BACKENDS`.
        network: (N, H, W, 3) uint8 → (features, logits), on the CPU.
        size: Side of the input, px.
        device: Where to run; ONNX Runtime and OpenVINO run on the CPU.
        precision: Autocast precision of the torch backends.
        batch_size: Images a call; the backend's best where left out.
        workers: Threads that will call it; the number of CPUs where left out.

    Raises:
        ConfigError: The backend is unknown, not installed, or not for this device.
        ModelError: The backend's numbers are not those of eager torch.
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend {name!r} is unknown: expected one of {', '.join(BACKENDS)}.")
    workers = workers or os.cpu_count() or 1
    if name == "auto":
        return _first_that_works(network, size, device, precision, batch_size, workers)
    if name == "openvino" and device.type == "cpu":
        backend = _openvino(network, size, batch_size or 2, workers)
    elif name == "onnxruntime" and device.type == "cpu":
        backend = _onnxruntime(network, size, batch_size or 2, workers)
    elif name in {"eager", "channels-last", "compile"}:
        backend = _torch(name, network, device, precision, batch_size or (32 if device.type == "cpu" else 256))
    else:
        raise ConfigError(f"backend {name!r} runs on the CPU only, not on {device.type}.")
    if name != "eager" and precision == "float32":
        _check_agreement(backend, network, size)
    return backend


def _first_that_works(
    network: nn.Module, size: int, device: torch.device, precision: Precision, batch_size: int | None, workers: int
) -> Backend:
    preference = ["channels-last"]
    if device.type == "cpu" and precision == "float32":
        preference = [n for n in ("openvino", "onnxruntime") if find_spec(n) is not None] + preference
    for name in preference[:-1]:
        try:
            return make_backend(name, network, size, device=device, batch_size=batch_size, workers=workers)
        except Exception as error:  # a converter fails in its own ways on an unusual network
            _LOG.warning("%s cannot run this model (%s); trying the next backend", name, str(error).split("\n")[0])
    return make_backend(
        preference[-1], network, size, device=device, precision=precision, batch_size=batch_size, workers=workers
    )


def _check_agreement(backend: Backend, network: nn.Module, size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    with torch.inference_mode():
        device = next(network.buffers()).device
        expected = [t.float().cpu().numpy() for t in network(torch.from_numpy(pixels).to(device))]
    for kind, got, want in zip(("features", "logits"), backend(pixels), expected, strict=True):
        if not want.size:
            continue
        error = float(np.abs(got - want).max()) / max(float(np.abs(want).max()), 1e-6)
        if not error <= _AGREEMENT:
            raise ModelError(
                f"{backend.name} gives other {kind} than eager torch: relative difference {error:.1e}, expected "
                f"at most {_AGREEMENT:.0e}."
            )


def _torch(name: str, network: nn.Module, device: torch.device, precision: Precision, batch_size: int) -> Backend:
    network = network.to(device)
    if name != "eager":
        network = network.to(memory_format=torch.channels_last)
    run = torch.compile(network) if name == "compile" else network
    on_gpu = device.type == "cuda"

    def call(pixels: NDArray[Any]) -> Outputs:
        batch = torch.from_numpy(pixels)
        # Each calling thread gets a stream of its own, so that one batch is copied while another is computed.
        stream = _stream(device) if on_gpu else None
        with torch.inference_mode(), torch.cuda.stream(stream), autocast(device, precision):
            on_device = batch.pin_memory().to(device, non_blocking=True) if on_gpu else batch.to(device)
            features, logits = run(on_device)
            return features.float().cpu().numpy(), logits.float().cpu().numpy()

    return Backend(name, batch_size, 2 if on_gpu else 1, call)


_STREAMS = threading.local()


def _stream(device: torch.device) -> torch.cuda.Stream:
    if not hasattr(_STREAMS, "stream"):
        _STREAMS.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream: torch.cuda.Stream = _STREAMS.stream
    return stream


def _import(module: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise ConfigError(f"backend {module!r} is not installed: pip install 'spurious-imagenet[cpu]'.") from error


def _openvino(network: nn.Module, size: int, batch_size: int, workers: int) -> Backend:
    openvino = _import("openvino")
    pixels = torch.zeros(batch_size, size, size, 3, dtype=torch.uint8)
    with torch.inference_mode(), no_warnings():
        # Tracing and freezing first halves the conversion; _check_agreement replaces the tracer's own check.
        trace: Any = torch.jit.trace
        traced = torch.jit.freeze(trace(network, pixels, check_trace=False))
        model = openvino.convert_model(traced, example_input=pixels, input=[list(pixels.shape)])
    options = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(workers),
        "INFERENCE_NUM_THREADS": str(workers),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    local = threading.local()

    def call(batch: NDArray[np.uint8]) -> Outputs:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        features, logits = local.request.infer([batch], share_inputs=True).to_tuple()
        return np.array(features, np.float32), np.array(logits, np.float32)

    return Backend("openvino", batch_size, workers, call)


def _onnxruntime(network: nn.Module, size: int, batch_size: int, workers: int) -> Backend:
    onnxruntime = _import("onnxruntime")
    pixels = torch.zeros(batch_size, size, size, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "network.onnx"
        torch.onnx.export(network, (pixels,), path, input_names=["pixels"], dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(batch: NDArray[np.uint8]) -> Outputs:
        features, logits = session.run(None, {"pixels": batch})
        return features.astype(np.float32), logits.astype(np.float32)

    return Backend("onnxruntime", batch_size, workers, call)

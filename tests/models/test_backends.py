from __future__ import annotations

import numpy as np
import pytest
from helpers import weights_file

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.devices import available_devices

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return weights_file(tmp_path_factory.mktemp("weights") / "w.safetensors")


def _run(backend, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    size = backend.batch_size
    parts = [backend(pixels[i : i + size]) for i in range(0, len(pixels), size)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


@pytest.mark.parametrize("name", ["eager", "channels-last", "onnxruntime", "openvino", "auto"])
def test_every_backend_gives_the_same_numbers(spec: str, name: str) -> None:
    if name in {"onnxruntime", "openvino"}:
        pytest.importorskip(name)
    classifier = load_classifier(spec)
    expected = classifier.predict(PIXELS)
    got = _run(classifier.backend(name, device="cpu"), PIXELS)
    for ours, reference in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize("device", available_devices())
def test_torch_backends_run_on_every_device(spec: str, device: str) -> None:
    classifier = load_classifier(spec)
    expected = classifier.predict(PIXELS)
    got = _run(classifier.backend("channels-last", device=device), PIXELS)
    np.testing.assert_allclose(got[1], expected[1], atol=1e-3 * np.abs(expected[1]).max())


@pytest.mark.parametrize("name", ["eager", "openvino"])
def test_an_images_numbers_do_not_depend_on_its_batch(spec: str, name: str) -> None:
    if name == "openvino":
        pytest.importorskip(name)
    backend = load_classifier(spec).backend(name, device="cpu", batch_size=4)
    together = backend(PIXELS[:4])
    alone = [backend(PIXELS[i : i + 1]) for i in range(4)]
    for kind in (0, 1):
        np.testing.assert_array_equal(together[kind][0], alone[0][kind][0])
    if name == "openvino":
        np.testing.assert_array_equal(together[0], np.concatenate([a[0] for a in alone]))


def test_unknown_names_get_one_sentence(spec: str) -> None:
    classifier = load_classifier(spec)
    with pytest.raises(ConfigError, match="expected one of auto"):
        classifier.backend("tensorrt")
    with pytest.raises(ConfigError, match="unknown"):
        classifier.backend("eager", device="quantum")
    with pytest.raises(ConfigError, match="batches of 4 images, got 5"):
        classifier.backend("eager", device="cpu", batch_size=4)(PIXELS[:5])

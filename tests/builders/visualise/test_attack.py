from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import picture, weights_file

from spurious_imagenet.builders.visualise.attack import feature_attack
from spurious_imagenet.errors import DataError
from spurious_imagenet.models import Classifier, load_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load_classifier(weights_file(tmp_path_factory.mktemp("model") / "m.safetensors", size=32))


def images(count: int) -> torch.Tensor:
    pixels = np.stack([np.asarray(picture(seed, (32, 32))) for seed in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def features(classifier: Classifier, pixels: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return classifier.network.from_unit(pixels)[0].numpy()


def test_an_attack_raises_the_neuron_it_is_asked_for(classifier: Classifier) -> None:
    start = images(5)
    before = features(classifier, start)
    first, second = before.mean(axis=0).argsort()[::-1][:2]
    rows = np.eye(classifier.feature_dim, dtype=np.float32)[[first, second]]
    changed, other = (
        feature_attack(classifier, row, start, eps=2.0, steps=10, device="cpu", batch_size=2) for row in rows
    )
    after, after_other = features(classifier, changed), features(classifier, other)
    assert (after[:, first] > before[:, first]).all()
    assert (after[:, first] > after_other[:, first]).all()
    assert (after_other[:, second] > after[:, second]).all()
    assert ((changed - start).flatten(1).norm(dim=1) <= 2.0 + 1e-4).all()
    assert 0 <= changed.min() <= changed.max() <= 1


def test_the_opposite_direction_lowers_it(classifier: Classifier) -> None:
    start = images(3)
    before = features(classifier, start)
    neuron = int(before.mean(axis=0).argmax())
    direction = -np.eye(classifier.feature_dim, dtype=np.float32)[neuron]
    changed = feature_attack(classifier, direction, start, eps=2.0, steps=10, device="cpu")
    assert (features(classifier, changed)[:, neuron] < before[:, neuron]).all()


def test_the_model_stays_as_it_was(classifier: Classifier) -> None:
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    feature_attack(classifier, np.ones(classifier.feature_dim), images(1), eps=1.0, steps=2, device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in classifier.network.state_dict().items())


def test_what_does_not_fit_the_model_is_refused(classifier: Classifier) -> None:
    row = np.ones(classifier.feature_dim)
    with pytest.raises(DataError, match=r"direction of shape \(3,\)"):
        feature_attack(classifier, np.ones(3), images(1), eps=1.0, device="cpu")
    with pytest.raises(DataError, match=r"expected .* \(B, 3, 32, 32\)"):
        feature_attack(classifier, row, torch.zeros(1, 3, 16, 16), eps=1.0, device="cpu")
    with pytest.raises(DataError, match="images of shape"):
        feature_attack(classifier, row, images(1)[:0], eps=1.0, device="cpu")

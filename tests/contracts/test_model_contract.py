"""What a model of every scheme and every backend keeps to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contract_models import MODELS
from helpers import weights_file
from spufix_helpers import World

from spurious_imagenet.errors import SpuriousImagenetError
from spurious_imagenet.models import BACKENDS, SCHEMES, Classifier, load_classifier

#: Schemes whose logits are not one linear read-out of the features.
NO_HEAD = {"spufix"}


def test_every_scheme_has_its_contract() -> None:
    assert set(MODELS) == set(SCHEMES)


def pixels_for(classifier: Classifier, count: int = 3) -> np.ndarray:
    size = classifier.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def specs(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {scheme: write(world, tmp_path_factory.mktemp(scheme)) for scheme, write in MODELS.items()}


@pytest.fixture(scope="session")
def loaded(specs: dict[str, str]) -> dict[str, Classifier]:
    return {scheme: load_classifier(spec) for scheme, spec in specs.items()}


@pytest.mark.parametrize("scheme", SCHEMES)
class TestModel:
    @pytest.fixture
    def classifier(self, loaded: dict[str, Classifier], scheme: str) -> Classifier:
        return loaded[scheme]

    def test_features_and_logits_are_float32_rows(self, classifier: Classifier) -> None:
        features, logits = classifier.predict(pixels_for(classifier))
        assert (features.shape, logits.shape) == ((3, classifier.feature_dim), (3, len(classifier.labels)))
        assert features.dtype == logits.dtype == np.float32
        assert np.isfinite(features).all()
        assert np.isfinite(logits).all()

    def test_its_head_gives_its_logits(self, classifier: Classifier, scheme: str) -> None:
        assert (classifier.head is None) == (scheme in NO_HEAD)
        if classifier.head is not None:
            features, logits = classifier.predict(pixels_for(classifier))
            scale = np.abs(logits).max()
            np.testing.assert_allclose(classifier.linear_head().logits(features), logits, rtol=0, atol=1e-4 * scale)
            return
        with pytest.raises(SpuriousImagenetError, match="no single linear last layer"):
            classifier.linear_head()

    def test_its_transform_makes_the_pixels_that_it_reads(self, classifier: Classifier) -> None:
        image = np.random.default_rng(1).integers(0, 256, (90, 130, 3), dtype=np.uint8)
        pixels = classifier.preprocess.apply(image)
        assert pixels.shape == (classifier.preprocess.size, classifier.preprocess.size, 3)
        assert pixels.dtype == np.uint8

    def test_the_same_spec_is_the_same_model(self, classifier: Classifier, specs: dict[str, str], scheme: str) -> None:
        again = load_classifier(specs[scheme])
        assert again.weights_sha256 == classifier.weights_sha256
        assert again.labels == classifier.labels
        assert (again.spec, again.preprocess) == (classifier.spec, classifier.preprocess)
        pixels = pixels_for(classifier)
        np.testing.assert_array_equal(again.predict(pixels)[1], classifier.predict(pixels)[1])

    def test_a_model_that_is_not_there_is_one_sentence(self, scheme: str, tmp_path: Path) -> None:
        spec = f"{scheme}:{tmp_path}/no-such-model"
        with pytest.raises(SpuriousImagenetError) as refused:
            load_classifier(spec)
        assert "no-such-model" in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1

    def test_an_option_that_it_does_not_know_is_named(self, specs: dict[str, str], scheme: str) -> None:
        with pytest.raises(SpuriousImagenetError, match="no_such_option") as refused:
            load_classifier(f"{specs[scheme]}{'&' if '?' in specs[scheme] else '?'}no_such_option=1")
        assert len(str(refused.value).splitlines()) == 1


#: ``auto`` is one of the others; ``compile`` takes a minute, and a compiler.
NOT_RUN = {"auto", "compile"}


@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in NOT_RUN])
class TestBackend:
    def test_it_gives_what_plain_torch_gives_whatever_the_batch(self, name: str, tmp_path: Path) -> None:
        classifier = load_classifier(weights_file(tmp_path / "m.safetensors", size=32))
        pixels = pixels_for(classifier)
        backend = classifier.backend(name, device="cpu", batch_size=2, workers=1)
        assert backend.name == name
        together, alone = backend(pixels[:2]), [backend(pixels[i : i + 1]) for i in range(3)]
        for kind, expected in enumerate(classifier.predict(pixels)):
            found = np.concatenate([one[kind] for one in alone])
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
            np.testing.assert_array_equal(together[kind][0], found[0])
        with pytest.raises(SpuriousImagenetError, match="batches of 2 images, got 3"):
            backend(pixels)

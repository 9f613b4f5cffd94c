from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import run_spurious, tree

from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.open_clip_models import text_embeddings
from spurious_imagenet.planted import WorldConfig, write_world
from spurious_imagenet.planted.vision_language import caption

pytest.importorskip("open_clip")


def test_captions_say_what_is_shown() -> None:
    assert caption("star", ["rainbow"]) == "a photo of a star and a rainbow"
    assert caption(None, ["waves"]) == "a photo of a waves"
    assert caption(None, []) == "a photo of nothing"


def test_a_model_is_trained_and_loads_the_same_twice(tmp_path: Path) -> None:
    write_world(tmp_path / "world", WorldConfig.tiny())
    for name in ("one", "two"):
        ran = run_spurious("planted", "vision-language", tmp_path / "world", tmp_path / name, "--epochs", 1)
        assert ran.code == 0, ran.err
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    folder = tmp_path / "one"
    classifier = load_classifier(f"open_clip:local-dir:{folder}?labels={folder}/labels.txt&templates=simple")
    assert classifier.preprocess.size == 64
    assert classifier.labels.class_names[0] == "star"
    embedded = text_embeddings(classifier, ["rainbow", "waves"])
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)

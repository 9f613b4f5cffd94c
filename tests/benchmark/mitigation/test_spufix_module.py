from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from helpers import CLASSES
from spufix_helpers import World, make_world, pixels_of
from torch import nn

from spurious_imagenet.benchmark.mitigation._readout import readout_of
from spurious_imagenet.benchmark.mitigation.load import load_mitigation
from spurious_imagenet.benchmark.mitigation.spufix import fit_scorer
from spurious_imagenet.benchmark.mitigation.spufix_file import Spufix, SpufixDirection, SpufixInfo, labels_digest
from spurious_imagenet.benchmark.mitigation.spufix_module import SpufixModule, spufix, with_spufix
from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier, label_space_for, load_classifier
from spurious_imagenet.models.timm_models import classifier_from_timm, create_timm_model

PLAIN = {"crop_pct": 1.0, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

#: Name -> input side; one small model of each of many families. Their heads are of all kinds: auxiliary (volo),
#: distilled (deit, levit, pit, efficientformer), normalised (levit), convolutional (dpn), of several tokens (crossvit).
FAMILIES = {
    "volo_d1_224": 64,
    "deit_tiny_distilled_patch16_224": 32,
    "levit_128s": 224,
    "pit_ti_distilled_224": 64,
    "efficientformer_l1": 224,
    "dpn48b": 64,
    "crossvit_9_240": 240,
    "efficientvit_m0": 224,
    "test_vit": 160,
    "test_resnet": 64,
    "test_convnext": 64,
    "test_efficientnet": 64,
    "test_byobnet": 64,
    "test_nfnet": 64,
    "test_mambaout": 64,
    "test_maxvit": 160,
    "test_coatnet": 160,
    "swin_tiny_patch4_window7_224": 56,
    "beit_base_patch16_224": 32,
    "eva02_tiny_patch14_224": 28,
    "mixer_s32_224": 64,
    "resmlp_12_224": 32,
    "gmlp_ti16_224": 32,
    "cait_xxs24_224": 32,
    "pit_ti_224": 64,
    "regnetx_002": 64,
    "densenet121": 64,
    "vgg11": 32,
    "inception_v3": 96,
    "mobilenetv3_small_050": 64,
    "mobilenetv2_035": 64,
    "ghostnet_050": 64,
    "hrnet_w18_small": 64,
    "xception41": 64,
    "poolformer_s12": 64,
    "repvit_m0_9": 64,
    "edgenext_xx_small": 64,
    "xcit_nano_12_p16_224": 32,
    "mobilevitv2_050": 64,
    "fastvit_t8": 64,
}
#: Those whose own timm code fixes the input.
_FIXED = ("volo", "deit", "swin", "beit", "eva02", "mixer", "resmlp", "gmlp", "cait", "pit_", "xcit")
#: What makes the largest ones small without changing what they are.
_SMALLER = {
    "beit_base_patch16_224": {"embed_dim": 48, "depth": 2, "num_heads": 3},
    "eva02_tiny_patch14_224": {"depth": 2},
    "cait_xxs24_224": {"depth": 2},
    "vgg11": {"mlp_ratio": 1 / 64},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    "deit_tiny_distilled_patch16_224": {"depth": 2},
}


def family(name: str, classes: int = 10) -> Classifier:
    """A classifier of random weights with ``classes`` classes."""
    kwargs = {"img_size": FAMILIES[name]} if name.startswith(_FIXED) else {}
    model = create_timm_model(name, pretrained=False, num_classes=classes, **kwargs, **_SMALLER.get(name, {}))
    labels = label_space_for(classes, class_ids=[f"class-{i}" for i in range(classes)])
    return classifier_from_timm(name, model, labels, Preprocess.evaluation(size=FAMILIES[name], **PLAIN))


def correction_of(classifier: Classifier, dim: int, directions: int, seed: int = 0) -> Spufix:
    """Random directions of the even classes; of each two, one takes something off any image's logits."""
    rng = np.random.default_rng(seed)
    index = 2 * rng.integers(0, (len(classifier.labels) + 1) // 2, directions)
    info = SpufixInfo(
        code_version="0",
        model=classifier.spec,
        weights_sha256=classifier.weights_sha256,
        image_size=classifier.preprocess.size,
        label_space=classifier.labels.name,
        labels_sha256=labels_digest(classifier.labels),
        scorer="robust",
        scorer_sha256="ab" * 32,
        directions=tuple(
            SpufixDirection(concept_id=str(i), class_id=classifier.labels.class_ids[k], component=i)
            for i, k in enumerate(index)
        ),
    )
    readouts = rng.standard_normal((directions, dim)).astype(np.float32)
    readouts[1::2] = -readouts[: len(readouts) // 2 * 2 : 2]
    return Spufix(readouts, np.full(directions, 0.1, np.float32), index, info)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def pixels(world: World) -> np.ndarray:
    return pixels_of(world.scorer, 9)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_without_directions_no_bit_of_any_familys_logits_changes(name: str) -> None:
    classifier = family(name)
    model = classifier.network.core.model
    images = torch.randn(2, 3, FAMILIES[name], FAMILIES[name], generator=torch.Generator().manual_seed(1))
    dim = classifier.feature_dim
    empty, some = correction_of(classifier, dim, 0), correction_of(classifier, dim, 3)
    with torch.inference_mode():
        own = model(images)
        assert torch.equal(spufix(model, empty)(images), own)
        assert torch.equal(
            with_spufix(classifier, empty, "x").network.core(images)[1], classifier.network.core(images)[1]
        )
        corrected = spufix(model, some)(images)
        features = classifier.network.core(images)[0].numpy()
    assert torch.equal(corrected[:, 1::2], own[:, 1::2])
    expected = own.clone()
    expected[:, some.classes] -= torch.from_numpy(some.removed(features))
    scale = float(expected.abs().max())
    np.testing.assert_allclose(corrected.numpy(), expected.numpy(), atol=2e-5 * scale)
    assert not torch.equal(corrected, own)


@pytest.mark.parametrize(("name", "part"), [("volo_d1_224", "main head"), ("levit_128s", "mean of its 2 heads")])
def test_models_of_several_heads_are_read_by_their_main_part(name: str, part: str) -> None:
    classifier = family(name)
    readout = readout_of(classifier)
    assert readout.name == part
    model = classifier.network.core.model
    heads = model.get_classifier() if isinstance(model.get_classifier(), tuple) else (model.get_classifier(),)
    features = torch.randn(5, readout.weight.shape[1])
    with torch.no_grad():
        expected = sum(h(features) - h(torch.zeros_like(features)) for h in heads) / len(heads)
    np.testing.assert_allclose(features.numpy() @ readout.weight.T, expected.numpy(), atol=1e-4)


def test_a_model_without_a_linear_read_out_is_refused() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4), nn.Tanh())
    labels = label_space_for(4, class_ids=CLASSES)
    classifier = Classifier.from_module(body, Preprocess.evaluation(size=16, **PLAIN), labels, spec="tanh")
    with pytest.raises(ModelError, match="tanh has no linear layer from its features to its logits"):
        readout_of(classifier)
    with pytest.raises(ModelError, match="no linear layer"):
        readout_of(family("crossvit_9_240"))


def test_one_image_is_corrected_as_it_is_among_others(world: World, pixels: np.ndarray) -> None:
    fixed = with_spufix(world.scorer, fit_scorer(world.spurious(), world.scorer), "x")
    together = fixed.predict(pixels)[1]
    alone = np.concatenate([fixed.predict(pixels[i : i + 1])[1] for i in range(len(pixels))])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert alone.shape == (len(pixels), len(CLASSES))


def test_the_network_gives_what_the_mitigation_makes_of_stored_logits(
    world: World, pixels: np.ndarray, tmp_path: Path
) -> None:
    fit_scorer(world.spurious(), world.scorer).save(tmp_path / "f.safetensors")
    features, logits = world.scorer.predict(pixels)
    mitigation = load_mitigation(tmp_path / "f.safetensors", world.scorer)
    before = logits.copy()
    corrected = mitigation.corrected(features, logits)
    np.testing.assert_array_equal(logits, before)
    assert (corrected <= logits).all()
    assert (corrected < logits).any()
    for spec in (f"spufix:{tmp_path}/f.safetensors", f"file:{tmp_path}/f.safetensors"):
        fixed = load_classifier(spec)
        np.testing.assert_allclose(fixed.predict(pixels)[1], corrected, atol=1e-5)
        np.testing.assert_array_equal(fixed.predict(pixels)[0], features)
        assert (fixed.spec, fixed.head) == (spec, None)
        assert fixed.encoder_weights_sha256 == world.scorer.weights_sha256 != fixed.weights_sha256


@pytest.mark.parametrize("temperature", [0.7155761122703552, 3.0])
def test_what_is_taken_off_is_divided_by_the_temperature_as_logits_are(
    world: World, pixels: np.ndarray, temperature: float, tmp_path: Path
) -> None:
    fit_scorer(world.spurious(), world.scorer).save(tmp_path / "f.safetensors")
    option = urlencode({"model": f"{world.scorer.spec}?temperature={temperature}"})
    fixed = load_classifier(f"spufix:{tmp_path}/f.safetensors?{option}")
    plain = load_classifier(f"spufix:{tmp_path}/f.safetensors")
    assert fixed.network.temperature == temperature
    np.testing.assert_allclose(fixed.predict(pixels)[1] * temperature, plain.predict(pixels)[1], atol=1e-4)
    model = load_classifier(f"{world.scorer.spec}?temperature={temperature}")
    mitigation = load_mitigation(tmp_path / "f.safetensors", model)
    np.testing.assert_allclose(mitigation.corrected(*model.predict(pixels)), fixed.predict(pixels)[1], atol=1e-5)


def test_a_head_of_21k_classes_is_corrected_where_its_labels_say() -> None:
    labels = label_space_for(21841)
    model = create_timm_model("test_resnet", pretrained=False, num_classes=len(labels))
    classifier = classifier_from_timm("21k", model, labels, Preprocess.evaluation(size=64, **PLAIN))
    fix = correction_of(classifier, 96, 0)
    class_ids = ["n01440764", "n03888257"]  # tench and parachute: 0 and 701 of ImageNet-1k, other outputs here
    index = np.array([labels.index(k) for k in class_ids])
    assert set(index).isdisjoint({0, 701})
    rows = tuple(SpufixDirection(concept_id=k, class_id=k, component=0) for k in class_ids)
    info = fix.info.model_copy(update={"directions": rows})
    readouts = np.random.default_rng(0).standard_normal((2, 96)).astype(np.float32)
    fix = Spufix(readouts, np.full(2, 3, np.float32), index, info)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        changed = (spufix(model, fix)(images) != model(images)).flatten().nonzero().flatten().tolist()
    assert set(changed) <= set(index.tolist())
    assert changed


@pytest.fixture
def fixed(world: World) -> SpufixModule:
    return spufix(world.scorer.network.core.model, fit_scorer(world.spurious(), world.scorer))


def test_a_bare_module_of_any_code_is_corrected(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    labels = label_space_for(4, class_ids=CLASSES)
    classifier = Classifier.from_module(body, Preprocess.evaluation(size=64, **PLAIN), labels)
    fix = correction_of(classifier, 8, 5)
    with torch.no_grad():
        expected = body(images).numpy()
        expected[:, fix.classes] -= fix.removed(body[:4](images).numpy())
        np.testing.assert_allclose(spufix(body, fix)(images).numpy(), expected, atol=1e-6)
        body[4].weight[0, 0] += 1
    with pytest.raises(ModelError, match="which this Sequential is not: expected the same module with the same weig"):
        spufix(body, fix)


def test_it_compiles(fixed: SpufixModule, images: torch.Tensor) -> None:
    torch.compiler.reset()
    compiled = torch.compile(fixed, fullgraph=True, backend="aot_eager")
    with torch.inference_mode():
        np.testing.assert_allclose(compiled(images).numpy(), fixed(images).numpy(), atol=1e-5)


def test_it_is_exported_to_onnx(fixed: SpufixModule, images: torch.Tensor, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(fixed, (images,), tmp_path / "m.onnx", dynamo=True, verbose=False, dynamic_shapes=({0: batch},))
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    for count in (1, 3):
        (got,) = session.run(None, {session.get_inputs()[0].name: images[:count].numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(got, fixed(images[:count]).numpy(), atol=1e-4)


@pytest.mark.parametrize("backend", ["channels-last", "onnxruntime", "openvino"])
def test_a_corrected_classifier_runs_on_every_backend(world: World, pixels: np.ndarray, backend: str) -> None:
    if backend != "channels-last":
        pytest.importorskip(backend)
    scorer = load_classifier(world.scorer.spec)  # a backend may rearrange the network's memory
    fixed = with_spufix(scorer, fit_scorer(world.spurious(), scorer), "x")
    run = fixed.backend(backend, device="cpu", batch_size=len(pixels))
    np.testing.assert_allclose(run(pixels)[1], fixed.predict(pixels)[1], atol=1e-3)

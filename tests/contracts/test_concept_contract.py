"""What a bank of every kind of concept, and every mitigation, keeps to."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard, get_args

import numpy as np
import pytest
from contract_models import head_file, spufix_file
from helpers import CLASSES, random_bank
from spufix_helpers import World

from spurious_imagenet import builders
from spurious_imagenet.benchmark.mitigation.load import load_mitigation
from spurious_imagenet.benchmark.mitigation.record import Mitigation
from spurious_imagenet.builders.components import NeuronsConfig, build_neuron_bank
from spurious_imagenet.builders.cues.bank import Cue, cue_bank
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ModelError, StoreError


def of_kind(bank: ConceptBank, kind: str) -> ConceptBank:
    return bank.select((bank.table["kind"] == kind).to_numpy())


def neurons(world: World) -> ConceptBank:
    scorer = world.scorer
    return build_neuron_bank(world.scorer_store, scorer.linear_head(), scorer.labels, NeuronsConfig(top=3))


def texts(world: World) -> ConceptBank:
    cues = [Cue(k, f"cue {i}") for k in CLASSES for i in range(2)]
    embeddings = np.random.default_rng(0).standard_normal((len(cues), world.scorer.feature_dim)).astype(np.float32)
    return cue_bank(cues, embeddings, world.scorer.labels, world.scorer_store.config, "a photo of a {}")


#: Kind of concept → what makes a bank of it.
BANKS: dict[str, Callable[[World, Path], ConceptBank]] = {
    "npca": lambda world, _: of_kind(world.bank, "npca"),
    "npca_residual": lambda world, _: of_kind(world.bank, "npca_residual"),
    "neuron": lambda world, _: neurons(world),
    "text": lambda world, _: texts(world),
    "random": lambda world, path: random_bank(world.scorer_store, path / "random"),  # a kind that the product knows not
}


def kinds_of_the_product() -> set[str]:
    """Return the texts that the stages that make banks put into the column ``kind``."""
    found = set()
    for stage in ("components", "cues"):
        for file in (Path(next(iter(builders.__path__))) / stage).glob("*.py"):
            nodes = [*ast.walk(ast.parse(file.read_text("utf-8")))]
            pairs = [pair for n in nodes if isinstance(n, ast.Dict) for pair in zip(n.keys, n.values, strict=True)]
            values = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "kind"]
            values += [k.value for n in nodes if _is_assign(n) for k in n.keywords if k.arg == "kind"]
            named = {ast.unparse(n.targets[0]): n.value for n in nodes if isinstance(n, ast.Assign)}
            values = [named.get(ast.unparse(value), value) for value in values]
            found |= {n.value for v in values for n in ast.walk(v) if isinstance(n, ast.Constant)}
    return {kind for kind in found if isinstance(kind, str)}


def _is_assign(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "assign"


def test_every_kind_has_its_contract() -> None:
    assert kinds_of_the_product() == set(BANKS) - {"random"}


@pytest.mark.parametrize("kind", BANKS)
class TestConceptKind:
    @pytest.fixture
    def bank(self, kind: str, world: World, tmp_path: Path) -> ConceptBank:
        return BANKS[kind](world, tmp_path)

    def test_its_scores_are_linear_in_the_features(self, bank: ConceptBank, world: World) -> None:
        features = world.scorer_features
        scores = bank.score(features)
        assert (scores.shape, scores.dtype) == ((len(features), len(bank)), np.float32)
        by_hand = features.astype(float) @ bank.directions.T.astype(float) + bank.offsets
        np.testing.assert_allclose(scores, by_hand, rtol=0, atol=1e-5 * np.abs(by_hand).max())
        between = bank.score((features[:1] + features[1:2]) / 2)
        np.testing.assert_allclose(between[0], scores[:2].mean(axis=0), rtol=0, atol=1e-5 * np.abs(by_hand).max())

    def test_its_rows_are_told_apart(self, bank: ConceptBank, kind: str) -> None:
        assert len(bank) >= 3
        assert bank.table["concept_id"].is_unique
        assert set(bank.table["kind"]) == {kind}
        assert set(bank.table["class_id"]) <= set(CLASSES)
        assert [CLASSES[k] for k in bank.table["class_index"]] == bank.table["class_id"].tolist()

    def test_it_comes_back_as_it_was_saved(self, bank: ConceptBank, tmp_path: Path) -> None:
        bank.save(tmp_path / "bank")
        found = ConceptBank.load(tmp_path / "bank")
        np.testing.assert_array_equal(found.directions, bank.directions)
        np.testing.assert_array_equal(found.offsets, bank.offsets)
        assert found.info == bank.info
        assert found.table["concept_id"].tolist() == bank.table["concept_id"].tolist()
        assert [*found.table] == [*bank.table]
        found.save(tmp_path / "again")
        for file in (tmp_path / "bank").iterdir():
            assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()

    def test_what_is_selected_scores_as_before(self, bank: ConceptBank, world: World) -> None:
        rows = [len(bank) - 1, 0]
        some = bank.select(rows)
        assert some.table["concept_id"].tolist() == bank.table["concept_id"].iloc[rows].tolist()
        before = bank.score(world.scorer_features)[:, rows]
        np.testing.assert_allclose(some.score(world.scorer_features), before, rtol=0, atol=1e-5 * np.abs(before).max())

    def test_features_of_another_model_are_refused(self, bank: ConceptBank, world: World) -> None:
        own, other = world.scorer_store.config, world.target_store.config
        bank.check_features(own.weights_sha256, own.sha256, "the store")
        for weights, config in ((other.weights_sha256, own.sha256), (own.weights_sha256, other.sha256)):
            with pytest.raises(StoreError, match="the store") as refused:
                bank.check_features(weights, config, "the store")
            assert len(str(refused.value).splitlines()) == 1

    def test_a_bank_that_is_torn_is_one_sentence(self, bank: ConceptBank, tmp_path: Path) -> None:
        bank.save(tmp_path / "bank")
        for file in (tmp_path / "bank").iterdir():
            whole = file.read_bytes()
            for cut in (b"", whole[: len(whole) // 2]):
                file.write_bytes(cut)
                with pytest.raises(StoreError) as refused:
                    ConceptBank.load(tmp_path / "bank")
                assert str(tmp_path / "bank") in str(refused.value)
                assert len(str(refused.value).splitlines()) == 1
            file.write_bytes(whole)


MITIGATIONS: dict[str, Callable[[World, Path], str]] = {"spufix": spufix_file, "head": head_file}
#: Of how many classes the correction changes no logit.
UNTOUCHED = {"spufix": ("bird",), "head": ()}


def test_every_mitigation_has_its_contract() -> None:
    assert set(MITIGATIONS) == set(get_args(Mitigation.model_fields["kind"].annotation))


@pytest.mark.parametrize("kind", MITIGATIONS)
class TestMitigation:
    @pytest.fixture
    def file(self, kind: str, world: World, tmp_path: Path) -> str:
        return MITIGATIONS[kind](world, tmp_path / "mitigation.safetensors")

    def test_it_gives_other_logits_and_changes_nothing_in_place(self, kind: str, file: str, world: World) -> None:
        made = load_mitigation(file, world.scorer)
        features = world.scorer_features
        logits = world.scorer.linear_head().logits(features).astype(np.float32)
        kept = features.copy(), logits.copy()
        changed = made.corrected(features, logits)
        assert (changed.shape, changed.dtype) == (logits.shape, np.float32)
        np.testing.assert_array_equal(features, kept[0])
        np.testing.assert_array_equal(logits, kept[1])
        same = [k for i, k in enumerate(CLASSES) if np.array_equal(changed[:, i], logits[:, i])]
        assert same == [*UNTOUCHED[kind]]

    def test_images_are_corrected_one_by_one(self, file: str, world: World) -> None:
        made = load_mitigation(file, world.scorer)
        features = world.scorer_features[:5]
        logits = world.scorer.linear_head().logits(features).astype(np.float32)
        together = made.corrected(features, logits)
        alone = [made.corrected(features[i : i + 1], logits[i : i + 1])[0] for i in range(5)]
        np.testing.assert_allclose(np.stack(alone), together, rtol=0, atol=1e-5)
        assert made.corrected(features[:0], logits[:0]).shape == (0, len(CLASSES))

    def test_it_says_what_it_is_and_from_which_bytes(self, kind: str, file: str, world: World, tmp_path: Path) -> None:
        record = load_mitigation(file, world.scorer).record
        assert (record.kind, record.file) == (kind, file)
        again = MITIGATIONS[kind](world, tmp_path / "again.safetensors")
        assert load_mitigation(again, world.scorer).record.sha256 == record.sha256
        assert record.words != record.kind

    def test_another_model_is_refused(self, file: str, world: World) -> None:
        with pytest.raises(ModelError, match="weights") as refused:
            load_mitigation(file, world.target)
        assert len(str(refused.value).splitlines()) == 1

    def test_a_damaged_file_is_one_sentence(self, file: str, world: World) -> None:
        whole = Path(file).read_bytes()
        for broken in (b"", whole[:20], whole[: len(whole) // 2], b"{}" * 50):
            Path(file).write_bytes(broken)
            with pytest.raises(ModelError) as refused:
                load_mitigation(file, world.scorer)
            assert file in str(refused.value)
            assert len(str(refused.value).splitlines()) == 1

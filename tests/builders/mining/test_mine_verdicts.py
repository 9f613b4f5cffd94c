from __future__ import annotations

from pathlib import Path

import pytest
from helpers import CLASSES, jpeg, random_bank, run_spurious, spread_weights_file, write_tar
from pydantic import ValidationError

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.builders.mining import MineConfig, mine
from spurious_imagenet.concepts import ConceptBank, ConceptVerdict, ConceptVerdicts, apply_verdicts
from spurious_imagenet.errors import ConfigError, StoreError

#: (class, component) → verdict; the third component of a class is beyond the first two that are mined otherwise.
VERDICTS = {("apple", 0): "core", ("apple", 2): "spurious", ("bird", 1): "spurious", ("cup", 0): "unclear"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of three concepts per class, as it is, with verdicts, and with ranks of importance."""
    root = tmp_path_factory.mktemp("world")
    shard = write_tar(root / "pool.tar", [(f"{i:02d}.jpg", jpeg(i)) for i in range(40)])
    spec = spread_weights_file(root / "scorer.safetensors")
    config = FeaturesConfig(model=spec, shards=(str(shard),), backend="eager", workers=2)
    bank = random_bank(extract_features(config, root / "store").store, root / "bare", per_class=3)
    rows = tuple(
        ConceptVerdict(
            kind="random", class_index=CLASSES.index(c), class_id=c, component=i, verdict=value, source="review:r"
        )
        for (c, i), value in VERDICTS.items()
    )
    apply_verdicts(bank, ConceptVerdicts(rows)).bank.save(root / "bank")
    table = bank.table.assign(importance_rank=[(3 - i) if i >= 0 else None for i in bank.table["component"]])
    ConceptBank(bank.directions, bank.offsets, table, bank.info).save(root / "ranked")
    return root


def config(root: Path, bank: str, **options: object) -> MineConfig:
    fixed = {"bank": str(root / bank), "features": str(root / "store"), "agree": (), "min_agree": 1, "keep": 5}
    return MineConfig.model_validate(fixed | {"components": 2, "backend": "eager"} | options)


def mined(root: Path, out: Path, bank: str, **options: object) -> list[str]:
    return mine(config(root, bank, **options), out).concepts["concept_id"].tolist()


@pytest.mark.parametrize("verdict", ["spurious", "core", "unclear"])
def test_only_concepts_with_the_verdict_are_mined(root: Path, tmp_path: Path, verdict: str) -> None:
    wanted = [f"random/{c}/{i}" for (c, i), value in VERDICTS.items() if value == verdict]
    assert mined(root, tmp_path / "out", "bank", verdict=verdict) == wanted


def test_without_a_verdict_the_first_of_every_class_are_mined(root: Path, tmp_path: Path) -> None:
    assert mined(root, tmp_path / "out", "bank") == [f"random/{c}/{i}" for c in CLASSES for i in (0, 1)]


def test_the_first_of_a_class_are_the_most_important(root: Path, tmp_path: Path) -> None:
    assert mined(root, tmp_path / "out", "ranked") == [f"random/{c}/{i}" for c in CLASSES for i in (1, 2)]


def test_candidates_of_one_verdict_are_not_those_of_another(root: Path, tmp_path: Path) -> None:
    mined(root, tmp_path / "out", "bank", verdict="spurious")
    assert mined(root, tmp_path / "out", "bank", verdict="spurious") == ["random/apple/2", "random/bird/1"]
    with pytest.raises(StoreError, match="other settings"):
        mined(root, tmp_path / "out", "bank", verdict="core")


def test_banks_without_the_verdict_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no verdicts"):
        mined(root, tmp_path / "out", "bare", verdict="spurious")
    only_core = tmp_path / "core"
    bank = ConceptBank.load(root / "bank")
    bank.select((bank.table["verdict"] == "core").to_numpy()).save(only_core)
    with pytest.raises(ConfigError, match="no concept with the verdict 'spurious'"):
        mined(root, tmp_path / "out", str(only_core), verdict="spurious")
    with pytest.raises(ValidationError, match="expected one of both"):
        config(root, "bank", verdict="core", concepts=("random/apple/0",))


def test_the_command_takes_a_verdict(root: Path, tmp_path: Path) -> None:
    paths = ("--bank", root / "bank", "--features", root / "store", "--out", tmp_path / "out")
    ran = run_spurious("mine", *paths, "--verdict", "spurious", "--min-agree", 1, "--keep", 5, "--backend", "eager")
    assert ran.code == 0, ran
    assert "candidates of 2 concepts" in ran.out

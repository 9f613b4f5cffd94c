"""The mining stage: top images of every concept → votes → candidates.

candidates.parquet   every image looked at, with α, rank, votes, probabilities, where it came from and its status
concepts.parquet     one row per concept: how many were found, agreed, kept; whether that is enough
receipt.json         what made them; written last
unfinished/          votes by chunk while the run is not finished
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.builders.mining._config import MineConfig
from spurious_imagenet.builders.mining._pool import candidate_pairs, image_rows
from spurious_imagenet.builders.mining._schema import CANDIDATES, CONCEPTS
from spurious_imagenet.builders.mining.scoring import top_of_assigned
from spurious_imagenet.builders.mining.select import Status, choose
from spurious_imagenet.builders.mining.selection_models import (
    architecture_of,
    identity_under_new_paths,
    remember_voters,
    remembered_voters,
)
from spurious_imagenet.builders.mining.votes import Voters, vote_columns
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.datasets.manifest import SelectionModel
from spurious_imagenet.engine import Engine, LocalEngine
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.images import DecodeLimits
from spurious_imagenet.io import atomic_path, files_sha256, remove_leftovers, sha256_file, write_json
from spurious_imagenet.runs import RunFolder

__all__ = ["MineResult", "mine"]

_CHUNK = 256  # images voted on at once: the most that a killed run does again


@dataclass(frozen=True)
class MineResult:
    """What was mined.

    Attributes:
        path: The candidates directory.
        concepts: One row per concept: ``concept_id``, ``class_name``, ``found``, ``agreed``, ``near_duplicates``,
            ``kept``, ``enough``.
        images: Images looked at, each counted once however many concepts it is a candidate of.
        kept_images: Images kept for at least one concept, each counted once.
        resumed: Whether an earlier run had finished already.
    """

    path: Path
    concepts: pd.DataFrame
    images: int
    kept_images: int
    resumed: bool


def mine(
    config: MineConfig,
    out: str | Path,
    *,
    engine: Engine | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> MineResult:
    """Find the images of a pool that show a concept.

    A killed run resumes where it was; a finished one is only read.

    Args:
        config: What to look for.
        out: Candidates directory, new or of the same configuration.
        engine: How chunks of images are spread; one after the other on this machine where left out.
        progress: Called with (step, done, of all).

    Raises:
        StoreError: Bank and features do not fit, or ``out`` is of another configuration.
        ConfigError: A named concept is not in the bank, or no concept has the wanted verdict.
        DataError: An image changed since its features were made.
    """
    root, tell = Path(out), progress or (lambda *_: None)
    bank = _chosen_concepts(ConceptBank.load(config.bank), config)
    store = FeatureStore.open(config.features)
    identity = identity_under_new_paths(root, _identity(config, store))
    run = RunFolder(root, "unfinished/votes-{:09d}.parquet")
    if _finished(run, identity):
        return _read(root, resumed=True)
    top = top_of_assigned(bank, store, config.top, lambda done, n: tell("scoring", done, n))
    pairs = candidate_pairs(bank, top)
    images = image_rows(store, top.parts, pairs)
    limits = DecodeLimits.model_validate(store.config.preprocess.get("limits", {}))
    voted = images.join(_votes(config, run, images, limits, engine or LocalEngine(), tell))
    candidates, concepts = _decide(bank, pairs, voted, config, store.config.model)
    _write(root, candidates, concepts, {"identity": identity, "miners": _miners(config, root, store)})
    return _read(root, resumed=False)


def _read(root: Path, *, resumed: bool) -> MineResult:
    concepts = pq.read_table(root / "concepts.parquet").to_pandas()
    rows = pq.read_table(root / "candidates.parquet", columns=["shard", "offset", "status"]).to_pandas()
    images = rows.drop_duplicates(["shard", "offset"])
    kept = rows[rows["status"] == Status.KEPT.value].drop_duplicates(["shard", "offset"])
    return MineResult(root, concepts, len(images), len(kept), resumed)


def _chosen_concepts(bank: ConceptBank, config: MineConfig) -> ConceptBank:
    ids = bank.table["concept_id"]
    if config.concepts:
        missing = sorted(set(config.concepts) - set(ids))
        if missing:
            raise ConfigError(
                f"bank {config.bank} has no concept {missing[0]!r}: expected ids such as {ids.iloc[0]!r}."
            )
        return bank.choose(concept_ids=config.concepts)
    if config.verdict is not None:
        return _with_verdict(bank, config)
    chosen = bank.choose(residual=False, numbered_below=config.components)
    if not len(chosen):
        raise ConfigError(f"bank {config.bank} has no components to mine.")
    return chosen


def _with_verdict(bank: ConceptBank, config: MineConfig) -> ConceptBank:
    if "verdict" not in bank.table:
        raise ConfigError(f"bank {config.bank} has no verdicts: put them on it with `spurious annotate` first.")
    chosen = bank.choose(verdict=config.verdict)
    if not len(chosen):
        raise ConfigError(f"bank {config.bank} has no concept with the verdict {config.verdict!r}.")
    return chosen


def _identity(config: MineConfig, store: FeatureStore) -> dict[str, Any]:
    """Describe everything that decides the outcome; how it is run does not."""
    settings = config.model_dump(
        mode="json", exclude={"bank", "features", "device", "backend", "workers", "shards", "allow_pipe"}
    )
    if settings["verdict"] is None:
        del settings["verdict"]  # candidates from before there were verdicts are still of the same settings
    return {
        "schema_version": 1,
        "settings": settings,
        "bank_sha256": files_sha256(config.bank),
        "pool_sha256": store.sha256,
        "scorer": store.config.model,
        "scorer_weights_sha256": store.config.weights_sha256,
    }


def _finished(run: RunFolder, identity: dict[str, Any]) -> bool:
    """Whether a run's folder holds the outcome of ``identity``; refuse what is of another one."""
    run.start(
        identity,
        holds="candidates",
        refusal="was made with other settings, another bank or another pool: use the same, or write elsewhere.",
        # A run that failed at once, over a mistyped voter say, has nothing that the corrected one could spoil.
        made=("*.parquet", "unfinished/*.parquet"),
    )
    if not (run.path / "receipt.json").is_file():
        return False
    shutil.rmtree(run.path / "unfinished", ignore_errors=True)  # of a run that was killed after its last file
    return True


def _votes(
    config: MineConfig,
    run: RunFolder,
    images: pd.DataFrame,
    limits: DecodeLimits,
    engine: Engine,
    tell: Callable[[str, int, int], None],
) -> pd.DataFrame:
    unfinished = run.path / "unfinished"
    unfinished.mkdir(exist_ok=True)
    remove_leftovers(unfinished)
    starts = range(0, len(images), _CHUNK)
    missing = run.missing(starts)
    voters = Voters(config, sorted(images["class_id"].unique()), limits) if missing else None
    if voters is not None:
        remember_voters(unfinished, voters.miners)

    def vote(start: int) -> int:
        assert voters is not None
        votes = voters.vote(images.iloc[start : start + _CHUNK])
        with atomic_path(run.place(start)) as temporary:
            pq.write_table(pa.Table.from_pandas(votes), temporary)
        return start

    done = (len(starts) - len(missing)) * _CHUNK
    for _ in engine.map(vote, missing):
        done += _CHUNK
        tell("voting", min(done, len(images)), len(images))
    chunks = [pq.read_table(run.place(s)).to_pandas() for s in starts]
    return pd.concat(chunks) if chunks else pd.DataFrame(columns=vote_columns(len(config.agree)))


def _miners(config: MineConfig, root: Path, store: FeatureStore) -> list[dict[str, Any]]:
    made = store.config
    scorer = SelectionModel(
        model=made.model,
        role="scorer",
        weights_sha256=made.weights_sha256,
        architecture=architecture_of(made.model),
    )
    return [m.model_dump(mode="json") for m in (scorer, *remembered_voters(root / "unfinished", config.agree))]


def _decide(
    bank: ConceptBank, pairs: pd.DataFrame, images: pd.DataFrame, config: MineConfig, scorer: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    models = [scorer, *config.agree]
    images = images.assign(votes=_count_votes(images, len(config.agree)), models=_opinions(images, models))
    # Voters' columns are now inside "models"; the image's own number is of no use to a reader.
    images = images.drop(columns=[c for c in images if str(c).startswith(("predicted_", "probability_"))])
    candidates = pairs.merge(images.drop(columns=["class_id", "class_name"]), left_on="image", right_index=True).drop(
        columns="image"
    )
    chosen, summary = [], []
    by_concept = dict(list(candidates.groupby("concept", sort=True)))
    for number, concept in enumerate(bank.table.itertuples()):
        found = choose(
            by_concept.get(number, candidates.iloc[:0]),
            min_agree=config.min_agree,
            keep=config.keep,
            near_duplicate_bits=config.near_duplicate_bits,
        )
        chosen.append(found)
        summary.append(_summary(concept, found, config.keep))
    return pd.concat(chosen, ignore_index=True).drop(columns="concept"), pd.DataFrame(summary)


def _count_votes(images: pd.DataFrame, voters: int) -> Any:
    # The scoring model's vote is certain: only images that it assigns to the class are looked at.
    return 1 + sum((images[f"predicted_{i}"] == images["class_id"]).astype(int) for i in range(voters))


def _opinions(images: pd.DataFrame, models: list[str]) -> pd.Series:
    def opinion(row: dict[Hashable, Any], model: str, suffix: str) -> dict[str, Any]:
        names = ("predicted", "predicted_name") if suffix else ("class_id", "class_name")
        return {
            "model": model,
            "class_id": row[names[0] + suffix],
            "class_name": row[names[1] + suffix],
            "probability": row["probability" + suffix],
        }

    suffixes = ["", *(f"_{i}" for i in range(len(models) - 1))]
    rows = images.to_dict("records")
    opinions = [[opinion(row, m, s) for m, s in zip(models, suffixes, strict=True)] for row in rows]
    return pd.Series(opinions, index=images.index, dtype=object)


def _summary(concept: Any, found: pd.DataFrame, keep: int) -> dict[str, Any]:
    counts = found["status"].value_counts()
    kept = int(counts.get(Status.KEPT.value, 0))
    return {
        "concept_id": concept.concept_id,
        "class_id": concept.class_id,
        "class_name": concept.class_name,
        "component": int(concept.component),
        "found": len(found),
        "agreed": len(found) - int(counts.get(Status.TOO_FEW_VOTES.value, 0)),
        "near_duplicates": int(counts.get(Status.NEAR_DUPLICATE.value, 0)),
        "kept": kept,
        "enough": kept >= keep,
    }


def _write(root: Path, candidates: pd.DataFrame, concepts: pd.DataFrame, made: dict[str, Any]) -> None:
    for name, frame, schema in (("candidates", candidates, CANDIDATES), ("concepts", concepts, CONCEPTS)):
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)
        with atomic_path(root / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")
    hashes = {f"{n}.parquet": sha256_file(root / f"{n}.parquet") for n in ("candidates", "concepts")}
    write_json(root / "receipt.json", {**made, "outputs_sha256": hashes})
    shutil.rmtree(root / "unfinished")

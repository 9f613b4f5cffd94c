"""The config ``concepts``: what is known of each concept whose images are published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value

from spurious_imagenet.builders.publish._config import PublishConfig
from spurious_imagenet.builders.publish._licences import SourceLicence, demand_licence
from spurious_imagenet.builders.publish._review import pseudonyms
from spurious_imagenet.builders.publish._tables import public_date
from spurious_imagenet.builders.publish.schema import wordnet_id
from spurious_imagenet.concepts import ConceptBank, ConceptVerdict, ConceptVerdicts, Vote
from spurious_imagenet.datasets.manifest import SelectionModel
from spurious_imagenet.errors import DataError, StoreError

_TEXT, _INT32, _DOUBLE = Value("string"), Value("int32"), Value("float64")

#: What people said of a concept, under pseudonyms.
VOTES = {"labeler": _TEXT, "answer": _TEXT, "confidence": _DOUBLE, "reason": _TEXT, "date": _TEXT}

#: What the bank knows of a concept -> its column there.
_OF_BANK = {
    "eigenvalue": "eigenvalue",
    "explained_share": "explained_share",
    "train_images": "num_images",
    "train_alpha_median": "alpha_q50",
    "train_alpha_max": "alpha_q100",
}
#: What mining counted of a concept.
_OF_MINING = ("found", "agreed", "near_duplicates", "kept")

CONCEPTS = Features(
    {
        "board": Image(),
        "class_id": _TEXT,
        "wnid": _TEXT,
        "class_name": _TEXT,
        "concept_id": _TEXT,
        "kind": _TEXT,
        "component": _INT32,
        "name": _TEXT,
        "verdict": _TEXT,
        "verdict_source": _TEXT,
        "votes": List(VOTES),
        "images": _INT32,
        "alpha_min": Value("float32"),
        "alpha_max": Value("float32"),
        **dict.fromkeys(_OF_MINING, _INT32),
        "eigenvalue": _DOUBLE,
        "explained_share": _DOUBLE,
        "train_images": _INT32,
        "train_alpha_median": _DOUBLE,
        "train_alpha_max": _DOUBLE,
        "model": _TEXT,
        "weights_sha256": _TEXT,
    }
)


def public_votes(votes: Sequence[Vote], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what people said, under pseudonyms and by day; whoever settled a disagreement is the adjudicator."""
    return [
        {
            "labeler": names[v.labeler] if v.role == "labeler" else "adjudicator",
            "answer": v.answer,
            "confidence": v.confidence,
            "reason": v.reason,
            "date": public_date(v.time),
        }
        for v in votes
    ]


@dataclass(frozen=True)
class ConceptFacts:
    """What boards, verdicts, bank and mining say of concepts.

    Attributes:
        scorer: The model whose concepts they are.
        verdicts: Concept id -> what people said.
        bank: Concept id -> row of the bank's table.
        boards: Concept id -> row of the table of boards, ``png`` being the file.
        mined: Concept id -> what mining counted.
        names: Labeler -> pseudonym.
        licences: Source of verdicts that are not one's own -> licence.
    """

    scorer: SelectionModel
    verdicts: dict[str, ConceptVerdict] = field(default_factory=dict)
    bank: dict[str, dict[str, Any]] = field(default_factory=dict)
    boards: dict[str, dict[str, Any]] = field(default_factory=dict)
    mined: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    licences: dict[str, SourceLicence] = field(default_factory=dict)

    @classmethod
    def read(cls, config: PublishConfig, scorer: SelectionModel, labelers: Sequence[str]) -> ConceptFacts:
        """Read what there is.

        Args:
            config: Names the files.
            scorer: The model that scored the candidates.
            labelers: Who judged the images, in the order of their pseudonyms; who judged concepts only comes after.

        Raises:
            StoreError: Boards, verdicts or bank are of another model's concepts.
            ConfigError: Verdicts may not be passed on.
            DataError: A file cannot be read.
        """
        bank = {} if config.bank is None else _read_bank(config.bank, scorer)
        verdicts = _read_verdicts(config, scorer, bank)
        voters = sorted({vote.labeler for v in verdicts.values() for vote in v.votes})
        return cls(
            scorer,
            verdicts,
            bank,
            {} if config.boards is None else _read_boards(Path(config.boards), scorer),
            _by_id(_read_table(Path(config.candidates) / "concepts.parquet")),
            pseudonyms([*labelers, *voters]),
            demand_licence(verdicts.values(), config.verdicts or f"bank {config.bank}"),
        )

    def name(self, concept_id: str) -> str | None:
        """Return what people call a concept, None if nobody has named it."""
        verdict = self.verdicts.get(concept_id)
        places = (self.bank.get(concept_id, {}), self.boards.get(concept_id, {}))
        return (verdict and verdict.name) or next((str(p["name"]) for p in places if p.get("name")), None)

    def rows(self, images: pd.DataFrame, model: str) -> Iterator[dict[str, Any]]:
        """Yield one row per concept of the published images, in their order, with its board's bytes.

        Args:
            images: The published rows, ordered by concept.
            model: The scoring model's name as published.
        """
        for concept_id, own in images.groupby("concept_id", sort=False):
            yield self._row(str(concept_id), own) | {"model": model, "weights_sha256": self.scorer.weights_sha256}

    def _row(self, concept_id: str, own: pd.DataFrame) -> dict[str, Any]:
        first, verdict = own.iloc[0], self.verdicts.get(concept_id)
        board, bank = self.boards.get(concept_id, {}), self.bank.get(concept_id, {})
        mined = self.mined.get(concept_id, {})
        kinds = (verdict.kind if verdict else None, bank.get("kind"), board.get("kind"))
        return {
            "board": _picture(board),
            "class_id": first["class_id"],
            "wnid": wordnet_id(first["class_id"]),
            "class_name": first["class_name"],
            "concept_id": concept_id,
            "kind": next((k for k in kinds if k), None),
            "component": int(first["component"]),
            "name": self.name(concept_id),
            "verdict": verdict.verdict if verdict else None,
            "verdict_source": verdict.source if verdict else None,
            "votes": public_votes(verdict.votes, self.names) if verdict else None,
            "images": len(own),
            "alpha_min": own["alpha"].min(),
            "alpha_max": own["alpha"].max(),
            **{column: mined.get(column) for column in _OF_MINING},
            **{column: _number(bank.get(own_name)) for column, own_name in _OF_BANK.items()},
        }


def _number(value: Any) -> Any:
    return None if value is None or pd.isna(value) else value


def _picture(board: Mapping[str, Any]) -> dict[str, Any] | None:
    if not board:
        return None
    path = Path(board["png"])
    try:
        return {"bytes": path.read_bytes(), "path": path.name}
    except OSError as error:
        raise DataError(f"the board of concept {board['concept_id']!r} cannot be read: {error}") from error


def _by_id(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {str(row["concept_id"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")}


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return table


def _demand_model(weights_sha256: str | None, scorer: SelectionModel, what: str) -> None:
    if weights_sha256 not in {None, scorer.weights_sha256}:
        raise StoreError(
            f"{what} is of concepts of a model with weights {str(weights_sha256)[:12]}, but the candidates are of "
            f"{scorer.model} with weights {str(scorer.weights_sha256)[:12]}."
        )


def _read_bank(path: str, scorer: SelectionModel) -> dict[str, dict[str, Any]]:
    bank = ConceptBank.load(path)
    _demand_model(bank.info.weights_sha256, scorer, f"bank {path}")
    return _by_id(bank.table)


def _read_boards(folder: Path, scorer: SelectionModel) -> dict[str, dict[str, Any]]:
    table = _read_table(folder / "boards.parquet")
    if missing := {"concept_id", "png", "weights_sha256"} - set(table):
        raise DataError(f"{folder / 'boards.parquet'} lacks the columns {sorted(missing)}: expected a table of boards.")
    for weights in table["weights_sha256"].unique():
        _demand_model(weights, scorer, f"{folder}")
    return _by_id(table.assign(png=[str(folder / png) for png in table["png"]]))


def _read_verdicts(
    config: PublishConfig, scorer: SelectionModel, bank: Mapping[str, dict[str, Any]]
) -> dict[str, ConceptVerdict]:
    """Return what people said of each concept, from the file of verdicts or else from the bank."""
    if config.verdicts is None:
        found = [_verdict_of(row) for row in bank.values() if isinstance(row.get("verdict"), str)]
    else:
        found = list(ConceptVerdicts.load(config.verdicts))
    for verdict in found:
        _demand_model(verdict.weights_sha256, scorer, f"{config.verdicts}")
    return {v.concept_id or f"{v.kind}/{v.class_id}/{v.component}": v for v in found}


def _verdict_of(row: Mapping[str, Any]) -> ConceptVerdict:
    wanted = ("concept_id", "kind", "class_index", "class_id", "component", "verdict")
    votes = row.get("votes")
    return ConceptVerdict.model_validate(
        {column: row[column] for column in wanted}
        | {"source": row["verdict_source"], "votes": () if votes is None else tuple(votes)}
        | {"name": row.get("name") or None}
    )

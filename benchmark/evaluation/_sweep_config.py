"""What a sweep measures: its models and their mitigations, the images, and where the records go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.images import Protocol
from spurious_imagenet.models.spec import short_name
from spurious_imagenet.records import Record
from spurious_imagenet.texts import read_yaml, schema_problem


class SweepModel(Record):
    """One model of a sweep."""

    model: str
    """Model spec."""
    name: str = Field(default="", pattern=r"^[\w][\w .+-]*$|^$")
    """What tables and files call it; made of the spec where left out."""
    image_size: PositiveInt | None = None
    """Input side that overrides the model's own, px."""
    mitigations: tuple[str, ...] = ()
    """Files of ``spurious spufix`` or ``spurious tune``; each adds a record."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = {"model": values} if isinstance(values, str) else values
        if isinstance(values, Mapping) and isinstance(values.get("model"), str) and not values.get("name"):
            return {**values, "name": short_name(values["model"])}
        return values

    @property
    def variants(self) -> dict[str, str | None]:
        """File name of each of its records without protocol and suffix -> mitigation, None for the model's own."""
        return {"": None} | {f"-{Path(file).stem}": file for file in self.mitigations}


class SweepConfig(Record):
    """What to measure, and where the records go."""

    models: tuple[SweepModel, ...] = Field(min_length=1)
    dataset: str
    val: str
    out: Path
    protocols: tuple[Protocol, ...] = Field(default=(Protocol.PAPER, Protocol.STANDARD), min_length=1)
    outputs: Path | None = None
    """Where features and logits are kept; ``out``/outputs where left out."""
    rankings: str | None = None
    """Folder of ``spurious rank``: adds spurious gaps."""
    resamples: PositiveInt = 1000
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    backend: str = "auto"
    workers: PositiveInt | None = None
    max_label_problems: float = Field(default=MAX_LABEL_PROBLEMS, ge=0, le=1)
    """Largest share of the validation images whose label may be of no use."""

    @field_validator("models")
    @classmethod
    def _records_have_files_of_their_own(cls, models: tuple[SweepModel, ...]) -> tuple[SweepModel, ...]:
        for model in models:
            if len(model.variants) != 1 + len(model.mitigations):
                raise ValueError(f"model {model.name!r} has two mitigation files of one name: rename one")
        names = [f"{model.name}{variant}" for model in models for variant in model.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two models are called {twice!r}: give each a name of its own by `name:`")
        return models


def read_models(path: str | Path) -> tuple[SweepModel, ...]:
    """Read a YAML list of models: model specs, or mappings with the fields of :class:`SweepModel`.

    Raises:
        ConfigError: It is no such list; the sentence names the entry and the key.
    """
    content = read_yaml(path, "models", ConfigError)
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{path} holds {_kind(content)}: expected a list of models, each with `- model: SPEC`.")
    return tuple(_model(entry, f"{path}, model {number}") for number, entry in enumerate(content, 1))


def _kind(content: object) -> str:
    if isinstance(content, str):
        return "text"
    if isinstance(content, Mapping):
        return "a mapping"
    return "an empty list" if isinstance(content, list) else "nothing"


def _model(entry: Any, where: str) -> SweepModel:
    try:
        return SweepModel.model_validate(entry)
    except ValidationError as error:
        raise ConfigError(f"{where}: {schema_problem(error, SweepModel.model_fields)}") from None

"""What only the publisher can say of a dataset: licence, gate, date, where it will be, whom to cite."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from spurious_imagenet.records import Record

__all__ = ["CardOptions", "Sample"]

_Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\r\n]+$")]
_Link = Annotated[str, Field(max_length=500, pattern=r"^https://[^\s<>\"]+$")]


class CardOptions(Record):
    """What the card and the Croissant file say that no record of the run knows."""

    repo_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}$")] | None = None
    """Where the dataset will be on the Hub; None: the card speaks of the folder."""
    published: datetime.date | None = None
    """Date of this version; None: of the latest verdict, else the day on which what is published was made."""
    license: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,60}$")] | None = None
    """The Hub's id of the whole dataset's licence, such as ``cc-by-4.0`` or ``other``; None: as the images say."""
    license_name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,95}$")] | None = None
    """Of a licence that the Hub has no id for."""
    license_link: _Link | Literal["LICENSE", "LICENSE.md"] | None = None
    gated_prompt: Annotated[str, Field(max_length=5000)] | None = None
    """What people must agree to before they get the files; None: no gate."""
    gated_fields: dict[_Line, Literal["text", "country", "date_picker", "checkbox"]] = {}
    """What they are asked -> kind of field."""
    authors: tuple[_Line, ...] = ()
    citation: Annotated[str, Field(max_length=5000)] | None = None
    """BibTeX."""
    contact: _Link | None = None
    """Where to report errors; None: the repository's discussions."""
    source_datasets: tuple[_Line, ...] | None = None
    """None: as the images' metadata say."""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = ()
    tags: tuple[_Line, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gated_fields and self.gated_prompt is None:
            raise ValueError("gated_fields without gated_prompt: give the text that people must agree to")
        if (self.license_name or self.license_link) and self.license != "other":
            raise ValueError("license_name and license_link belong to the licence 'other'")
        return self

    @property
    def address(self) -> str:
        """What ``load_dataset`` is given."""
        return self.repo_id or "PATH_OF_THIS_FOLDER"

    @property
    def url(self) -> str | None:
        """The dataset's page."""
        return f"https://huggingface.co/datasets/{self.repo_id}" if self.repo_id else None

    @property
    def reports(self) -> str | None:
        """Page where errors are reported."""
        return self.contact or (f"{self.url}/discussions" if self.url else None)


@dataclass(frozen=True)
class Sample:
    """An image that the card shows.

    Attributes:
        path: In the dataset's folder, such as ``samples/0.jpg``.
        class_name: The class that models take it for.
        concept: What people call the cue, or the concept's id.
        votes: How many models took it for the class.
        license: As its source says; None where it does not.
        author: Likewise.
        link: Page of the original, likewise.
    """

    path: str
    class_name: str
    concept: str
    votes: int
    license: str | None = None
    author: str | None = None
    link: str | None = None

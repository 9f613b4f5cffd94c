"""Model specs: ``scheme:address?option=value&…``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.texts import read_list

__all__ = ["ModelSpec", "public_spec", "read_labels_file", "short_name"]

#: A class id and a name that something other than a tab parts: together they would be no class of any image.
_WORDNET_AND_NAME = re.compile(r"n\d{8}[\s,;:]+\S")


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model spec.

    Attributes:
        text: The spec as given; it names the model in every record.
        scheme: Which loader.
        address: What to load.
        options: Options after the ``?``.
        image_size: Input side that overrides the model's own, px.
    """

    text: str
    scheme: str
    address: str
    options: dict[str, str] = field(default_factory=dict)
    image_size: int | None = None

    @classmethod
    def parse(cls, text: str, image_size: int | None = None) -> ModelSpec:
        """Parse a spec.

        Args:
            text: ``scheme:address?option=value&…``.
            image_size: Overrides the option ``image_size``.

        Raises:
            ConfigError: It has no scheme or no address, or a malformed option.
        """
        scheme, colon, rest = text.partition(":")
        address, _, query = rest.partition("?")
        if not colon or not address:
            raise ConfigError(f"model {text!r} is not a model spec: expected scheme:address, such as timm:resnet50.")
        try:
            options = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
        except ValueError:
            raise ConfigError(f"model {text!r} has malformed options {query!r}: expected name=value&….") from None
        spec = cls(text, scheme, address, options)
        own_size = spec.take_int("image_size")
        size = image_size or own_size
        if size is not None and size < 1:
            raise ConfigError(f"model {text!r} was asked for an image size of {size} px: expected at least 1.")
        return cls(text, scheme, address, {k: v for k, v in options.items() if k != "image_size"}, size)

    def take_int(self, name: str) -> int | None:
        """Return an option as an integer, None where it is not given."""
        value = self.options.get(name)
        if value is None:
            return None
        try:
            return int(value)
        except ValueError:
            raise ConfigError(f"model {self.text!r}: option {name}={value!r} is not a whole number.") from None

    def take_float(self, name: str) -> float | None:
        """Return an option as a number, None where it is not given."""
        value = self.options.get(name)
        if value is None:
            return None
        try:
            return float(value)
        except ValueError:
            raise ConfigError(f"model {self.text!r}: option {name}={value!r} is not a number.") from None

    def check_options(self, *known: str) -> None:
        """Refuse options that the scheme does not know.

        Raises:
            ConfigError: One is unknown.
        """
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            raise ConfigError(
                f"model {self.text!r} has the unknown option {unknown[0]!r}: {self.scheme}: takes "
                f"{', '.join(sorted({*known, 'image_size'}))}."
            )

    def label_options(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """Read class ids and names from the file that the option ``labels`` names, if it is given."""
        path = self.options.get("labels")
        return (None, None) if path is None else read_labels_file(path)


def read_labels_file(path: str | Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read one class per line: its id, optionally a tab and its name. Lines without anything may only end the file.

    Raises:
        ConfigError: The file is missing or empty, a line between classes is empty, or lines are not of this form.
    """
    lines = read_list(path, "labels file", ConfigError)
    if not lines:
        raise ConfigError(f"labels file {path} is empty: expected one class id per line.")
    for expected, (number, line) in enumerate(lines, start=lines[0][0]):
        if number != expected:
            raise ConfigError(
                f"labels file {path}, line {expected} is empty, but classes follow: expected one class per line, in "
                "the order of the model's outputs; delete the line, or write what stands there."
            )
        if "\t" not in line and _WORDNET_AND_NAME.match(line):
            raise ConfigError(
                f"labels file {path}, line {number}: got {line[:60]!r}, expected a tab between id and name."
            )
    pairs = [line.partition("\t") for _, line in lines]
    return tuple(p[0].strip() for p in pairs), tuple((p[2] or p[0]).strip() for p in pairs)


def public_spec(spec: str) -> str:
    """Return a model spec without the directories of local files: where a publisher keeps them is nobody's business."""
    if not spec.startswith(("file:", "robust:")):
        return spec
    return re.sub(r"(?<=[:=])[^?&=]*/", "", spec)


def short_name(spec: str) -> str:
    """Return what to call a model in tables and file names: its architecture, or its file without folder and suffix."""
    address = spec.partition(":")[2].partition("?")[0].partition("@")[0] or spec
    last = address.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", last.removesuffix(".safetensors")).strip("-.") or "model"

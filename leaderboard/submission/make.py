"""Making a submission of what an evaluation left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.errors import ModelError
from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.submission.information import field_problems, is_public_spec
from spurious_imagenet.leaderboard.submission.problems import SubmissionError
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.submission.table import KEY, canonical
from spurious_imagenet.leaderboard.submission.write import write_submission
from spurious_imagenet.models.weights_file import read_weights_info

__all__ = ["make_submission", "submission_of"]


def make_submission(
    record: EvalRecord | str | Path,
    out: str | Path,
    *,
    authors: Sequence[str],
    training_data: str,
    licence: str,
    dataset_version: str,
    model: str | None = None,
    link: str | None = None,
    architecture: str | None = None,
    notes: str | None = None,
) -> Path:
    """Write a submission of one evaluation.

    Args:
        record: A record with its predictions, as :func:`spurious_imagenet.evaluate` returns it, or its file.
        out: A zip to write, or a directory where it does not end in ``.zip``; the same record gives the same bytes.
        authors: Who submits.
        training_data: What the model was trained on, such as ``ImageNet-1k``.
        licence: Of the weights.
        dataset_version: Version of the dataset, such as ``1.0.0``.
        model: What to call it on the board; the record's name if left out.
        link: Where to read more; https.
        architecture: timm's name of it; found out where the spec tells.
        notes: What else readers should know.

    Returns:
        ``out``.

    Raises:
        DataError: The record's predictions are missing, or (SubmissionError) something would be refused.
    """
    source = record if isinstance(record, EvalRecord) else EvalRecord.load(record)
    made = submission_of(
        source,
        authors=authors,
        training_data=training_data,
        licence=licence,
        dataset_version=dataset_version,
        model=model,
        link=link,
        architecture=architecture,
        notes=notes,
    )
    return write_submission(made, out)


def submission_of(
    record: EvalRecord,
    *,
    authors: Sequence[str],
    training_data: str,
    licence: str,
    dataset_version: str,
    model: str | None = None,
    link: str | None = None,
    architecture: str | None = None,
    notes: str | None = None,
) -> Submission:
    """Return the submission that :func:`make_submission` writes."""
    try:
        info = SubmissionInfo.model_validate(
            {
                "model": record.name if model is None else model,
                "authors": tuple(authors),
                "link": link,
                "training_data": training_data,
                "licence": licence,
                # A local file means nothing to others, and its path is nobody's business.
                "spec": record.model if is_public_spec(record.model) else None,
                "architecture": architecture or _architecture(record.model),
                "weights_sha256": record.weights_sha256,
                "parameters": record.parameters,
                "mitigation": record.mitigation.words if record.mitigation else None,
                "protocol": record.protocol,
                "dataset_version": dataset_version,
                "dataset_sha256": record.dataset_sha256,
                "validation_sha256": record.validation_sha256,
                "code_version": record.code_version,
                "notes": notes,
            }
        )
    except ValidationError as error:
        raise SubmissionError(list(field_problems(error))) from None
    table = record.read_predictions().table.drop_duplicates(KEY)  # equal files have equal predictions
    return Submission(info, canonical(table))


def _architecture(spec: str) -> str | None:
    """Return timm's name of the architecture where the spec or the weights file says it."""
    scheme, _, rest = spec.partition(":")
    address = rest.partition("?")[0]
    if scheme == "timm" and ":" not in address:
        return address.partition(".")[0]
    if scheme == "wheel":
        return f"tf_{address}"
    if scheme == "file" and Path(address).is_file():
        try:
            about = read_weights_info(address)
        except ModelError:
            return None
        return about.arch if about else None
    return None

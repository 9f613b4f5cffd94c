"""Cards of published rankings and of verdicts on concepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from card_helpers import TEXT, write_file
from datasets import Features, List, Value, load_dataset
from markdown_it import MarkdownIt

from spurious_imagenet.data_cards import CardOptions, render_annotations_card, render_ranked_card
from spurious_imagenet.data_cards.croissant import write_croissant
from spurious_imagenet.data_cards.croissant_check import check_croissant
from spurious_imagenet.datasets.manifest import Change, DatasetManifest
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, LeftOut, RankingsInfo

OPTIONS = CardOptions(published="2026-03-07", license="cc0-1.0")
HOSTILE = "<script>x</script> | ![x](https://evil.example/x.png)\n---\n# Big www.evil.example"
VERDICTS = Features(
    {"concept_id": TEXT, "class_id": TEXT, "name": TEXT, "verdict": TEXT, "source": TEXT}
    | {"votes": List({"labeler": TEXT, "answer": TEXT, "confidence": Value("float64")})}
)


def manifest(kind: str, files: tuple[Any, ...], **more: Any) -> DatasetManifest:
    changes = (Change(version="2.0.0", text="Second."),)
    return DatasetManifest(
        **(
            {
                "kind": kind,
                "name": "Cues",
                "version": "2.0.0",
                "code_version": "0.1.0",
                "files": files,
                "changes": changes,
            }
            | more
        )
    )


def ranked(split: str, class_name: str) -> list[dict[str, Any]]:
    row = dict.fromkeys(RANKINGS_SCHEMA.names) | {"split": split, "class_id": "c0", "class_name": class_name}
    return [row | {"rank": i + 1, "of": 4, "ranked_split": end} for i, end in enumerate(("low", None, None, "high"))]


def info(judged: str | None = "10 concepts, κ 0.71") -> RankingsInfo:
    counts = {
        "val_images": 4243,
        "val_classes": 1,
        "val_controls": 3,
        "train_images": 5407,
        "train_constant_concepts": 17,
    }
    return RankingsInfo(
        model="timm:resnet50",
        weights_sha256="ab" * 32,
        feature_config_sha256="cd" * 32,
        concepts={"c0": ("npca/c0/0", "npca/c0/7")},
        config={"k": 10, "share": None, "image_license": None, "verdict": None},
        counts=counts,
        judged=judged,
        left_out=(LeftOut(split="train", class_id="c9", images=1, reason="few"),),
    )


def rankings(folder: Path, class_name: str = "boat") -> DatasetManifest:
    features = Features.from_arrow_schema(pa.schema(RANKINGS_SCHEMA))
    files = [write_file(folder, "rankings", split, features, ranked(split, class_name)) for split in ("train", "val")]
    files.append(write_file(folder, "low", "val", features, ranked("val", class_name)[:1]))
    return manifest("rankings", tuple(files), name=class_name)


def verdicts(folder: Path, text: str = "boat") -> DatasetManifest:
    def votes(*answers: str) -> list[dict[str, str]]:
        who = ("labeler 1", "labeler 2", "adjudicator")
        return [{"labeler": labeler, "answer": answer} for labeler, answer in zip(who, answers, strict=False)]

    rows: list[dict[str, Any]] = [
        {"concept_id": "a", "verdict": "spurious", "votes": votes("spurious", "spurious")},
        {"concept_id": "b", "verdict": "core", "votes": votes("core", "spurious", "core")},
        {"concept_id": "c", "verdict": "core", "source": "sfe", "votes": []},
    ]
    rows = [{"class_id": "c0", "name": text, "source": f"review:{text}"} | row for row in rows]
    file = write_file(folder, "annotations", "train", VERDICTS, rows)
    return manifest("concept-annotations", (file,), name=text, facts={"agreement": text})


def parts(text: str) -> tuple[dict[str, Any], str]:
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(front), body


def test_the_card_of_rankings_says_what_they_say(tmp_path: Path) -> None:
    made = rankings(tmp_path)
    text = render_ranked_card(tmp_path, made, info=info(), options=OPTIONS)
    (tmp_path / "README.md").write_text(text)
    front, body = parts(text)
    assert [(c["config_name"], c.get("default", False)) for c in front["configs"]] == [
        ("rankings", True),
        ("low", False),
    ]
    assert (front["license"], front["annotations_creators"]) == ("cc0-1.0", ["expert-generated"])
    assert "| val | 4243 | 1 | 3 | 0 | 0 | 0 | 0 |" in body
    assert "| train | 5407 | 0 | 0 | 0 | 0 | 17 | 1 |" in body
    for said in ("κ 0.71", "timm:resnet50", "npca/c0/0, npca/c0/7", "Second.", "Config `low` holds", "no pixels"):
        assert said in body
    assert "Configs" not in body
    assert body.count("| `spuriosity` |") == 1, "configs of equal columns share a table"
    assert len(load_dataset(str(tmp_path), "low", split="val", cache_dir=str(tmp_path / "cache"))) == 1
    write_croissant(tmp_path, made, options=OPTIONS)
    assert check_croissant(tmp_path) == []


def test_rankings_that_nobody_judged_say_so(tmp_path: Path) -> None:
    front, body = parts(render_ranked_card(tmp_path, rankings(tmp_path), info=info(judged=None)))
    assert "Not judged" in body
    assert front["annotations_creators"] == ["machine-generated"]
    pixels = info().model_copy(update={"config": {"share": 0.05, "image_license": "for research only"}})
    front, body = parts(render_ranked_card(tmp_path, rankings(tmp_path), info=pixels))
    assert (front["license"], front["license_name"]) == ("other", "of-the-images")
    assert "for research only" in body
    assert "5.0% of lowest spuriosity" in body
    assert "join_images" not in body


def test_the_card_of_verdicts_counts_them(tmp_path: Path) -> None:
    made = verdicts(tmp_path)
    text = render_annotations_card(tmp_path, made, licences={"sfe": "MIT"}, options=OPTIONS)
    front, body = parts(text)
    assert front["configs"][0]["config_name"] == "annotations"
    said = ("3 concepts", "| core | 2 |", "| spurious | 1 |", "| review:boat | 2 |", "| sfe | 1 | MIT |")
    also = (
        "2 labelers under pseudonyms cast 5 votes on 2 concepts; on 1 of these",
        "Of the other 1 concepts",
        "Second.",
    )
    for words in (*said, *also):
        assert words in body
    write_croissant(tmp_path, made, options=OPTIONS)
    assert check_croissant(tmp_path) == []


@pytest.mark.parametrize("kind", ["rankings", "annotations"])
def test_strangers_text_is_inert(tmp_path: Path, kind: str) -> None:
    if kind == "rankings":
        text = render_ranked_card(tmp_path, rankings(tmp_path, HOSTILE), info=info(judged=HOSTILE), options=OPTIONS)
    else:
        text = render_annotations_card(
            tmp_path, verdicts(tmp_path, HOSTILE), licences={"sfe": HOSTILE}, options=OPTIONS
        )
    front, body = parts(text)
    assert front["pretty_name"] == " ".join(HOSTILE.split())
    html = MarkdownIt("gfm-like", {"linkify": False}).render(body)
    assert not [tag for tag in ("<script", "<img", "<a ", "<h1>Big") if tag in html]
    assert html.count("<h1>") == 1

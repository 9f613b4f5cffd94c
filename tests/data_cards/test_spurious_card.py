"""The card of spurious images says what the records say, and strangers' text stays text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from card_helpers import CONCEPTS, COUNTS, OPTIONS, RETIRED, REVIEW, SPURIOUS, Dataset, make_dataset, rows
from datasets import Features, load_dataset
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from pydantic import ValidationError

from spurious_imagenet.data_cards import CardOptions, Sample, render_spurious_card
from spurious_imagenet.data_cards.card import one_line
from spurious_imagenet.datasets.manifest import Change, SelectionModel
from spurious_imagenet.errors import DataError

CC_BY = "https://creativecommons.org/licenses/by/2.0/"
CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"
HOSTILE = [
    "<script>alert(1)</script>",
    "<!-- hidden --> --> <!--",
    "![x](https://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    "https://evil.example/?a=b www.evil.example a@evil.example",
    "a | b | c\n| --- |\n---\nlicense: mit\n---\n# Big",
    "{{ 7 * 7 }} {% raw %} ${x} $$y$$ `code` ``more``",
    "\u202egnp.exe\u2066 \x00\x1b[31m",
    "<img src=x onerror=alert(1)>&lt;b&gt;",
    "[ref]: https://evil.example\n[ref]",
]


def card(dataset: Dataset, review: dict[str, Any] | None = REVIEW, options: CardOptions = OPTIONS) -> str:
    return render_spurious_card(
        dataset.folder,
        dataset.manifest,
        concepts=dataset.concepts,
        review=review,
        samples=dataset.samples,
        options=options,
    )


def parts(text: str) -> tuple[dict[str, Any], str]:
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(front), body


def tokens(body: str) -> list[Any]:
    found = MarkdownIt("gfm-like", {"linkify": False}).parse(body)
    return [*found, *(t for token in found for t in token.children or [])]


def plain(body: str) -> str:
    """Return what a person reads, one line an element."""
    found = MarkdownIt("gfm-like", {"linkify": False}).parse(body)
    lines = ["".join(t.content for t in token.children or [token] if t.type != "image") for token in found]
    return "\n".join(line for line in lines if line)


def test_the_hub_and_datasets_read_the_front_matter(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    (tmp_path / "README.md").write_text(card(dataset), encoding="utf-8")
    data = DatasetCard.load(tmp_path / "README.md").data
    infos = DatasetInfosDict.from_dataset_card_data(data)
    assert {config: info.features for config, info in infos.items()} == {
        "spurious": SPURIOUS,
        "concepts": CONCEPTS,
        "retired": RETIRED,
    }
    assert infos["spurious"].splits is None, "with the sizes of splits, datasets refuses filtered rows"
    front = data.to_dict()
    assert [c["config_name"] for c in front["configs"] if c.get("default")] == ["spurious"]
    assert [f["path"] for f in front["configs"][1]["data_files"]] == ["concepts/test.parquet", "concepts/extra.parquet"]
    wanted = {"pretty_name", "license", "task_categories", "tags", "size_categories", "annotations_creators"}
    assert wanted | {"source_datasets", "configs", "dataset_info"} <= set(front)
    for config, split, count in (("spurious", "test", 6), ("concepts", "test", 2), ("concepts", "extra", 1)):
        cache = str(tmp_path / "cache")
        assert len(load_dataset(str(tmp_path), config, split=split, cache_dir=cache)) == count
        assert sum(1 for _ in load_dataset(str(tmp_path), config, split=split, streaming=True)) == count
    two = load_dataset(str(tmp_path), "spurious", split="test", filters=[("class_id", "==", "c1")], cache_dir=cache)
    assert two["class_name"][:] == ["boat"] * 3


def test_every_number_is_the_records(tmp_path: Path) -> None:
    text = plain(parts(card(make_dataset(tmp_path / "a")))[1])
    for number in [*COUNTS.values(), *(v for v in REVIEW.values() if isinstance(v, int))]:
        assert re.search(rf"\b{number}\b", text), number
    assert REVIEW["agreement"] in text
    counts = {name: count + 100_000 for name, count in COUNTS.items()} | {"classes": 2, "something_else": 4_242_424}
    changed = plain(parts(card(make_dataset(tmp_path / "b", counts=counts)))[1])
    assert all(str(count) in changed for count in counts.values())
    assert not any(re.search(rf"\b{count}\b", changed) for count in COUNTS.values() if count > 100)


def test_who_voted_what_changed_and_what_was_taken_back(tmp_path: Path) -> None:
    text = plain(parts(card(make_dataset(tmp_path)))[1])
    for said in ("timm:resnet50", "scorer", "ab" * 8, "file:other.safetensors", "One image less.", "First."):
        assert said in text
    assert "Retracted so far: 1" in text
    assert "https://huggingface.co/datasets/org/planted/discussions" in text
    assert "@misc{planted-cues" in text
    assert "A. Author and B. Writer" in text


@pytest.mark.parametrize(
    ("licences", "shown", "expected"),
    [
        ([CC_BY], ["cc-by-2.0"], {"license": "cc-by-2.0"}),
        ([CC_BY, CC0], ["cc-by-2.0", "cc0-1.0"], {"license": ["cc-by-2.0", "cc0-1.0"]}),
        ([CC_BY, None], ["cc-by-2.0", "not stated"], {"license": "other", "license_name": "per-image"}),
        (["all rights reserved"], ["all rights reserved"], {"license": "other", "license_name": "per-image"}),
        ([None], [], {"license": "unknown"}),
    ],
)
def test_the_licence_is_the_images(
    tmp_path: Path, licences: list[str | None], shown: list[str], expected: dict[str, Any]
) -> None:
    dataset = make_dataset(tmp_path, rows(licences=licences, author="Someone"))
    front, body = parts(card(dataset))
    assert {key: front[key] for key in front if key.startswith("license")} == expected
    for licence in shown:
        assert f"\n{licence}\n{6 // len(licences)}\n" in plain(body)
    assert ("do not say whose they are" in plain(body)) == (not shown)
    own = CardOptions(license="other", license_name="my-terms", license_link="https://example.org/terms")
    assert parts(card(dataset, options=own))[0]["license_name"] == "my-terms"


def test_openimages_bias_is_said_of_openimages_only(tmp_path: Path) -> None:
    front, body = parts(card(make_dataset(tmp_path / "a", rows(open_images=True))))
    assert "6 of the images come from OpenImages" in plain(body)
    assert front["source_datasets"] == ["extended|other-open-images"]
    front, body = parts(card(make_dataset(tmp_path / "b")))
    assert "OpenImages" not in plain(body).replace("OpenImages' ImageID", "")
    assert front["source_datasets"] == ["original"]


def test_images_that_nobody_judged_are_not_passed_off_as_judged(tmp_path: Path) -> None:
    front, body = parts(card(make_dataset(tmp_path, rows(reviewed=False)), review=None))
    assert "Not reviewed" in plain(body)
    assert "labelers, who did not see" not in plain(body)
    assert front["annotations_creators"] == ["machine-generated"]


def test_a_gate_stands_in_the_front_matter(tmp_path: Path) -> None:
    prompt = "Agree:\n\n---\n- to <b>this</b>: # yes\n---\nlicense: mit"
    options = CardOptions(gated_prompt=prompt, gated_fields={"Name": "text", "I agree: really": "checkbox"})
    text = card(make_dataset(tmp_path), options=options)
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    front = DatasetCard.load(tmp_path / "README.md").data.to_dict()
    assert front["extra_gated_prompt"] == prompt
    assert front["extra_gated_fields"] == {"Name": "text", "I agree: really": "checkbox"}
    assert front["license"] == "unknown"


def test_options_that_contradict_each_other_are_refused() -> None:
    for wrong in (
        {"gated_fields": {"Name": "text"}},
        {"license": "mit", "license_name": "x"},
        {"contact": "javascript:alert(1)"},
        {"repo_id": "../x"},
        {"license_link": "file:///etc/passwd", "license": "other"},
    ):
        with pytest.raises(ValidationError):
            CardOptions(**wrong)


@pytest.mark.parametrize("text", HOSTILE)
def test_strangers_text_is_inert(tmp_path: Path, text: str) -> None:
    safe = make_dataset(tmp_path / "safe")
    content = rows((text, "boat"), licences=[text], author=text)
    dataset = make_dataset(
        tmp_path / "hostile",
        content,
        name=text,
        code_version=text,
        changes=(Change(version="1.2.3", text=text), Change(version="1.0.0", text="First.")),
        miners=(
            SelectionModel(model=text, role="scorer", architecture=text),
            SelectionModel(model="timm:b", role="voter"),
        ),
        facts={text: text},
        counts=COUNTS | {"classes": 2, text: 5},
    )
    sample = Sample("samples/a b)(<x>.jpg", text, text, 3, text, text, text)
    dataset = Dataset(dataset.folder, dataset.manifest, [c | {"name": text} for c in dataset.concepts], [sample])
    options = OPTIONS.model_copy(update={"authors": (text,), "citation": text + "\n```\n# out\n<script>"})
    review = REVIEW | {"agreement": text}
    front, body = parts(card(dataset, review, options))
    assert front["pretty_name"] == one_line(text)
    assert front["license"] == "other"
    found = tokens(body)
    assert not {"html_block", "html_inline"} & {t.type for t in found}
    assert [t.attrs["href"] for t in found if t.type == "link_open"] == [OPTIONS.reports]
    images = [t.attrs["src"] for t in found if t.type == "image"]
    assert images == ["samples/a%20b%29%28%3Cx%3E.jpg"]

    def headings(body: str) -> list[str]:
        found = MarkdownIt("gfm-like", {"linkify": False}).parse(body)
        return [found[i + 1].content for i, token in enumerate(found) if token.type == "heading_open"][1:]

    expected = headings(parts(card(safe))[1])
    assert headings(body) == expected
    assert not set("\u202e\u2066\x00\x1b") & set(body)
    linked = MarkdownIt("gfm-like", {"linkify": False}).render(body)
    assert linked.count("<a ") == 1
    assert "<script" not in linked.lower()


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    assert card(make_dataset(tmp_path / "a")) == card(make_dataset(tmp_path / "b"))


def test_files_of_a_config_must_have_the_same_columns(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    first, second = dataset.manifest.files[:2]
    odd = (first, second.model_copy(update={"config": "spurious", "split": "extra"}))
    wrong = Dataset(tmp_path, dataset.manifest.model_copy(update={"files": odd}), dataset.concepts, dataset.samples)
    with pytest.raises(DataError, match=r"concepts/test\.parquet has other columns"):
        card(wrong)


def test_features_say_nested_types() -> None:
    from spurious_imagenet.data_cards._columns import columns_of

    found = {column.name: column.type for column in columns_of(Features(SPURIOUS))}
    assert found["models"] == "list of {model, class_id, probability}"
    assert (found["image"], found["shard_offset"]) == ("image", "int64")


def test_odd_model_names_stay_code(tmp_path: Path) -> None:
    for i, model in enumerate(("file:a`b``c<script>.safetensors", "`", "timm:x\n# y")):
        miners = (SelectionModel(model=model, role="scorer"), SelectionModel(model="timm:b", role="voter"))
        body = parts(card(make_dataset(tmp_path / str(i), miners=miners)))[1]
        assert one_line(model) in [t.content for t in tokens(body) if t.type == "code_inline"]

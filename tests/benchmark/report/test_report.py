"""The page, the figures and the tables of simulated records."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_helpers import HOSTILE, write_record, write_sweep
from typer.testing import CliRunner

from spurious_imagenet.benchmark.comparison.compare import compare
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.report import write_report
from spurious_imagenet.benchmark.report._comparison import compare_group
from spurious_imagenet.benchmark.report._groups import group_records, load_measured
from spurious_imagenet.benchmark.report._words import mitigation_words, name_list, short_source, signed
from spurious_imagenet.benchmark.report.reported import reported_papers
from spurious_imagenet.benchmark.report.tables import ReportTable, model_table
from spurious_imagenet.cli import app
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.images import Protocol

FEW = 200


class Tags(HTMLParser):
    """Collects what a page holds, as a browser would read it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder, models=4)
    return folder


@pytest.fixture(scope="module")
def written(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_report([sweep], root / "r.html", figures=root / "f", tables=root / "t", title=HOSTILE, resamples=FEW)
    return root


def test_nothing_that_a_user_wrote_becomes_markup(written: Path) -> None:
    page = Tags((written / "r.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count(HOSTILE) >= 3  # title, heading, class
    addresses = [v for _, a in page.tags for k, v in a.items() if k in {"src", "href", "xlink:href", "action"}]
    assert addresses
    assert all(v is not None and v.startswith(("#", "data:image/")) for v in addresses)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy


def test_ids_are_unique_and_every_reference_is_there(written: Path) -> None:
    page = Tags((written / "r.html").read_text(encoding="utf-8"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a[k] for _, a in page.tags for k in ("href", "xlink:href") if k in a}
    assert {str(t).removeprefix("#") for t in targets} <= set(ids)


def test_colours_are_the_pages_own(written: Path) -> None:
    text = (written / "r.html").read_text(encoding="utf-8")
    drawings = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(drawings) > 10
    assert not re.search(r"(fill|stroke):\s*#", "".join(drawings))
    defined = set(re.findall(r"--([\w]+):", text))
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= defined


def test_equal_records_give_equal_bytes(sweep: Path, written: Path, tmp_path: Path) -> None:
    write_report(
        [sweep], tmp_path / "r.html", figures=tmp_path / "f", tables=tmp_path / "t", title=HOSTILE, resamples=FEW
    )
    files = sorted(p.relative_to(written) for p in written.rglob("*") if p.is_file())
    assert len(files) == 1 + 3 * 7 + 3 * 3
    assert [f for f in files if (tmp_path / f).read_bytes() != (written / f).read_bytes()] == []


def test_figures_are_of_their_kind(written: Path) -> None:
    heads = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    figures = list((written / "f").iterdir())
    assert {f.suffix for f in figures} == set(heads)
    assert all(f.read_bytes().startswith(heads[f.suffix]) for f in figures)


def test_tables_hold_the_records_numbers_in_full(sweep: Path, written: Path) -> None:
    records = [EvalRecord.load(path) for path in sorted(sweep.glob("*.json"))]
    rows = list(csv.DictReader((written / "t/models.csv").open(encoding="utf-8")))
    assert len(rows) == len(records)
    by_auc = {float(row["spurious AUC"]): row for row in rows}
    for record in records:
        row = by_auc[record.mean.spurious_auc]
        assert float(row["spurious AP"]) == record.mean.spurious_ap
        assert float(row["spurious AP low"]) == record.mean_intervals["spurious_ap"].low
        assert float(row["accuracy"]) == record.accuracy
        assert record.gaps is not None
        assert float(row["spurious gap"]) == record.gaps.gap
    classes = list(csv.DictReader((written / "t/classes.csv").open(encoding="utf-8")))
    assert len(classes) == sum(len(r.classes) for r in records)
    values = {(r.weights_sha256, bool(r.mitigation)): [c.spurious_auc for c in r.classes] for r in records}
    assert sorted(float(c["spurious AUC"]) for c in classes) == sorted(v for row in values.values() for v in row)


def test_tables_run_nothing(written: Path) -> None:
    cells = [c for row in csv.reader((written / "t/classes.csv").open(encoding="utf-8")) for c in row]
    hostile = [c for c in cells if "1+1" in c]
    assert hostile
    assert all(c == "'" + HOSTILE for c in hostile)
    markdown = (written / "t/classes.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    latex = (written / "t/classes.tex").read_text(encoding="utf-8")
    assert r"\input" not in latex
    assert r"\textbackslash{}input\{x\}\textbar{}\&\_" in latex


def test_a_table_says_what_has_no_value() -> None:
    table = ReportTable("c", ("a", "b", "d"), ((None, True, -0.25), (1.5, False, 3)))
    assert table.csv() == "a,b,d\n,True,-0.25\n1.5,False,3\n"
    assert "| – | yes | -0.250 |" in table.markdown()
    assert "-- & yes & -0.250" in table.latex()


def test_records_of_other_images_protocols_or_rankings_stand_apart(tmp_path: Path) -> None:
    write_record(tmp_path, "a")
    write_record(tmp_path, "b", seed=1)
    write_record(tmp_path, "a", protocol=Protocol.STANDARD)
    write_record(tmp_path, "a", seed=2, dataset="other")
    groups = group_records(load_measured([tmp_path]))
    assert sorted(len(g.members) for g in groups) == [1, 1, 2]
    write_record(tmp_path, "c", seed=3, k=5)
    write_record(tmp_path, "d", seed=4, gaps=False)
    groups = group_records(load_measured([tmp_path]))
    assert sorted(len(g.members) for g in groups) == [1, 1, 1, 1, 2]
    for group in groups:
        assert len({m.gap_key for m in group.members}) == 1


def test_a_page_separates_groups_and_says_so(tmp_path: Path) -> None:
    write_record(tmp_path, "a", gaps=False)
    write_record(tmp_path, "a", gaps=False, protocol=Protocol.STANDARD)
    report = write_report([tmp_path], tmp_path / "r.html", tables=tmp_path / "t", resamples=FEW)
    assert report.groups == 2
    assert {p.name for p in (tmp_path / "t").glob("*.csv")} == {
        f"{group}-{name}.csv" for group in (1, 2) for name in ("models", "classes", "pairs")
    }
    page = Tags((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert sum("models" in (a.get("class") or "").split() for tag, a in page.tags if tag == "table") == 2
    assert any("2 groups, which are not compared" in text for text in page.text)


def test_one_model_alone_has_a_page(tmp_path: Path) -> None:
    path = write_record(tmp_path, "alone", gaps=False)
    report = write_report([path], tmp_path / "r.html", resamples=FEW)
    assert (report.records, report.groups) == (1, 1)
    assert report.size == (tmp_path / "r.html").stat().st_size


def test_undefined_correlations_are_said(tmp_path: Path) -> None:
    for seed in range(2):
        path = write_record(tmp_path, f"m{seed}", seed=seed)
        content = json.loads(path.read_text())
        for gap in content["gaps"]["classes"]:
            gap["gap"] = 0.25 if seed else gap["gap"]
        path.write_text(json.dumps(content))
    group = group_records(load_measured([tmp_path]))[0]
    assert compare_group(group, resamples=FEW).correlations == {(0, 1): None}
    write_report([tmp_path], tmp_path / "r.html", resamples=FEW)
    assert "1 pair without a value" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_ties_are_those_of_the_comparison(sweep: Path) -> None:
    group = group_records(load_measured([sweep]))[0]
    comparison = compare_group(group, resamples=FEW)
    found = compare(((m.label, m.predictions) for m in group.members), resamples=FEW)
    for place, member in enumerate(group.members):
        mine = [d for d in found.differences if d.measure == "spurious_auc" and member.label in {d.first, d.second}]
        tied = {d.first if d.second == member.label else d.second for d in mine if not d.distinguishable}
        assert {group.members[i].label for i in comparison.ties(place, "spurious_auc")} == tied
    assert 0 < sum(len(comparison.ties(i, "spurious_auc")) for i in range(len(group.members))) < 30


def test_a_mitigation_follows_its_model_and_its_change_has_the_right_sign(sweep: Path) -> None:
    group = group_records(load_measured([sweep]))[0]
    assert len(group.pairs) == 2
    for base, fixed in group.pairs:
        assert fixed.label == f"{base.record.name} + SpuFix"
        assert group.members.index(fixed) == group.members.index(base) + 1
    said = mitigation_words(group, compare_group(group, resamples=FEW))
    for (base, fixed), sentence in zip(group.pairs, said, strict=True):
        change = fixed.record.mean.spurious_auc - base.record.mean.spurious_auc
        assert sentence.startswith(f"{fixed.label}: {signed(change)} AUC (95 %: ")
        low, high = (float(n.replace("−", "-")) for n in re.findall(r"\(95 %: (\S+) to (\S+)\)", sentence)[0])
        assert low <= change <= high


def test_effective_robustness_is_in_the_table_and_sums_to_zero_without_mitigations(sweep: Path) -> None:
    group = group_records(load_measured([sweep]))[0]
    table = model_table(group, compare_group(group, resamples=FEW))
    place = table.columns.index("effective robustness")
    values = [row[place] for row in table.rows if row[1] == "none"]
    assert sum(v for v in values if isinstance(v, float)) == pytest.approx(0, abs=1e-12)


def test_names_that_are_alike_are_told_apart(tmp_path: Path) -> None:
    write_record(tmp_path, "same", weights="w1")
    write_record(tmp_path, "same", weights="w2", seed=1)
    labels = [m.label for m in group_records(load_measured([tmp_path]))[0].members]
    assert len(set(labels)) == 2
    assert all(label.startswith("same (") for label in labels)


def test_bad_records_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = write_record(tmp_path, "a")
    again = path.with_name("again.json")
    again.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="same model under the same protocol"):
        load_measured([tmp_path])
    again.unlink()
    record = EvalRecord.load(path)
    predictions = tmp_path / record.predictions
    whole = predictions.read_bytes()
    predictions.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="not the predictions of the record"):
        load_measured([path])
    predictions.unlink()
    with pytest.raises(DataError, match="predictions"):
        load_measured([path])
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no record"):
        load_measured([tmp_path / "none"])
    with pytest.raises(DataError, match="not an evaluation record"):
        load_measured([tmp_path / "missing.json"])


def test_folders_are_not_overwritten_and_the_page_is(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/mine.txt").write_text("mine")
    (tmp_path / "r.html").write_text("old")
    with pytest.raises(StoreError, match="already exists"):
        write_report([sweep], tmp_path / "r.html", figures=tmp_path / "f", resamples=FEW)
    assert (tmp_path / "r.html").read_text() == "old"
    write_report([sweep], tmp_path / "r.html", resamples=FEW)
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_reported_numbers_are_the_papers(written: Path) -> None:
    papers = {p.title: p for p in reported_papers()}
    rows = papers["Spurious Features Everywhere"].models
    assert len(rows) == 14
    robust = rows[0]
    assert (robust.accuracy, robust.spurious_ap, robust.spufix_accuracy, robust.spufix_spurious_ap) == (
        57.4,
        0.630,
        56.8,
        0.763,
    )
    # SpuFix helps every model of Table 1 that has the classes; the 21k heads stay as they are.
    for row in rows:
        assert row.spurious_ap is not None
        assert row.spufix_spurious_ap is not None
        assert (row.spufix_spurious_ap > row.spurious_ap) == (row.accuracy is not None)
    values = {f.value for f in papers["Spuriosity Rankings"].findings}
    assert {"r = 0.69", "3.1 ×", "15.7 %", "63.8 %"} <= values
    assert all(f.source for p in papers.values() for f in p.findings)
    models = (written / "t/models.csv").read_text(encoding="utf-8")
    assert "Robust ResNet50" not in models


def test_words() -> None:
    assert name_list(["a"]) == "a"
    assert name_list(["a", "b", "c"]) == "a, b and c"
    assert name_list(list("abcdef")) == "a, b, c, d and 2 more"
    assert name_list(list("abcde")) == "a, b, c, d and e"
    assert (signed(-0.0004), signed(-0.02), signed(0.5, 1)) == ("0.000", "−0.020", "+0.5")
    assert short_source("/data/sets/mine/") == "mine"
    assert short_source("org/name") == "org/name"


def test_the_command_says_what_it_wrote(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(sweep), "--out", str(out), "--resamples", "100", "--title", "<b>"])
    assert result.exit_code == 0, result.output
    assert f"{out}: 6 records" in result.stdout
    assert "<title>&lt;b&gt;</title>" in out.read_text(encoding="utf-8")

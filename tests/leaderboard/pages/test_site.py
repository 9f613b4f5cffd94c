"""The files of a board, one by one and as an export."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from board_browser import fill, pictures
from leaderboard_helpers import MINERS, class_id, digest, random_submission, tiny_version

from spurious_imagenet.errors import StoreError
from spurious_imagenet.leaderboard.entry import Verification
from spurious_imagenet.leaderboard.pages._table import table_rows
from spurious_imagenet.leaderboard.pages.board import BoardData
from spurious_imagenet.leaderboard.pages.export import export_site
from spurious_imagenet.leaderboard.pages.rendering import asset, slug
from spurious_imagenet.leaderboard.pages.site import Site
from spurious_imagenet.leaderboard.store.rescore import rescore
from spurious_imagenet.leaderboard.store.retiring import retire
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.models.spec import short_name

STRANGE = "=1+1 <script>window.pwned=1</script> \u00e4 \"'&"

VERSION = tiny_version()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("board"), create=True)
    store.add_version(VERSION, pictures(VERSION))
    same = digest("weights 1")
    ids = fill(
        store,
        VERSION,
        [
            random_submission(VERSION, 0, model=STRANGE, training_data=STRANGE, notes=STRANGE, authors=(STRANGE,)),
            random_submission(VERSION, 1, model="plain", weights_sha256=same, skill=0.1),
            random_submission(VERSION, 2, model="plain", weights_sha256=same, mitigation="SpuFix", skill=0.9),
            random_submission(VERSION, 3, model="kin", spec="timm:resnet50.a1_in1k"),
        ],
    )
    store.add_verification(
        Verification(
            entry=ids[1], time="2026-02-01T00:00:00+00:00", images=5, agreeing=5, largest_difference=1e-7,
            tolerance=1e-3, weights_sha256=same, verified=True,
        )
    )  # fmt: skip
    return store


@pytest.fixture(scope="module")
def site(store: Store) -> Site:
    return Site(BoardData.read(store))


def text(site: Site, path: str) -> str:
    file = site.file(path)
    assert file is not None, path
    return file.content.decode()


def entry_named(site: Site, model: str, mitigation: str | None = None) -> str:
    entries = site.board.entries.values()
    return next(e.id for e in entries if e.info.model == model and e.info.mitigation == mitigation)


def test_no_page_has_code_or_style_of_its_own(site: Site) -> None:
    pages = [p for p in site.paths() if p.endswith(".html")]
    assert len(pages) > 20
    for path in pages:
        page = text(site, path)
        assert "Content-Security-Policy" in page
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|javascript:|\sstyle=", page), path
        assert "<script>window.pwned" not in page


def test_every_link_of_every_file_leads_to_a_file(site: Site) -> None:
    there = set(site.paths())
    for path in [p for p in there if p.endswith(".html")]:
        for link in re.findall(r'(?:href|src)="([^"]+)"', text(site, path)):
            if link.startswith(("https:", "http:", "#")):
                continue
            target = urljoin(f"/{path}", link).lstrip("/").partition("#")[0].partition("?")[0]
            assert target in there, f"{path} links to {target}"


def test_every_address_gives_its_file_and_others_none(site: Site) -> None:
    for path in site.paths():
        assert site.file(path) is not None, path
    for path in ("models/../index.html", "models/00.html", f"models/{'0' * 64}.html", "classes/nothing.html",
                 f"images/{'0' * 64}.html", "assets/page.py", "data/table-9.9.9.js", "../pyproject.toml",
                 f"downloads/predictions/{'0' * 64}.parquet", f"downloads/scores/1.0.0/{'0' * 64}.json",
                 "downloads/entries/../../x.json", "pictures/boards/x.jpg"):  # fmt: skip
        assert site.file(path) is None, path


def test_the_page_of_a_model_says_what_its_score_says(site: Site) -> None:
    entry = entry_named(site, "plain", "SpuFix")
    page, score = text(site, f"models/{entry}.html"), site.data.store.scored(entry).score
    assert f"{score.mean.spurious_auc:.3f}" in page
    assert f"{100 * score.accuracy:.1f} %" in page
    for record in score.classes:
        assert f">{record.spurious_auc:.3f}<" in page
    gain = site.board.rows[entry].gain.by["spurious_auc"]
    assert f"+{gain.difference:.3f}<small>{gain.interval.low:.3f}" in page.replace("\u2212", "-")
    assert site.board.rows[entry].gain.over in page
    assert entry in text(site, f"models/{entry_named(site, 'plain')}.html")


def test_marks_say_kin_and_verified(site: Site) -> None:
    assert "related model" in text(site, f"models/{entry_named(site, 'kin')}.html")
    assert "all that this entry is related to" in text(site, f"models/{entry_named(site, 'kin')}.html")
    verified = text(site, f"models/{entry_named(site, 'plain')}.html")
    assert ">verified</span>" in verified
    assert "related model" not in verified


def test_the_worst_images_of_a_model_are_its_worst(site: Site) -> None:
    entry = entry_named(site, "kin")
    table = site.data.store.submitted(entry)
    spurious = table[table["side"] == "spurious"].nlargest(12, "probability")
    page = text(site, f"models/{entry}.html")
    gallery = page[page.index('class="gallery"') : page.index('id="history"')]
    assert re.findall(r'href="\.\./images/([0-9a-f]{64})', gallery) == list(spurious["sha256"])


def test_an_image_leads_back_to_verdicts_votes_shard_and_weights(site: Site) -> None:
    row = site.board.spurious.iloc[1]
    page = text(site, f"images/{row['sha256']}.html")
    for said in ("labeler 1", "labeler 2", "2026-01-01", "timm:convnext_base", f"{row['alpha']:.4f}",
                 "images-00000.tar", f"{int(row['shard_size'])} bytes from byte {int(row['shard_offset'])}",
                 "CC BY 2.0",
                 f"spurious trace {row['sha256'][:16]}"):  # fmt: skip
        assert said in page, said
    assert all(m.weights_sha256 in page for m in MINERS if m.weights_sha256)
    judge = site.board.judges[0]
    assert judge in page


def test_an_image_of_two_classes_is_shown_for_both(site: Site) -> None:
    page = text(site, f"images/{digest('spurious shared')}.html")
    assert "class 0" in page
    assert "class 1" in page


def test_the_page_of_a_class_ranks_the_models_on_it(site: Site) -> None:
    page = text(site, f"classes/{slug(class_id(0))}.html")
    values = {i: v.auc for i, v in site.board.class_values(class_id(0)).items()}
    ranking = page[page.index('id="ranking"') :]
    assert re.findall(r'href="\.\./models/([0-9a-f]{64})', ranking) == sorted(values, key=lambda i: -values[i])
    assert 'src="../pictures/boards/' in page


def test_the_table_is_the_ranking(site: Site) -> None:
    script = text(site, "data/table-1.0.0.js")
    data = json.loads(script.partition('["1.0.0"] = ')[2].rstrip(";\n"))
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    assert [r["id"] for r in rows] == list(site.board.entries)
    for row, full in zip(rows, table_rows(site.board), strict=True):
        assert row["auc"] == pytest.approx(full["auc"], abs=1e-5)
        assert row["rank"] == site.board.rows[row["id"]].rank
    assert "<" not in script


def test_cells_that_a_spreadsheet_would_run_are_inert(site: Site) -> None:
    rows = list(csv.DictReader(io.StringIO(text(site, "downloads/table-1.0.0.csv"))))
    assert len(rows) == 4
    assert not any(cell[:1] in "=+@\t" for row in rows for cell in row.values() if cell)
    by_id = {r["id"]: r for r in rows}
    for full in table_rows(site.board):
        assert float(by_id[full["id"]]["auc"]) == full["auc"]


def test_downloads_are_the_raw_records(site: Site, store: Store) -> None:
    entry = entry_named(site, "plain")
    record = json.loads(text(site, f"downloads/entries/{entry}.json"))
    assert record["entry"]["id"] == entry
    assert record["verifications"][0]["verified"] is True
    assert json.loads(text(site, f"downloads/scores/1.0.0/{entry}.json")) == store.scored(entry).score.model_dump(
        mode="json"
    )
    assert len(json.loads(text(site, "downloads/entries.json"))["entries"]) == 4
    assert site.file(f"downloads/predictions/{entry}.parquet").content.startswith(b"PAR1")
    images = json.loads(text(site, "downloads/version-1.0.0.json"))
    assert len(images["images"]) == len(VERSION.images)


def test_an_export_is_the_site(site: Site, store: Store, tmp_path: Path) -> None:
    done = export_site(store, tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {*site.paths(), ".nojekyll"}
    assert done.files == len(found) - 1
    assert (tmp_path / "out/index.html").read_bytes() == site.file("index.html").content
    with pytest.raises(StoreError, match="already exists"):
        export_site(store, tmp_path / "out")
    smaller = export_site(store, tmp_path / "small", predictions=False)
    assert not list((tmp_path / "small").rglob("*.parquet"))
    assert "parquet" not in (tmp_path / "small/models" / f"{entry_named(site, 'kin')}.html").read_text()
    assert smaller.files == done.files - 4


def test_old_scores_and_retired_images_stay_visible(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    store.add_version(VERSION, pictures(VERSION))
    entry = fill(store, VERSION, [random_submission(VERSION, 1)])[0]
    before = Site(BoardData.read(store))
    gone = str(VERSION.side("spurious")["sha256"].iloc[3])
    retire(store, [gone], "shows the class <b>after all</b>", "1.1.0")
    unscored = Site(BoardData.read(store, before.data))
    assert "not been scored on the latest version" in text(unscored, f"models/{entry}.html")
    rescore(store)
    after = Site(BoardData.read(store, unscored.data))
    page = text(after, f"models/{entry}.html")
    old, new = (store.scored(entry, v).score.mean.spurious_auc for v in ("1.0.0", "1.1.0"))
    history = page[page.index('id="history"') : page.index('id="submission"')]
    assert f"{old:.3f}" in history
    assert f"{new:.3f}" in history
    assert "shows the class &lt;b&gt;after all" in text(after, "about.html")
    assert "Retracted in version 1.1.0" in text(after, f"images/{gone}.html")
    assert f"images/{gone}.html" in set(after.paths())
    assert json.loads(text(after, "data/table-1.0.0.js").partition(" = ")[2].rstrip(";\n"))["rows"]


def test_an_empty_board_and_torn_files_have_pages(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    store.add_version(VERSION)
    empty = Site(BoardData.read(store))
    for path in empty.paths():
        assert empty.file(path) is not None, path
    first, second = fill(store, VERSION, [random_submission(VERSION, i) for i in (1, 2)])
    torn = tmp_path / f"scores/1.0.0/{first[:2]}/{first}.json"
    torn.write_text(torn.read_text()[:100])
    site = Site(BoardData.read(Store(tmp_path)))
    assert second in text(site, "data/table-1.0.0.js")
    assert text(site, f"classes/{slug(class_id(0))}.html")
    assert text(site, f"models/{second}.html")
    assert text(site, "classes.html")


def test_a_board_is_read_again_only_when_something_was_added(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    store.add_version(VERSION)
    first = BoardData.read(store)
    assert BoardData.read(store, first) is first
    fill(Store(tmp_path), VERSION, [random_submission(VERSION, 1)])
    assert len(BoardData.read(store, first).latest.entries) == 1


def test_names_of_classes_are_file_names() -> None:
    names = ["n01440764", "a/b", "../x", "A", "a", "ü", "", "x" * 300, "con cern", "n01440764 "]
    slugs = [slug(n) for n in names]
    assert len(set(slugs)) == len(names)
    assert slugs[0] == "n01440764"
    assert all(re.fullmatch("[a-z0-9_-]{1,80}", s) for s in slugs)


def test_the_style_has_the_colours_of_reports() -> None:
    assert b"--accent" in asset("style.css")
    assert b"$light_colors" not in asset("style.css")


def test_a_miner_that_is_left_out_is_named_shortly_and_an_empty_column_explained(tmp_path: Path, site: Site) -> None:
    rows = {r["model"]: r for r in table_rows(site.board)}
    kin = site.data.store.scored(entry_named(site, "kin")).score
    assert (
        rows["kin"]["without_who"] == f"without related models {', '.join(map(short_name, kin.without_related.miners))}"
    )
    other = site.data.store.scored(entry_named(site, STRANGE)).score
    lowest = min(other.without_each_miner, key=lambda left: left.spurious_auc)
    assert rows[STRANGE]["without_who"] == f"lowest: without {short_name(lowest.miners[0])}"
    assert rows[STRANGE]["without"] == lowest.spurious_auc
    assert rows[STRANGE]["without_title"] == f"Without {lowest.miners[0]}"
    assert 'title="timm:resnet50">resnet50</bdi>' in text(site, f"models/{entry_named(site, 'kin')}.html")
    store = Store(tmp_path, create=True)
    store.add_version(VERSION)
    fill(store, VERSION, [random_submission(VERSION, i) for i in (1, 2)])
    page = text(Site(BoardData.read(store)), "index.html")
    assert "Effective robustness is not shown for the standard protocol: effective robustness of 2 models" in page

"""The page in a real browser: offline, with the keyboard, light and dark, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_helpers import HOSTILE, write_sweep

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.report import write_report

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_sweep(folder / "records", models=4)
    write_report([folder / "records"], folder / "r.html", title=HOSTILE, resamples=200)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: object, folder: Path) -> Iterator[object]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.wrong.append(message.text))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto((folder / "r.html").as_uri())
    yield page
    context.close()


def column(page: object, place: int) -> list[str]:
    return page.locator(f"table.models tbody tr > :nth-child({place})").evaluate_all(
        "cells => cells.map(cell => cell.dataset.value)"
    )


def test_the_table_is_sorted_by_the_keyboard_alone(page: object, folder: Path) -> None:
    records = [EvalRecord.load(path) for path in (folder / "records").glob("*.json")]
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Spurious AUC":
            break
    head = page.locator("table.models thead th").nth(1)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    falling = sorted((r.mean.spurious_auc for r in records), reverse=True)
    assert [float(v) for v in column(page, 2)] == falling
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(v) for v in column(page, 2)] == falling[::-1]
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") is None
    gaps = sorted(r.gaps.gap for r in records if r.gaps)
    assert [float(v) for v in column(page, 5)] == gaps
    assert page.wrong == []


def test_nothing_is_asked_of_the_network_and_nothing_hostile_runs(page: object, folder: Path) -> None:
    page.wait_for_load_state("networkidle")
    for summary in page.locator("details summary").all():
        summary.click()
    assert page.evaluate("window.hacked") is None
    assert page.asked == [(folder / "r.html").as_uri()]
    assert page.wrong == []
    assert page.locator("h1").inner_text() == HOSTILE


def test_the_switch_shows_one_measure_and_a_legend_picks_a_model(page: object) -> None:
    shown = "[...document.querySelectorAll('figure.auc, figure.ap')].filter(f => f.offsetParent).map(f => f.className)"
    assert page.evaluate(shown) == ["auc", "auc"]
    page.locator("input[value=auc]").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(shown) == ["ap", "ap"]
    button = page.locator(".legend button").first
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator(".legend button[aria-pressed=true]").count() == 2  # the same model, in both legends
    visible = "g => getComputedStyle(g).opacity"
    assert page.locator("figure g.m0").first.evaluate(visible) == "1"
    assert float(page.locator("figure g.m1").first.evaluate(visible)) < 0.5
    page.keyboard.press("Enter")
    assert page.locator("figure g.m1").first.evaluate(visible) == "1"


def test_classes_are_found_by_search(page: object) -> None:
    assert page.locator(".classes details:visible").count() == 5
    page.locator("input[type=search]").fill("KOAL")
    assert page.locator(".classes details:visible").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_and_text_can_be_read(folder: Path, browser: object, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto((folder / "r.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = page.locator("figure:visible svg:visible").evaluate_all(
        "all => all.map(s => [s.getBoundingClientRect().left, s.getBoundingClientRect().right, s.clientWidth])"
    )
    assert len(boxes) >= 5
    assert all(left >= 0 and right <= width and drawn > 250 for left, right, drawn in boxes)
    contrast = """() => {
        const level = (color) => { const c = color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
        const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const card = level(getComputedStyle(document.querySelector('.card')).backgroundColor);
        return [...document.querySelectorAll('figure svg text')].filter((t) => t.getClientRects().length)
            .map((t) => ratio(level(getComputedStyle(t).fill), card));
    }"""
    ratios = page.evaluate(contrast)
    assert len(ratios) > 50
    assert min(ratios) > 3
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(246, 247, 249)" if scheme == "light" else "rgb(20, 22, 26)"
    )
    context.close()

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from boards_helpers import NAMES, World, make_world

from spurious_imagenet.builders.boards import draw_boards
from spurious_imagenet.builders.boards.draw import _write_pages

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")

CLASSES = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def boards(world: World) -> Path:
    return draw_boards(world.config(), world.root / "boards").path


@pytest.fixture(scope="module")
def many(boards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of 120 classes: four with pictures, and copies of what is said of one under other names."""
    root = tmp_path_factory.mktemp("many") / "boards"
    shutil.copytree(boards, root)
    content = json.loads((root / "cards/00003/class.json").read_text())
    for k in range(4, CLASSES):
        folder = root / "cards" / f"{k:05d}"
        folder.mkdir()
        content["name"] = folder.name
        for board in content["boards"]:
            board |= {"class_name": f"kind {k}", "class_id": f"k{k}", "name": "a red wall" if k == 77 else ""}
        (folder / "class.json").write_text(json.dumps(content))
    _write_pages(root, {"model": "file:model", "bank": "bank", "features": "store"}, "0" * 64)
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: object) -> Iterator[object]:
    """A page that records what it asks for and what goes wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("requestfailed", lambda request: page.wrong.append(request.url))
    page.on("console", lambda message: page.wrong.append(message.text))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("dialog", lambda dialog: page.wrong.append(dialog.message))
    yield page
    context.close()


def shown_rows(page: object) -> int:
    return page.locator("tbody tr:visible").count()


def test_pages_load_only_their_pictures_and_run_nothing_hostile(boards: Path, page: object) -> None:
    for path in ("index.html", "classes/00000.html", "classes/00001.html", "cards/00001/random-0001.html"):
        page.goto((boards / path).as_uri())
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length") == 0
    assert page.wrong == []
    assert all(url.startswith(boards.as_uri() + "/") for url in page.asked)
    assert any(url.endswith(".jpg") for url in page.asked)
    page.goto((boards / "classes/00001.html").as_uri())
    assert NAMES[1] in page.locator("h1").inner_text()


def test_tiles_are_cut_out_of_the_sheet(boards: Path, page: object) -> None:
    page.goto((boards / "cards/00001/random-0001.html").as_uri())
    strip = page.locator(".strip").first
    places = strip.evaluate(
        """strip => [...strip.querySelectorAll('.tile')].map(tile => {
            const box = tile.getBoundingClientRect(), image = tile.firstElementChild.getBoundingClientRect();
            return [(box.left - image.left) / box.width, (box.top - image.top) / box.height, image.width / box.width];
        })"""
    )
    expected = [(column, row, 5) for column in range(5) for row in (0, 1)]
    for got, wanted in zip(places, expected, strict=True):
        assert got == pytest.approx(wanted, abs=0.02)


def test_many_classes_are_browsed_by_pages_and_search(many: Path, page: object) -> None:
    page.goto((many / "index.html").as_uri())
    assert shown_rows(page) == 50
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#page").inner_text() == "page 3 of 3"
    assert shown_rows(page) == CLASSES - 100
    page.reload()
    assert page.locator("#page").inner_text() == "page 3 of 3"  # the address remembers
    page.keyboard.press("/")
    page.keyboard.type("Red WALL")
    assert shown_rows(page) == 1
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_url("**/classes/00077.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/classes/00076.html")
    page.keyboard.press("/")
    page.wait_for_url("**/index.html*")
    page.keyboard.type("k10")
    assert page.locator("#count").inner_text() == f"11 of {CLASSES} classes"
    page.keyboard.press("Escape")
    assert page.locator("#count").inner_text() == f"{CLASSES} of {CLASSES} classes"
    missing = ("file:", "Failed to load resource")  # the copies have no pictures
    assert not [text for text in page.wrong if not text.startswith(missing)]


def test_keys_lead_through_a_class_and_its_boards(boards: Path, page: object) -> None:
    page.goto((boards / "index.html").as_uri())
    for key in ("j", "j", "k", "j", "Enter"):
        page.keyboard.press(key)
    page.wait_for_url("**/classes/00001.html")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    assert page.locator(".board.here").get_attribute("id") == "random-0001"
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cards/00001/random-0000.html")
    page.keyboard.press("j")
    page.wait_for_url("**/cards/00001/random-0001.html")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.keyboard.press("u")
    page.wait_for_url("**/classes/00001.html#random-0001")
    assert page.locator(".board.here").get_attribute("id") == "random-0001"
    page.keyboard.press("u")
    page.wait_for_url("**/index.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_and_text_can_be_read(boards: Path, browser: object, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    for path in ("index.html", "classes/00000.html", "cards/00001/random-0000.html"):
        page.goto((boards / path).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert (_brightness(ink) < _brightness(paper)) == (scheme == "light")
        assert abs(_brightness(ink) - _brightness(paper)) > 150
    context.close()


def _brightness(color: str) -> float:
    numbers = [float(n) for n in color.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(numbers) / 3

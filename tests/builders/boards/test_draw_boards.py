from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from boards_helpers import NAMES, PER_CLASS, World, class_scores, make_world
from helpers import CLASSES, picture, random_bank, run_spurious, tree, weights_file
from PIL import Image

from spurious_imagenet.builders.boards import BoardsResult, draw, draw_boards
from spurious_imagenet.builders.boards._schema import BOARDS
from spurious_imagenet.builders.components import NeuronsConfig, build_neuron_bank
from spurious_imagenet.builders.visualise._npfv_store import NPFV_SCHEMA
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError, DataError, StoreError
from spurious_imagenet.images import DecodeLimits, decode_image
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.inference import softmax


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def drawn(world: World) -> BoardsResult:
    return draw_boards(world.config(), world.root / "boards")


def described(result: BoardsResult, class_index: int) -> list[dict[str, object]]:
    return json.loads((result.path / f"cards/{class_index:05d}/class.json").read_text())["boards"]


def test_every_board_of_the_table_is_there(world: World, drawn: BoardsResult) -> None:
    table = pq.read_table(drawn.path / "boards.parquet")
    assert table.schema.equals(BOARDS)
    rows = table.to_pylist()
    assert [r["concept_id"] for r in rows] == [f"random/{c}/{i}" for c in CLASSES for i in range(2)]
    for row in rows:
        with Image.open(drawn.path / row["png"]) as png:
            assert png.format == "PNG"
            assert png.width > 1000
        assert (drawn.path / row["html"]).is_file()
        assert row["npfv"] is None
        assert row["confidence"] is None
        assert len(row["reference"]) == 6
        assert row["images"] == PER_CLASS
        for file in row["reference"]:
            with Image.open(drawn.path / file) as reference:
                assert reference.size == (64, 64)
    assert (drawn.classes, drawn.boards, drawn.made) == (4, 8, 4)


def test_the_images_of_highest_and_lowest_score_are_shown_with_the_models_confidence(
    world: World, drawn: BoardsResult
) -> None:
    classifier = load_classifier(world.spec)
    for class_index in range(4):
        for board in described(drawn, class_index):
            scores = class_scores(world, board["concept_id"])
            ranked = sorted(scores, key=lambda key: -scores[key])
            assert [e["key"] for e in board["most"]] == ranked[:5]
            assert [e["key"] for e in board["least"]] == ranked[::-1][:5]
            for example in (*board["most"], *board["least"]):
                assert example["score"] == pytest.approx(scores[example["key"]], abs=1e-3)
                pixels = classifier.preprocess.apply(decode_image(world.images[example["key"]], DecodeLimits()))
                probability = softmax(classifier.predict(pixels[None])[1])[0]
                assert example["confidence"] == pytest.approx(probability[class_index], abs=1e-4)
                right = probability.argmax() == class_index
                assert example["predicted"] == (None if right else NAMES[int(probability.argmax())])


def test_histogram_and_percentiles_are_those_of_the_class(world: World, drawn: BoardsResult) -> None:
    rows = {r["concept_id"]: r for r in pq.read_table(drawn.path / "boards.parquet").to_pylist()}
    for board in described(drawn, 2):
        scores = sorted(class_scores(world, board["concept_id"]).values())
        for percent, value in board["percentiles"]:
            place = percent / 100 * (len(scores) - 1)
            low = int(place)
            high = min(low + 1, len(scores) - 1)
            expected = scores[low] + (place - low) * (scores[high] - scores[low])
            assert value == pytest.approx(expected, abs=1e-3)
            assert rows[board["concept_id"]][f"score_q{percent:02d}"] == pytest.approx(expected, abs=1e-3)
        low, high = board["edges"]
        width = (high - low) / len(board["counts"])
        naive = [0] * len(board["counts"])
        for score in scores:
            naive[min(int((score - low) / width), len(naive) - 1)] += 1
        assert sum(board["counts"]) == PER_CLASS
        assert sum(abs(a - b) for a, b in zip(board["counts"], naive, strict=True)) <= 2  # at an edge, by rounding


def test_a_tile_is_what_the_model_saw(world: World, drawn: BoardsResult) -> None:
    preprocess = load_classifier(world.spec).preprocess
    for board in described(drawn, 1):
        sheet = np.asarray(Image.open(drawn.path / f"cards/00001/{board['file']}.jpg")).astype(int)
        assert board["rows"] == ["most", "most-heat", "least", "least-heat"]
        for row, name in enumerate(board["rows"]):
            for column, example in enumerate(board.get(name, ())):
                shown = sheet[row * 64 :, column * 64 :][:64, :64]
                seen = preprocess.apply(decode_image(world.images[example["key"]], DecodeLimits())).astype(int)
                assert np.abs(shown - seen).mean() < 4  # of 255, by compression


def test_hostile_names_are_text(drawn: BoardsResult) -> None:
    for page in drawn.path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert text.count("<script") == text.count("</script>") == 1
        assert not re.search(r"<[^>]*\sonerror=", re.sub(r'"[^"]*"', '""', text))
        assert "{{ 7 * 7 }}" in text or "49" not in re.findall(r"<h1>(.*?)</h1>", text, re.DOTALL)
        assert not re.search(
            r"""(src|href)=["'](?!\.\./|cards/|classes/|index\.html|[a-z0-9-]+\.(html|jpg|png))""", text
        )
    index = (drawn.path / "index.html").read_text(encoding="utf-8")
    for name in NAMES:
        assert html.escape(name, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in index


def test_another_run_finds_all_done(world: World, drawn: BoardsResult, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(drawn.path)
    monkeypatch.setattr(draw, "load_classifier", None)  # a finished run needs no model
    again = draw_boards(world.config(), drawn.path)
    assert again.made == 0
    assert again.boards == 8
    assert tree(drawn.path) == before


def test_an_interrupted_run_goes_on_and_ends_as_an_uninterrupted_one(
    world: World, drawn: BoardsResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "boards", iter(range(10))
    original = draw.write_class

    def write_two(*args: object) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(draw, "write_class", write_two)
        with pytest.raises(KeyboardInterrupt):
            draw_boards(world.config(), out)
    (out / "cards" / ".tmp-00002-deadbeef").mkdir()  # as a kill in the middle of a class would leave it
    assert sorted(p.name for p in (out / "cards").iterdir()) == [".tmp-00002-deadbeef", "00000", "00001"]
    assert not (out / "boards.parquet").exists()
    assert draw_boards(world.config(), out).made == 2
    assert tree(out) == tree(drawn.path)


def test_classes_may_be_added(world: World, drawn: BoardsResult, tmp_path: Path) -> None:
    first = draw_boards(world.config(classes=("cup",)), tmp_path / "boards")
    assert (first.classes, first.boards) == (1, 2)
    rest = draw_boards(world.config(), tmp_path / "boards")
    assert (rest.classes, rest.made) == (4, 3)
    assert tree(tmp_path / "boards") == tree(drawn.path)


@pytest.mark.parametrize("change", [{"components": 3}, {"concepts": ("random/cup/0",)}])
def test_another_configuration_is_refused(world: World, drawn: BoardsResult, change: dict[str, object]) -> None:
    before = tree(drawn.path)
    with pytest.raises(StoreError, match="was made with other settings"):
        draw_boards(world.config(**change), drawn.path)
    assert tree(drawn.path) == before


def test_another_bank_is_refused(world: World, drawn: BoardsResult, tmp_path: Path) -> None:
    random_bank(world.store, tmp_path / "bank", per_class=3, names=NAMES, seed=9)
    with pytest.raises(StoreError, match="was made with other settings"):
        draw_boards(world.config(bank=str(tmp_path / "bank")), drawn.path)


def test_a_folder_of_something_else_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(StoreError, match="holds no boards"):
        draw_boards(world.config(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_concepts_by_id(world: World, tmp_path: Path) -> None:
    wanted = ("random/dog/2", "random/apple/1", "random/apple/-1")
    draw_boards(world.config(concepts=wanted), tmp_path / "boards")
    rows = pq.read_table(tmp_path / "boards" / "boards.parquet").to_pylist()
    assert [r["concept_id"] for r in rows] == ["random/apple/1", "random/apple/-1", "random/dog/2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"classes": ("egg",)}, "no class 'egg'"), ({"concepts": ("npca/0",)}, "no concept 'npca/0'")],
)
def test_unknown_names_are_refused(world: World, tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        draw_boards(world.config(**options), tmp_path / "boards")
    assert not (tmp_path / "boards").exists()


def test_another_model_is_refused(world: World, tmp_path: Path) -> None:
    other = weights_file(tmp_path / "other.safetensors", seed=5)
    with pytest.raises(StoreError, match="has weights"):
        draw_boards(world.config(model=other), tmp_path / "boards")


def test_a_changed_image_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.root / "store", tmp_path / "store")
    shard = Path(world.store.parts[0].receipt.shard)
    data = shard.read_bytes()
    receipts = sorted((tmp_path / "store").glob("parts/*/receipt.json"))
    changed = bytearray(data)
    for row in world.store.parts[0].rows(["offset", "size"]).to_pylist():
        changed[row["offset"] + row["size"] // 2] ^= 1
    (tmp_path / shard.name).write_bytes(changed)
    content = json.loads(receipts[0].read_text())
    receipts[0].write_text(json.dumps(content | {"shard": str(tmp_path / shard.name)}))
    receipts[0].with_name("shard.json").unlink()
    with pytest.raises(DataError, match="has changed since its features were made"):
        draw_boards(world.config(features=str(tmp_path / "store")), tmp_path / "boards")
    assert not list((tmp_path / "boards" / "cards").iterdir())


@pytest.fixture
def npfv(world: World, tmp_path: Path) -> Path:
    """Three NPFVs of the class "cup", of which two are chosen in another order than the bank's."""
    folder = tmp_path / "npfv" / "00002"
    folder.mkdir(parents=True)
    rows = []
    for component, rank in ((0, 2), (1, None), (2, 1)):
        picture(900 + component).save(folder / f"{component:04d}.png")
        row = {"concept_id": f"random/cup/{component}", "class_index": 2, "component": component}
        rows.append(row | {"file": f"00002/{component:04d}.png", "chosen": rank is not None, "chosen_rank": rank})
    pq.write_table(pa.Table.from_pylist(rows, schema=NPFV_SCHEMA), folder / "npfv.parquet")
    (folder.parent / "config.json").write_text(json.dumps({"weights_sha256": world.bank.info.weights_sha256}))
    return folder.parent


def test_chosen_npfvs_are_shown_most_confident_first(world: World, npfv: Path, tmp_path: Path) -> None:
    result = draw_boards(world.config(npfv=str(npfv), components=5), tmp_path / "boards")
    assert result.without_npfv == ("apple", "bird", "dog")
    rows = pq.read_table(result.path / "boards.parquet").to_pylist()
    assert [r["concept_id"] for r in rows] == ["random/cup/2", "random/cup/0"]
    classifier = load_classifier(world.spec)
    for row in rows:
        pixels = np.asarray(picture(900 + row["component"]))
        np.testing.assert_array_equal(np.asarray(Image.open(result.path / row["npfv"])), pixels)
        features, logits = classifier.predict(pixels[None])
        assert row["confidence"] == pytest.approx(softmax(logits)[0, 2], abs=1e-4)
        place = world.bank.table.index[world.bank.table["concept_id"] == row["concept_id"]][0]
        (board,) = [b for b in described(result, 2) if b["concept_id"] == row["concept_id"]]
        assert board["npfv"]["score"] == pytest.approx(float(world.bank.score(features)[0, place]), abs=1e-3)


def test_npfvs_of_another_model_or_size_are_refused(world: World, npfv: Path, tmp_path: Path) -> None:
    picture(1, (32, 32)).save(npfv / "00002" / "0002.png")
    with pytest.raises(DataError, match="32x32 px: expected 64 px"):
        draw_boards(world.config(npfv=str(npfv)), tmp_path / "boards")
    (npfv / "config.json").write_text(json.dumps({"weights_sha256": "0" * 64}))
    with pytest.raises(StoreError, match="NPFVs of a model with weights 000000000000"):
        draw_boards(world.config(npfv=str(npfv)), tmp_path / "other")


def test_verdicts_and_names_are_said(world: World, tmp_path: Path) -> None:
    bank = world.bank
    table = bank.table.assign(name="a red <b>wall</b>", verdict="spurious", verdict_source="review:cups")
    ConceptBank(bank.directions, bank.offsets, table, bank.info).save(tmp_path / "bank")
    result = draw_boards(world.config(bank=str(tmp_path / "bank"), classes=("cup",)), tmp_path / "boards")
    for page in (
        result.path / "index.html",
        result.path / "classes/00002.html",
        result.path / "cards/00002/random-0000.html",
    ):
        text = page.read_text(encoding="utf-8")
        assert "a red &lt;b&gt;wall&lt;/b&gt;" in text
        assert re.search(r'class="(chip|verdict) spurious"', text)
    assert pq.read_table(result.path / "boards.parquet")["name"].to_pylist() == ["a red <b>wall</b>"] * 2


def test_neural_features_go_by_importance_and_show_attacks(world: World, tmp_path: Path) -> None:
    classifier = load_classifier(world.spec)
    build_neuron_bank(world.store, classifier.linear_head(), classifier.labels, NeuronsConfig(top=3)).save(
        tmp_path / "bank"
    )
    config = world.config(bank=str(tmp_path / "bank"), classes=("bird",), attack_steps=5)
    result = draw_boards(config, tmp_path / "boards")
    bank = ConceptBank.load(tmp_path / "bank")
    own = bank.table[bank.table["class_id"] == "bird"].sort_values("importance_rank")
    boards = described(result, 1)
    assert [b["concept_id"] for b in boards] == own["concept_id"].tolist()[:2]
    for board in boards:
        assert board["rows"] == ["most", "most-heat", "most-attacked", "least", "least-heat"]
        assert board["symbol"] == "activation"
        sheet = np.asarray(Image.open(result.path / f"cards/00001/{board['file']}.jpg"))
        seen, attacked = (
            np.stack([sheet[row * 64 :, column * 64 :][:64, :64] for column in range(5)]) for row in (0, 2)
        )
        before, after = (classifier.predict(tiles)[0][:, board["component"]] for tiles in (seen, attacked))
        assert (after > before).all()


def test_the_command(world: World, drawn: BoardsResult, tmp_path: Path) -> None:
    arguments = ("boards", "--bank", world.root / "bank", "--features", world.root / "store", "--device", "cpu")
    ran = run_spurious(*arguments, "--out", tmp_path / "boards", "--components", 2)
    assert ran.code == 0, ran
    assert "8 boards of 4 classes; 4 classes new" in ran.out
    assert tree(tmp_path / "boards" / "cards") == tree(drawn.path / "cards")
    assert "no class 'egg'" in run_spurious(*arguments, "--out", tmp_path / "no", "--classes", "egg").the_error()

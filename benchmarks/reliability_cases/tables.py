"""Tables, lists and YAML as people and spreadsheets make them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from reliability_inputs import model_file

from reliability_cases import Seen, Workbench, case

TOPIC = "Tables"


def folder(root: Path, *names: str) -> Path:
    """Write a small image under each name."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (20 * number, 90, 40)).save(root / name)
    return root


def packed(bench: Workbench, csv: str | bytes, *names: str, about: str = "") -> Seen:
    """Pack a folder with a table; say what was printed, and whose the images are afterwards."""
    folder(bench.folder / "images", *(names or ("cat/1.png", "dog/2.png")))
    (bench.folder / "meta.csv").write_bytes(csv if isinstance(csv, bytes) else csv.encode())
    said = bench.said("shards", "images", "shards", "--metadata", "meta.csv", about=about)
    return Seen(said, authors(bench.folder / "shards"))


def authors(shards: Path) -> str:
    """Say whose the images in shards are."""
    from spurious_imagenet.builders.publish.schema import attribution
    from spurious_imagenet.shards import expand_shards, index_shard, open_shard, read_metadata

    if not list(shards.glob("*.tar")):
        return "no shards"
    found = []
    for url in expand_shards([str(shards)]):
        with open_shard(url) as shard:
            metas = [read_metadata(shard.path, sample).meta for sample in index_shard(shard).samples]
        found += [f"{meta['file_name']}: {attribution(meta)['author'] or 'nobody'}" for meta in metas]
    return "; ".join(found)


@case(TOPIC, "a metadata CSV with semicolons, a byte order mark, other case and rows of separators")
def spreadsheet(bench: Workbench) -> Seen:
    return packed(bench, "\ufeffFilename;author\r\ncat/1.png;Doe; \r\n;;\r\ndog/2.png;NA\r\n\r\n", about="images in")


@case(TOPIC, "the same table in UTF-16, with tabs")
def utf_16(bench: Workbench) -> Seen:
    return packed(bench, "file_name\tAuthor\ncat/1.png\tDoe\ndog/2.png\tRoe\n".encode("utf-16"), about="images in")


@case(TOPIC, "a table saved in Windows-1252")
def windows(bench: Workbench) -> Seen:
    return packed(bench, "file_name,Author\ncat/1.png,Doe\ndog/2.png,André\n".encode("cp1252"))


@case(TOPIC, "a comma in a cell without quotation marks")
def shifted(bench: Workbench) -> Seen:
    return packed(bench, "file_name,Author,License\ncat/1.png,Doe,by\ndog/2.png,Roe, Jane,by\n")


@case(TOPIC, "one row `0001.png` for two images of that name")
def one_row(bench: Workbench) -> Seen:
    return packed(bench, "file_name,Author\n0001.png,Doe\n", "cat/0001.png", "dog/0001.png")


@case(TOPIC, "a row each, with the folders")
def by_path(bench: Workbench) -> Seen:
    csv = "file_name,Author\ncat/0001.png,Doe\ndog\\0001.png,Roe\n"
    return packed(bench, csv, "cat/0001.png", "dog/0001.png", about="images in")


@case(TOPIC, "a table of other images")
def none(bench: Workbench) -> Seen:
    return packed(bench, "file_name,Author\nbird/7.png,Doe\nbird/8.png,Roe\n")


@case(TOPIC, "a table of some of the images, and of others")
def some(bench: Workbench) -> Seen:
    return packed(bench, "file_name,Author\ncat/1.png,Doe\nbird/8.png,Roe\n", about=" of ")


@case(TOPIC, "a list of cues with a mistyped column")
def cues(bench: Workbench) -> Seen:
    (bench.folder / "cues.csv").write_text("class_id;txt\ncat;sofa\n", encoding="utf-8")
    model = model_file(bench.folder / "model.safetensors")
    return Seen(bench.said("cues", "--model", model, "--cues", "cues.csv", "--out", "bank"), kept(bench, "bank"))


@case(TOPIC, "a list of models with a key given twice")
def models(bench: Workbench) -> Seen:
    text = "- model: timm:resnet18\n  name: no\n  name: yes\n"
    (bench.folder / "models.yaml").write_text(text, encoding="utf-8")
    said = bench.said("evaluate", "--models", "models.yaml", "--dataset", "d", "--val", "v", "--out", "records")
    return Seen(said, kept(bench, "records"))


@case(TOPIC, "a list of models with a mistyped key")
def mistyped(bench: Workbench) -> Seen:
    (bench.folder / "models.yaml").write_text("- model: timm:resnet18\n  image_sise: 224\n", encoding="utf-8")
    said = bench.said("evaluate", "--models", "models.yaml", "--dataset", "d", "--val", "v", "--out", "records")
    return Seen(said, kept(bench, "records"))


@case(TOPIC, "a class list with an empty line among the classes")
def labels(bench: Workbench) -> Seen:
    (bench.folder / "classes.txt").write_text("cat\n\ndog\n", encoding="utf-8")
    model = model_file(bench.folder / "model.safetensors")
    given = f"file:{bench.folder / 'model.safetensors'}?labels=classes.txt" if model else ""
    folder(bench.folder / "images", "cat/1.png")
    bench.spurious("shards", "images", "shards")
    return Seen(
        bench.said("features", "--model", given, "--shards", "shards", "--out", "features"), kept(bench, "features")
    )


@case(TOPIC, "votes of Salient ImageNet with a column missing")
def votes(bench: Workbench) -> Seen:
    (bench.folder / "votes.csv").write_text("WorkerId,Input.wordnet_id\n1,n01440764\n", encoding="utf-8")
    return Seen(bench.said("import", "salient-imagenet", "votes.csv", "--out", "v.csv"), kept(bench, "v.csv"))


@case(TOPIC, "review items of which two have one id")
def items(bench: Workbench) -> Seen:
    folder(bench.folder, "1.png")
    row = {"item_id": "7", "kind": "image", "media": "1.png", "class_id": "cat", "class_name": "cat"}
    (bench.folder / "items.jsonl").write_text(f"{json.dumps(row)}\n\n{json.dumps(row)}\n", encoding="utf-8")
    said = bench.said("review", "create", "--items", "items.jsonl", "--labelers", "ann,ben", "--out", "r")
    return Seen(said, kept(bench, "r"))


def kept(bench: Workbench, name: str) -> str:
    """Say whether an output is there."""
    return f"{name} is there" if (bench.folder / name).exists() else "nothing"

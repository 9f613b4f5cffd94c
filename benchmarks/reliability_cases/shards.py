"""Shards that are damaged or odd."""

from __future__ import annotations

from reliability_inputs import model_file, shard

from reliability_cases import Seen, Workbench, case


@case("Shards", "a tar that was cut in the middle of an image")
def cut(bench: Workbench) -> Seen:
    path, model = shard(bench.folder / "cut.tar", 12), model_file(bench.folder / "model.safetensors")
    path.write_bytes(path.read_bytes()[:20_000])
    said = bench.said("features", "--model", model, "--shards", "cut.tar", "--out", "features", about="cut.tar")
    return Seen(said, f"{len(list(bench.folder.glob('features/parts/*/receipt.json')))} parts")

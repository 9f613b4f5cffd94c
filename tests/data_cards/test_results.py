"""Results go into a model's card and leave everything else of it as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from card_helpers import make_dataset
from helpers import run_spurious, tree
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from pydantic import ValidationError

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.evaluation.values import Means
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.benchmark.mitigation.record import Mitigation
from spurious_imagenet.data_cards._merge import read_front_matter, with_key
from spurious_imagenet.data_cards.benchmark_file import TASKS, render_eval_file
from spurious_imagenet.data_cards.results import ResultsConfig, export_results
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.images import Protocol

CONFIG = ResultsConfig(dataset_id="org/planted", repo="me/net", date="2026-03-07", revision="v1.2.3")
FIXED = Mitigation(kind="spufix", file="x.safetensors", sha256="ee" * 32)


def record(auc: float = 0.75, **changes: Any) -> EvalRecord:
    mean = Means.model_validate(dict.fromkeys(Means.model_fields, 0.5) | {"spurious_auc": auc, "spurious_ap": 0.625})
    interval = Interval(low=0.7, high=0.8)
    fields: dict[str, Any] = {
        "code_version": "0.1.0",
        "model": "file:out/net.safetensors",
        "weights_sha256": "ab" * 32,
        "label_space": "x",
        "protocol": Protocol.STANDARD,
        "validation_transform": {},
        "spurious_transform": {},
        "backend": "eager",
        "dataset": "out/dataset",
        "dataset_sha256": "cd" * 32,
        "validation": "out/val",
        "validation_sha256": "ef" * 32,
        "name": "net",
        "classes": (),
        "concepts": (),
        "mean": mean,
        "mean_intervals": {"spurious_auc": interval},
        "accuracy": 0.9,
        "accuracy_interval": interval,
        "accuracy_images": 10,
    }
    return EvalRecord(**(fields | changes))


def mitigated(auc: float = 0.875) -> EvalRecord:
    return record(auc, mitigation=FIXED, name="net + SpuFix")


def metrics(text: str) -> dict[str, float]:
    results = model_index_to_eval_results(read_front_matter(text)["model-index"])[1]
    return {result.metric_name: result.metric_value for result in results if result.dataset_type == "org/planted"}


def test_the_hub_reads_entries_and_index(tmp_path: Path) -> None:
    paths = export_results([record(), mitigated()], tmp_path, CONFIG)
    assert [path.name for path in paths] == [
        "README.md",
        "org_planted_standard.yaml",
        "org_planted_standard_spufix.yaml",
    ]
    entries = [e for path in paths[1:] for e in parse_eval_result_entries(yaml.safe_load(path.read_text()))]
    assert [(e.dataset_id, e.task_id, e.value) for e in entries] == [
        ("org/planted", "spurious_auc", 0.75),
        ("org/planted", "spurious_ap", 0.625),
        ("org/planted", "spurious_auc", 0.875),
        ("org/planted", "spurious_ap", 0.625),
    ]
    assert {e.dataset_revision for e in entries} == {"v1.2.3"}
    assert {e.date for e in entries} == {"2026-03-07"}
    assert "95 % interval 0.700 to 0.800" in str(entries[0].notes)
    assert "SpuFix" in str(entries[2].notes)
    assert "SpuFix" not in str(entries[0].notes)
    card = ModelCard.load(paths[0])
    assert card.data.model_name == "net"
    found = {(r.dataset_type, r.dataset_config, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert found["org/planted", "spurious", "Spurious AUC (standard protocol)"] == 0.75
    assert found["org/planted", "spurious", "Spurious AUC (standard protocol, SpuFix)"] == 0.875
    assert "out/" not in "".join(path.read_text() for path in paths), "local folders are nobody's business"


CARDS = {
    "none": "",
    "no front matter": "# My model\n\nText --- here\n",
    "empty front matter": "---\n---\n# My model\n",
    "plain": "---\nlicense: mit  # mine\ntags: [a,   b]\n---\n\n# My model\r\n\ttext\n",
    "windows": "---\r\nlicense: mit\r\nlibrary_name: timm\r\n---\r\n# My model\r\n",
    "byte order mark": "\ufeff---\nlicense: mit\n---\n# My model\n",
    "ends at once": "---\nlicense: mit\n---",
    "empty index": "---\nmodel-index:\nlicense: mit\n---\n",
    "index in brackets": "---\nmodel-index: []   # none yet\nlicense: mit\n---\n",
    "block text": "---\nx: |\n  model-index:\n    ---\n'model-index': []\n# me\n\nlicense: mit\n---\n# --- x\n---\n",
    "no newline at all": "text",
}


@pytest.mark.parametrize("before", CARDS.values(), ids=CARDS)
def test_everything_but_the_index_stays(tmp_path: Path, before: str) -> None:
    readme = tmp_path / "README.md"
    if before:
        readme.write_bytes(before.encode())
    export_results([record(), mitigated()], tmp_path, CONFIG)
    after = readme.read_bytes().decode()
    assert metrics(after)["Spurious AUC (standard protocol, SpuFix)"] == 0.875
    assert {k: v for k, v in read_front_matter(after).items() if k != "model-index"} == {
        k: v for k, v in read_front_matter(before).items() if k != "model-index"
    }
    line = "\r\n" if before.startswith("---\r\n") else "\n"
    entry = yaml.safe_dump({"model-index": read_front_matter(after)["model-index"]}, sort_keys=False, width=120)
    entry = entry.rstrip("\n").replace("\n", line)
    assert entry in after
    had = next((own for own in ("'model-index': []", "model-index: []", "model-index:") if own in before), "")
    if "x: |" in before:
        had = "'model-index': []"
    start = after.index(entry)
    head, tail = after[:start], after[start + len(entry) :]
    if had:
        assert head + had + tail == before
    elif "---" in before.partition("#")[0]:
        assert head + tail.removeprefix(line) == before, "a line was put in"
    else:
        assert (head, tail) == (f"---{line}", f"{line}---{line}{line if before else ''}{before}"), "a head was put on"
    export_results([record(), mitigated()], tmp_path, CONFIG)
    assert readme.read_bytes().decode() == after, "a second run changes nothing"


OTHER = """---
# whose model this is
model-index:
- name: My Net  # as on the paper
  results:
  - task: {type: image-classification}
    dataset: {name: ImageNet, type: imagenet-1k}
    metrics: [{type: accuracy, value: 0.81}]
  - task: {type: image-classification}
    dataset: {name: x, type: org/planted, config: spurious, split: test, revision: v1.0.0, args: {protocol: standard}}
    metrics: [{type: spurious_auc, value: 0.1, name: old version}]
# this remark is of the licence
license: mit
---
# My model
"""


def test_results_of_other_datasets_and_versions_stay(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(OTHER)
    export_results([record(0.25)], tmp_path, CONFIG)
    export_results([record(0.75)], tmp_path, CONFIG)
    text = (tmp_path / "README.md").read_text()
    (model,) = read_front_matter(text)["model-index"]
    assert model["name"] == "My Net"
    assert [r["metrics"][0]["value"] for r in model["results"]] == [0.81, 0.1, 0.75]
    assert text.endswith("\n# this remark is of the licence\nlicense: mit\n---\n# My model\n")
    assert text.startswith("---\n# whose model this is\nmodel-index:\n")


def test_a_key_in_the_middle_is_replaced_where_it_stands() -> None:
    text = "---\na: 1\nk:\n  - x: |\n      long\n\n  - [y, {z: 1}]   \n\n# remark\nb: 2\n---\nbody\n"
    assert with_key(text, "k", [3]) == "---\na: 1\nk:\n- 3   \n\n# remark\nb: 2\n---\nbody\n"
    assert with_key(text, "b", 5) == text.replace("b: 2", "b: 5")
    assert with_key(text, "new", {"x": "---\n# y"}).startswith(text.partition("\n---\nbody")[0])
    assert read_front_matter(with_key(text, "new", {"x": "---\n# y"}))["new"] == {"x": "---\n# y"}


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("---\na: [1\n---\n", "front matter is not YAML"),
        ("---\n- a\n---\n", "front matter is a list"),
        ("---\n{a: 1}\n---\n", "written in braces"),
        ("---\nmodel-index: yes\n---\n", "model-index is not as the Hub has it"),
        ("---\nmodel-index:\n- name: x\n---\n", "model-index is not as the Hub has it"),
        ("---\na: !!python/object/apply:os.system [ls]\n---\n", "front matter is not YAML"),
    ],
)
def test_a_card_that_cannot_be_read_stays_as_it_is(tmp_path: Path, card: str, said: str) -> None:
    (tmp_path / "README.md").write_text(card)
    before = tree(tmp_path)
    with pytest.raises(DataError, match=said) as raised:
        export_results([record()], tmp_path, CONFIG)
    assert "README.md" in str(raised.value)
    assert tree(tmp_path) == before


def test_a_card_that_is_no_text_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match=r"README.md is not UTF-8 text: byte 3 is 0xe9"):
        export_results([record()], tmp_path, ResultsConfig(dataset_id="org/cues"))
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_records_of_several_models_or_versions_are_refused(tmp_path: Path) -> None:
    for records, said in (
        ([], "no record"),
        ([record(), record(weights_sha256="00" * 32, name="other")], r"of 2 models \(net, other\)"),
        ([record(), record(0.5)], "two records are of standard protocol"),
        ([record(), record(protocol=Protocol.PAPER, dataset_sha256="00" * 32)], "different versions of the dataset"),
    ):
        with pytest.raises(ConfigError, match=said):
            export_results(records, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()
    for wrong in ({"dataset_id": "../x"}, {"dataset_id": "a/b", "source_url": "javascript:alert(1)"}):
        with pytest.raises(ValidationError):
            ResultsConfig(**wrong)


def test_a_hostile_name_is_text(tmp_path: Path) -> None:
    name = "x'\n---\nlicense: evil\n# <script>"
    export_results([record(name=name)], tmp_path, ResultsConfig(dataset_id="a/b", dataset_name=name))
    front = read_front_matter((tmp_path / "README.md").read_text())
    assert list(front) == ["model-index"]
    assert front["model-index"][0]["name"] == name
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_the_benchmarks_tasks_are_those_of_the_results(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    found = yaml.safe_load(render_eval_file(dataset.manifest))
    assert set(found) == {"name", "description", "evaluation_framework", "tasks"}
    assert [task["id"] for task in found["tasks"]] == list(TASKS) == ["spurious_auc", "spurious_ap"]
    assert {(task["config"], task["split"]) for task in found["tasks"]} == {("spurious", "test")}
    assert "6 images of 2 classes" in found["description"]
    with pytest.raises(ConfigError, match="expected spurious images"):
        render_eval_file(DatasetManifest(kind="rankings", name="r", version="1.0.0", code_version="1", files=()))


def test_the_command_writes_both_sides(tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset")
    path = tmp_path / "net.json"
    record().save(path)
    arguments = ("export-results", path, "--out", tmp_path / "model", "--dataset-id", "org/planted")
    ran = run_spurious(*arguments, "--repo", "me/net", "--benchmark", tmp_path / "dataset")
    assert ran.code == 0, ran.err
    assert [Path(line).name for line in ran.out.splitlines()] == ["README.md", "org_planted_standard.yaml", "eval.yaml"]
    assert yaml.safe_load((tmp_path / "dataset/eval.yaml").read_text())["name"] == "Planted cues"
    for wrong, said in (
        (("export-results",), "nothing to write"),
        (("export-results", path), "--dataset-id org/name"),
        ((*arguments, "--date", "yesterday"), "--date"),
        ((*arguments, "--repo", "a b/c"), "--repo"),
        (("export-results", "--benchmark", tmp_path), "not a dataset's manifest"),
    ):
        ran = run_spurious(*wrong)
        assert ran.code == 1, wrong
        assert said in ran.err
        assert "Traceback" not in ran.err

"""A first look: the whole chain on a small synthetic world whose spurious features are known, in under a minute.

    python examples/quick.py [OUT]      (default out/quick)

The commands are those of the command line and are shown as they run; here they share one process, since most of a run
this small would be starting up. What they print goes to OUT/log.txt. The two networks in ``examples/quick`` were made
by ``examples/quick_weights.py``. OUT is made anew if it is an earlier first look.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import textwrap
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import click

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.cli import app
from spurious_imagenet.errors import SpuriousImagenetError
from spurious_imagenet.planted.report import PairResult
from spurious_imagenet.planted.seen import read_found

WEIGHTS = Path(__file__).resolve().parent / "quick"
#: Trained against attacks, with the components that are sought; and trained as usual.
MODELS = ("robust", "efficientnet")


class Chain:
    """Runs commands one after another and ends at the first that fails."""

    def __init__(self, out: Path, log: TextIO) -> None:
        self._out, self._log = out, log

    def say(self, heading: str) -> None:
        """Print what comes next."""
        print(f"\n== {heading}", flush=True)

    def run(self, *words: object) -> None:
        """Run one command of the command line; show it, and keep what it prints in the log."""
        arguments = [str(word) for word in words]
        whole = shlex.join(["spurious", *arguments])
        brief = whole.replace(f"{self._out}/", "").replace(f"file:{WEIGHTS}/", "")
        print("   " + textwrap.shorten(brief, 76, placeholder=" …"), flush=True)
        print(f"\n$ {whole}", file=self._log, flush=True)
        code: object = 1
        with redirect_stdout(self._log), redirect_stderr(self._log):
            try:
                code = app(arguments, standalone_mode=False) or 0
            except SpuriousImagenetError as error:
                print(f"error: {error}", file=self._log, flush=True)
            except click.ClickException as error:
                error.show(self._log)
        if code:
            self._log.flush()
            print("\n".join(Path(self._log.name).read_text().splitlines()[-15:]), file=sys.stderr)
            sys.exit(f"quick: `spurious {arguments[0]}` failed; all that was printed is in {self._log.name}.")


def judge(chain: Chain, review: Path, world: Path, check: Path) -> None:
    """Let two scripted labelers, who know the truth, take the place of people."""
    for labeler in ("ann", "ben"):
        chain.run("review", "script", review, "--labeler", labeler, "--truth", world, "--check", check)


def concepts(pairs: tuple[PairResult, ...], least: float = 0.95) -> list[str]:
    """Return the options that name the components in which a cue was found."""
    return [word for pair in pairs if pair.auc >= least for word in ("--concept", pair.concept_id)]


def tell(pairs: tuple[PairResult, ...], records: dict[str, EvalRecord], images: int) -> None:
    """Print what was found, in plain words."""
    print("\nWhat was found")
    for pair in pairs:
        name = pair.class_id.rsplit("-", 1)[-1]
        print(f"  {name:7} seen in {pair.cue:15} {pair.pure} of {pair.kept} mined images show it without the {name}")
    print(f"\n  {images} images that two labelers accepted are the dataset. A network that knows the")
    print("  object ranks images of it above images of the cue alone:")
    for name, record in records.items():
        print(
            f"  {name:13} does so in {record.mean.spurious_auc:.0%} of pairs (50 %: no better than a coin); it is\n"
            f"{'':16}right on {record.accuracy:.0%} of ordinary images"
        )


def make_anew(out: Path) -> None:
    """Make the folder empty; what this script has not made is never removed."""
    mark = out / ".first-look"
    if out.exists() and not mark.is_file() and not (out.is_dir() and not any(out.iterdir())):
        sys.exit(
            f"quick: {out} exists and is not an earlier first look: expected a new or an empty folder; name another, "
            "as in `python examples/quick.py out/quick`."
        )
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    mark.touch()


def main(out: Path) -> None:
    """Run the chain."""
    begin = time.perf_counter()
    make_anew(out)
    models = {name: f"file:{WEIGHTS / name}.safetensors" for name in MODELS}
    with (out / "log.txt").open("w", encoding="utf-8") as log:
        pairs, records, images = chain_of(Chain(out, log), out, models)
    tell(pairs, records, images)
    print(f"\nDone in {time.perf_counter() - begin:.0f} s. Look at")
    print(f"  {out}/check/found.png      what was planted, and the images that were mined")
    print(f"  {out}/boards/index.html    what people would judge by")
    print(f"  {out}/dataset/README.md    the dataset's card")
    print(f"  {out}/log.txt              every command in full, and what it printed")


def chain_of(
    chain: Chain, out: Path, models: dict[str, str]
) -> tuple[tuple[PairResult, ...], dict[str, EvalRecord], int]:
    """Run every step; return what was found, the networks' records and the number of images published."""
    scorer, (world, shards) = models["robust"], (out / "world", out / "shards")
    bank, check, boards = out / "bank", out / "check", out / "boards"
    chain.say("1. A small world: twelve kinds of objects, ten often beside a cue")
    chain.run("planted", "world", world, "--small", "--seed", 1, "--processes", 1)
    for split in ("train", "val", "pool"):
        chain.run("shards", world / split, shards / split)

    chain.say("2. What does a network look at? The components of its features, class by class")
    for split in ("train", "pool"):
        chain.run("features", "--model", scorer, "--shards", shards / split, "--out", out / "features" / split)
    chain.run("components", "--model", scorer, "--features", out / "features/train", "--out", bank)

    chain.say("3. Unlabelled images that it takes for a class because of a component")
    mined = ("--min-agree", 1, "--top", 60, "--keep", 12, "--out", out / "candidates")
    chain.run("mine", "--bank", bank, "--features", out / "features/pool", *mined)
    chain.run(
        *("planted", "check", "--world", world, "--bank", bank, "--features", out / "features/pool"),
        *("--candidates", out / "candidates", "--out", check),
    )
    pairs = read_found(check)

    chain.say("4. Two labelers judge components and images, blind; here a script that knows the truth")
    chain.run("boards", "--bank", bank, "--features", out / "features/train", *concepts(pairs), "--out", boards)
    chain.run("review", "create", "--boards", boards, "--labelers", "ann,ben", "--out", out / "review-boards")
    judge(chain, out / "review-boards", world, check)
    verdicts, judged = out / "verdicts.parquet", out / "judged-bank"
    chain.run("review", "collect", out / "review-boards", "--out", verdicts)
    chain.run("annotate", "--bank", bank, "--verdicts", verdicts, "--only", "spurious", "--out", judged)
    chain.run(
        *("review", "create", "--candidates", out / "candidates", "--boards", boards, *concepts(pairs)),
        *("--labelers", "ann,ben", "--out", out / "review-images"),
    )
    judge(chain, out / "review-images", world, check)
    chain.run("review", "collect", out / "review-images", "--out", out / "reviewed.parquet")

    chain.say("5. What both accepted, as a dataset; and how far the networks fall for it")
    chain.run(
        *("publish", "--candidates", out / "candidates", "--reviewed", out / "reviewed.parquet", "--boards", boards),
        *("--verdicts", verdicts, "--bank", judged, "--min-images", 3, "--name", "A first look"),
        *("--license", "apache-2.0", "--out", out / "dataset"),
    )
    for name, model in models.items():
        chain.run(
            *("evaluate", "--model", model, "--dataset", out / "dataset", "--val", shards / "val"),
            *("--protocol", "standard", "--out", out / "records" / f"{name}.json"),
        )
    records = {name: EvalRecord.load(out / "records" / f"{name}.json") for name in models}
    counts = json.loads((out / "dataset/dataset.json").read_text(encoding="utf-8"))["counts"]
    return pairs, records, int(counts["images"])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/quick"))

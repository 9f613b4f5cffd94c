"""Kill `spurious features` and `spurious mine` with SIGKILL, run them again, and compare with a run left alone.

    python benchmarks/crashes.py --kills 50 --mine-kills 20

Each run is the real command in a process forked from this one, which has imported everything and computed nothing. A
run dies after a batch has been through the model (so in the middle of a shard or of a chunk of votes), while the pool
is scored, right before one of its steps on the file system (opening, renaming, removing, making a directory), with one
of its files half written, or at a random time. Then the same command runs again, sometimes to be killed once more,
until it ends by itself. Every file must then be, byte for byte, what an undisturbed run leaves, with nothing beside
it, and no more units of work (shards, chunks) may have been started twice than there were kills. The exit code is 1
if not.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads before the forks

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).parent))

from crash_inputs import make_bank, make_inputs

import spurious_imagenet.cli.features
import spurious_imagenet.cli.mine
import spurious_imagenet.models.file_models
from spurious_imagenet.builders.features.extract import _Job
from spurious_imagenet.builders.mining import mine
from spurious_imagenet.builders.mining.votes import Voters
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.inference import ImageRunner

MINE = sys.modules[mine.__module__]  # the module; its package exports the function of the same name
BATCH, CHUNK = 4, 8  # several batches a shard, several chunks a run
#: Probability that a resumed run is killed once more.
AGAIN = 1 / 3
FILE_STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
KINDS = {
    "batch": "after a batch inside a unit",
    "scoring": "while scoring",
    "step": "before a step on the file system",
    "file": "with a file half written",
    "time": "at a random time",
}

#: Kind of event and its number in the run; for "time", seconds.
Death = tuple[str, float]


class Trace:
    """Writes what a run does to a log, a line an event, and kills the process at one of them."""

    def __init__(self, log: Path, out: Path, death: Death | None) -> None:
        self.descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.out, self.death = str(out), death
        self.seen: Counter[str] = Counter()
        self.lock = threading.RLock()

    def __call__(self, kind: str, what: str = "", last_act: Callable[[], object] | None = None) -> None:
        with self.lock:
            os.write(self.descriptor, f"{kind}\t{what}\n".encode())
            self.seen[kind] += 1
            if self.death == (kind, self.seen[kind]):
                if last_act:
                    last_act()
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Trace the steps on the output directory; inside a removed tree paths are relative to a descriptor."""
        if event in FILE_STEPS:
            path = str(args[0])
            if path.startswith(self.out) or (event in {"os.remove", "os.rmdir"} and args[1] != -1):
                self("step", f"{event} {path.removeprefix(self.out)}")

    def halved(self, write: Callable[..., object], place: int) -> Callable[..., object]:
        """Trace a function that writes the file in its argument ``place``; where the run dies, half of it is there."""

        def traced_write(*args: Any, **options: Any) -> object:
            made, path = write(*args, **options), str(args[place])
            if path.startswith(self.out):
                self("file", path, lambda: os.truncate(path, Path(path).stat().st_size // 2))
            return made

        return traced_write

    def install(self) -> None:
        """Trace shards, chunks, batches, scored blocks, files and steps on them."""
        score, make, vote, top = ImageRunner._score, _Job._make, Voters.vote, vars(MINE)["top_of_assigned"]

        def traced_score(runner: ImageRunner, *args: Any) -> Any:
            output = score(runner, *args)
            self("batch")
            return output

        def traced_make(job: _Job, shard: Any) -> Any:
            self("unit", shard.url)
            part = make(job, shard)
            self("done")
            return part

        def traced_vote(voters: Voters, images: pd.DataFrame) -> pd.DataFrame:
            self("unit", str(images.index[0]))
            votes = vote(voters, images)
            self("done")
            return votes

        def traced_top(*args: Any) -> Any:
            return top(*args[:3], lambda *_: self("scoring"))

        vars(MINE).update(top_of_assigned=traced_top, _CHUNK=CHUNK)
        for owner, name, traced in (
            (ImageRunner, "_score", traced_score),
            (_Job, "_make", traced_make),
            (Voters, "vote", traced_vote),
            (pq, "write_table", self.halved(pq.write_table, 1)),
            (Path, "write_bytes", self.halved(Path.write_bytes, 0)),
            (Path, "write_text", self.halved(Path.write_text, 0)),
        ):
            setattr(owner, name, traced)
        sys.addaudithook(self.audit)


def fork(work: Callable[[], object], seconds: float | None = None) -> int | None:
    """Run ``work`` in a fork, to be killed after ``seconds``; return its exit code, None if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            work()
            os._exit(0)
        except SystemExit as end:
            os._exit(int(end.code or 0))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(70)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        raise SystemExit(f"a run died of signal {os.WTERMSIG(status)}, which nobody sent.")
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def tree(root: Path) -> dict[str, bytes | None]:
    """Return every path below ``root``, hidden ones too, with its bytes; None for directories."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


@dataclass
class Command:
    """One subcommand with its arguments; ``unit`` is the work that a killed run may have to do again."""

    name: str
    unit: str
    directory: Path
    arguments: list[str]
    events: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    files: dict[str, bytes | None] = field(default_factory=dict)

    def run(self, out: Path, death: Death | None = None) -> tuple[int | None, list[list[str]]]:
        """Run to the end or to ``death``; return the exit code, None where it was killed, and (kind, what) events."""
        log = self.directory / "events.log"
        log.write_bytes(b"")

        def work() -> None:
            with (self.directory / "output.txt").open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            Trace(log, out, death).install()
            sys.argv = ["spurious", self.name, *self.arguments, "--out", str(out)]
            spurious_imagenet.cli.main()

        code = fork(work, death[1] if death and death[0] == "time" else None)
        return code, [line.split("\t") for line in log.read_text().splitlines()]

    def said(self) -> str:
        """Return the last line of what the last run wrote."""
        return (self.directory / "output.txt").read_text().strip().rpartition("\n")[2]

    def run_undisturbed(self) -> Path:
        """Run once and keep what it did and left."""
        out = self.directory / f"{self.name}-undisturbed"
        start = time.monotonic()
        code, events = self.run(out)
        if code != 0:
            raise SystemExit(f"spurious {self.name} ended with {code}: {self.said()}")
        self.seconds = time.monotonic() - start
        self.events, self.files = Counter(kind for kind, _ in events), tree(out)
        seen = ", ".join(f"{n} {kind} events" for kind, n in sorted(self.events.items()))
        print(f"spurious {self.name} undisturbed: {seen}, {self.seconds:.1f} s", flush=True)
        return out

    def draw(self, kind: str, rng: np.random.Generator) -> Death:
        """Draw a point of death among the events of the undisturbed run."""
        if kind == "time":
            return kind, float(rng.uniform(0, self.seconds))
        return kind, int(rng.integers(1, self.events[kind] + 1))


@dataclass
class Outcome:
    """What came of the kills of one command; ``inside`` counts those between start and end of a unit."""

    kills: Counter[str] = field(default_factory=Counter)
    inside: int = 0
    runs: int = 0
    killed_again: int = 0
    identical: int = 0
    redone: int = 0
    most_redone: int = 0
    problems: list[str] = field(default_factory=list)


def disturb(command: Command, deaths: list[Death], outcome: Outcome) -> None:
    """Kill a run at each of some points (which may lie beyond its end), finish it, and compare."""
    out = command.directory / f"{command.name}-{outcome.runs}"
    killed: list[Death] = []
    units: list[str] = []
    for death in [*deaths, None]:
        code, events = command.run(out, death)
        units += [what for kind, what in events if kind == "unit"]
        if code is not None or death is None:
            break
        killed.append(death)
        counts = Counter(kind for kind, _ in events)
        outcome.inside += counts["unit"] > counts["done"]
    redone, left, files = len(units) - len(set(units)), tree(out), command.files
    outcome.runs += 1
    outcome.kills.update(kind for kind, _ in killed)
    outcome.killed_again += len(killed) > 1
    outcome.redone += redone
    outcome.most_redone = max(outcome.most_redone, -(-redone // max(1, len(killed))))
    outcome.identical += left == files
    if code != 0:
        outcome.problems.append(f"killed at {killed}, then ended with {code}: {command.said()}")
    elif left != files or redone > len(killed):
        differing = sorted(p for p in {*left, *files} if left.get(p, b"missing") != files.get(p, b"missing"))
        outcome.problems.append(f"killed at {killed}: {redone} {command.unit}s redone, files {differing} differ")


def kill_often(command: Command, kills: int, rng: np.random.Generator, every_step: bool) -> bool:
    """Kill a command so many times, print what came of it, and return whether all was well."""
    outcome, kinds = Outcome(), [kind for kind in KINDS if kind == "time" or command.events[kind]]
    for kind in ("step", "file") if every_step else ():
        for n in range(command.events[kind]):
            disturb(command, [(kind, n + 1)], outcome)
    kills += outcome.kills.total()
    while (turn := outcome.kills.total()) < kills:
        count = 2 if kills - turn > 1 and rng.random() < AGAIN else 1
        disturb(command, [command.draw(kinds[(turn + i) % len(kinds)], rng) for i in range(count)], outcome)
    happened = ", ".join(f"{n} {KINDS[kind]}" for kind, n in sorted(outcome.kills.items()))
    print(
        f"spurious {command.name}: {outcome.kills.total()} kills ({happened}) in {outcome.runs} runs; "
        f"{outcome.inside} of the kills inside a {command.unit}, {outcome.killed_again} runs killed twice\n"
        f"  identical to the undisturbed run, byte for byte: {'yes' if outcome.identical == outcome.runs else 'NO'} "
        f"({outcome.identical} of {outcome.runs})\n"
        f"  {command.unit}s started twice: at most {outcome.most_redone} a kill, {outcome.redone} in all",
        *outcome.problems,
        sep="\n",
        flush=True,
    )
    return not outcome.problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="of spurious features")
    parser.add_argument("--mine-kills", type=int, default=20, help="of spurious mine")
    parser.add_argument("--every-step", action="store_true", help="besides, kill once at every step and every file")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="crashes-") as directory:
        root = Path(directory)
        fork(lambda: make_inputs(root, rng))
        run = ["--backend", options.backend, "--workers", "2"]
        arguments = ["--model", f"file:{root}/scorer.safetensors", "--shards", f"{root}/shards", *run]
        features = Command("features", "shard", root, [*arguments, "--batch-size", str(BATCH)])
        store = features.run_undisturbed()
        fork(lambda: make_bank(FeatureStore.open(store), root / "bank", rng))
        arguments = ["--bank", f"{root}/bank", "--features", str(store), "--min-agree", "1", "--keep", "20", *run]
        voters = [a for i in range(2) for a in ("--agree", f"file:{root}/voter{i}.safetensors")]
        mining = Command("mine", "chunk", root, [*arguments, *voters])
        mining.run_undisturbed()
        well = kill_often(features, options.kills, rng, options.every_step)
        well &= kill_often(mining, options.mine_kills, rng, options.every_step)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

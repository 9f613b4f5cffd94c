"""Ctrl-C, long runs, mistyped options, libraries that are not installed, narrow terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from reliability_inputs import folder, model_file, shard

from reliability_cases import Seen, Workbench, case

TOPIC = "Interrupted and long runs"
#: A process that a shell started behind it is deaf to Ctrl-C, and so would be what it starts.
START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from spurious_imagenet.cli import main; main()"
)


def press(bench: Workbench, begun: Callable[[str], bool], *arguments: object, times: int = 1) -> str:
    """Start a command, press Ctrl-C as a terminal does once it is at work; return exit code and last line."""
    log = bench.folder / "said.log"
    command = [sys.executable, "-c", START, *map(str, arguments)]
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=bench.folder, stdout=said, stderr=said, start_new_session=True)
        while process.poll() is None and not begun(log.read_text()):
            time.sleep(0.05)
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.3)
        code = process.wait(timeout=120)
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    return f"exit {130 if code == -signal.SIGINT else code}: {lines[-1]}"


def parts(bench: Workbench) -> list[Path]:
    return list(bench.folder.glob("features/parts/[!.]*/receipt.json"))


@case(TOPIC, "Ctrl-C during a pass over twelve shards, then the same command again")
def features(bench: Workbench) -> Seen:
    for i in range(12):
        shard(bench.folder / f"shards/s{i:02d}.tar", 60, seed=1000 * i)
    command = ("features", "--model", model_file(bench.folder / "m.safetensors"), "--shards", "shards")
    said = press(bench, lambda _: bool(parts(bench)), *command, "--out", "features")
    kept = len(parts(bench))
    again = bench.said(*command, "--out", "features", about="images scored")
    return Seen(said, f"{kept} parts, each whole; then {again}")


@case(TOPIC, "Ctrl-C twice while a `pipe:` program is waited for")
def program(bench: Workbench) -> Seen:
    shard(bench.folder / "s.tar", 4)
    begun = bench.folder / "begun"
    address = "pipe:touch begun; cat s.tar; sleep 300"
    command = ("features", "--model", model_file(bench.folder / "m.safetensors"), "--shards", address, "--allow-pipe")
    said = press(bench, lambda _: begun.is_file(), *command, "--out", "features", times=2)
    return Seen(said, f"{len(parts(bench))} parts; the program is ended")


@case(TOPIC, "Ctrl-C while two processes draw a planted world")
def processes(bench: Workbench) -> Seen:
    drawing = ".tmp-world-*/**/*.*"
    command = ("planted", "world", "world", "--processes", 2)
    said = press(bench, lambda _: len(list(bench.folder.glob(drawing))) > 3, *command)
    left = [p.name for p in bench.folder.iterdir() if p.name != "said.log"]
    return Seen(said, f"{len(left)} files and folders")


@case(TOPIC, "an option that does not exist")
def option(bench: Workbench) -> Seen:
    return Seen(bench.said("features", "--modle", "x"), "nothing was run")


@case(TOPIC, "a backend whose library is not installed")
def backend(bench: Workbench) -> Seen:
    model = model_file(bench.folder / "m.safetensors")
    shard(bench.folder / "s.tar", 4)
    code = f"import sys; sys.modules['openvino'] = None; {START}"
    command = ("features", "--model", model, "--shards", "s.tar", "--out", "features", "--backend", "openvino")
    ran = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=bench.folder, capture_output=True, text=True, check=False
    )
    return Seen(f"exit {ran.returncode}: {ran.stderr.strip().splitlines()[-1]}", f"{len(parts(bench))} parts")


@case(TOPIC, "a folder of pictures among other files, packed into shards")
def packed(bench: Workbench) -> Seen:
    pictures = folder(bench.folder / "pictures", 2)
    (pictures / "apple" / "notes.txt").write_text("not a picture")
    (pictures / "apple" / ".DS_Store").write_bytes(b"\0" * 8)
    code, output = bench.spurious("shards", "pictures", "shards")
    lines = [line.strip() for line in output.splitlines() if "skipped" in line]
    return Seen(f"exit {code}: {' / '.join(lines)}", f"{len(list(bench.folder.glob('shards/*.tar')))} shard")

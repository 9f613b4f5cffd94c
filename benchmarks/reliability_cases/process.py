"""Runs that could change the process, or the shell's settings, for what runs after them."""

from __future__ import annotations

import subprocess
import sys

from reliability_cases import Seen, Workbench, case

_PROGRAM = """
import os, warnings
import numpy, PIL.Image, io, timm
from spurious_imagenet.images import DecodeLimits, decode_image
from spurious_imagenet.leaderboard.worker._specs import load_public
from spurious_imagenet.errors import SpuriousImagenetError

before = dict(os.environ), list(warnings.filters)
file = io.BytesIO()
PIL.Image.fromarray(numpy.zeros((32, 32, 3), "uint8")).save(file, "PNG")
decode_image(file.getvalue(), DecodeLimits())
try:
    load_public("file:missing.safetensors", ["file"])
except SpuriousImagenetError as error:
    print(error)
assert (dict(os.environ), list(warnings.filters)) == before
print("environment and filters of warnings are as before")
"""


@case("Programs that call this one", "a public model that cannot be loaded, and an image, within a program of your own")
def a_program_of_ones_own(bench: Workbench) -> Seen:
    command = [sys.executable, "-c", _PROGRAM]
    ran = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, timeout=300, check=True)
    said, _, kept = ran.stdout.strip().rpartition("\n")
    return Seen(said, kept)

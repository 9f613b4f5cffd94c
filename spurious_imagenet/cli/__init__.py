"""The ``spurious`` command: one module per subcommand, imported when it is called."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from spurious_imagenet.errors import SpuriousImagenetError
from spurious_imagenet.process import environment, log_levels, no_warnings

__all__ = ["app", "main"]

_HERE = "spurious_imagenet.cli"
#: A full or read-only disk, and a folder where a file was expected or the reverse.
_EXPECTED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
}

#: Subcommand → where its function (or, for a group of commands, its app) is, and its help in one line.
COMMANDS = {
    "shards": ("shards:shards", "Pack an image folder into WebDataset shards."),
    "verify-shards": ("shards:verify_shards", "Compare shards with the hashes in their manifest."),
    "features": ("features:command", "Run a model over shards and keep its penultimate features."),
    "components": ("components:command", "Find the class-wise neural PCA components of a model."),
    "neurons": ("neurons:command", "Find the neural features that matter most to each class."),
    "head": ("head:command", "Fit a linear head on the frozen features of any encoder, for any labelled folder."),
    "npfv": ("npfv:command", "Make the images that maximise each component, and choose the most confident ones."),
    "masks": ("masks:command", "Write where the images that show a concept show it, as soft masks."),
    "boards": ("boards:command", "Draw one board a concept, from which a person judges it."),
    "import": ("imports:app", "Read annotations and images that others have published."),
    "annotate": ("annotate:command", "Put verdicts on the concepts of a bank."),
    "mine": ("mine:command", "Find the images of a pool that show a component without, perhaps, the class."),
    "review": ("review:app", "Have concepts or images judged by labelers who do not see each other's answers."),
    "publish": ("publish:command", "Write, check and upload a Hugging Face dataset."),
    "export-results": ("export_results:command", "Write a model's results as its card on the Hub wants them."),
    "trace": ("trace:command", "Walk back from a published image to verdicts, votes, shard and weights."),
    "submit": ("submit:app", "Make and check a submission to the leaderboard."),
    "leaderboard": ("leaderboard:app", "Keep, score, serve and export a leaderboard."),
    "browse": ("browse:command", "Open a published dataset or a candidates folder in FiftyOne."),
    "evaluate": ("evaluate:command", "Measure how much models rely on a dataset's spurious features."),
    "rank": ("rank:command", "Sort the images of each class by how strongly they show its spurious features."),
    "gaps": ("gaps:command", "Measure how much worse models do where spurious cues are absent, and compare models."),
    "spufix": ("spufix:command", "Make a correction that takes spurious features out of a model's logits."),
    "tune": ("tune:command", "Tune a model's head on the images of lowest spuriosity."),
    "cues": ("cues:command", "Make concepts of text, for any model."),
    "suggest": ("cues:suggest_command", "Suggest core or spurious from where a concept's maps lie on object masks."),
    "label-noise": ("label_noise:command", "List images whose label may be wrong, and classes that collide."),
    "sensitivity": ("sensitivity:command", "Measure how accuracy drops when a concept's region is corrupted."),
    "contrast": ("contrast:command", "Compare neural PCA components with the top neural features of one model."),
    "report": ("report:command", "Write records as one page with figures and tables."),
    "convert-checkpoint": ("convert_checkpoint:command", "Turn a pickled checkpoint that you trust into safetensors."),
    "planted": ("planted:app", "Make, learn and check a synthetic world whose spurious features are known."),
}


class _LazyCommands(TyperGroup):
    """Imports a subcommand's module only when it is asked for: torch alone takes seconds."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        address, help_text = COMMANDS[cmd_name]
        if self._listing:
            return _named(cmd_name, lambda: None, help_text)
        module, _, attribute = address.partition(":")
        found = getattr(import_module(f"{_HERE}.{module}"), attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        return _named(cmd_name, found, found.__doc__)


def _named(name: str, function: Callable[..., None], help_text: str) -> Any:
    single = typer.Typer(add_completion=False)
    single.command(name, help=help_text)(function)
    return typer.main.get_command(single)


app = typer.Typer(cls=_LazyCommands, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def root() -> None:
    """Does your classifier look at the object, or at what happens to be around it?"""


@contextmanager
def _quiet() -> Iterator[None]:
    """Show what this project says, and of the libraries' messages errors alone, while a command runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    noisy = ("timm", "root", "open_clip", "torch.onnx", "httpx", "datasets", "huggingface_hub")
    on_crash = sys.excepthook  # typer puts its own there
    with (
        log_levels(logging.ERROR, *noisy),
        environment({"PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore")}),
        no_warnings(),
    ):
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            sys.excepthook = on_crash


@_quiet()
def main() -> None:
    """Run the command line; every expected error is one sentence on standard error and a non-zero exit."""
    try:
        app()
    except SpuriousImagenetError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in _EXPECTED:
            raise
        _fail(f"{os.strerror(error.errno)}: {error.filename or 'while writing'}; nothing was left half written.")
    except KeyboardInterrupt:
        _fail("interrupted; finished work stays, and the same command goes on from there.", code=130)


def _fail(message: str, code: int = 1) -> None:
    one_line = " ".join(message.split())  # what a library said may span several
    typer.secho(f"error: {one_line}", err=True, fg=typer.colors.RED)
    raise SystemExit(code)

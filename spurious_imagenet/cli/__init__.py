"""The ``spurious`` command: one module per subcommand, imported when it is called."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

import typer

from spurious_imagenet.cli.extras import missing_extra
from spurious_imagenet.cli.groups import CommandGroup, InterruptedByUser, UsageError, plain_typer
from spurious_imagenet.cli.remarks import shown_remarks
from spurious_imagenet.errors import SpuriousImagenetError

__all__ = ["app", "main", "program"]

_HERE = "spurious_imagenet.cli"
_INTERRUPTED = 130  # what shells show for a program that Ctrl-C ended
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


class _LazyCommands(CommandGroup):
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
    single = plain_typer(group=False)
    single.command(name, help=help_text)(function)
    return typer.main.get_command(single)


app = plain_typer(_LazyCommands)


@app.callback()
def root() -> None:
    """Does your classifier look at the object, or at what happens to be around it?"""


def main() -> None:
    """Run the command line; every expected error is one sentence on standard error and a non-zero exit."""
    try:
        with shown_remarks():
            _run()
    except UsageError as error:
        _fail(str(error), code=2)
    except SpuriousImagenetError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (said := missing_extra(error)) is None:
            raise
        _fail(said)
    except OSError as error:
        if error.errno == errno.EPIPE:
            _stop_writing()
        if error.errno not in _EXPECTED:
            raise
        _fail(f"{os.strerror(error.errno)}: {error.filename or 'while writing'}; nothing was left half written.")
    except (KeyboardInterrupt, InterruptedByUser):
        _interrupted()


def _run() -> None:
    on_crash = sys.excepthook  # typer puts its own there
    try:
        app(prog_name="spurious")
    finally:
        sys.excepthook = on_crash
        sys.stdout.flush()  # while a reader that has gone can still be told from a fault


def program() -> None:
    """Be the program ``spurious``: run the command line, then end the process."""
    try:
        main()
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            # Threads may still finish what they are at; who cannot wait for them presses Ctrl-C again.
            signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
        raise


def _interrupted() -> NoReturn:
    _fail("interrupted; finished work stays, and the same command goes on from there.", code=_INTERRUPTED)


def _stop_writing() -> NoReturn:
    """End as other programs do whose reader has gone, such as ``head``: without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1)


def _fail(message: str, code: int = 1) -> NoReturn:
    one_line = " ".join(message.split())  # what a library said may span several
    typer.secho(f"error: {one_line}", err=True, fg=typer.colors.RED)
    raise SystemExit(code)

"""The ``spurious`` command: one module per subcommand, imported when it is called."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from spurious_imagenet.cli.config_file import with_config_file
from spurious_imagenet.cli.extras import missing_extra
from spurious_imagenet.cli.groups import CommandGroup, InterruptedByUser, UsageError, plain_typer
from spurious_imagenet.cli.remarks import show_from, shown_remarks
from spurious_imagenet.errors import SpuriousImagenetError

__all__ = ["app", "main", "program"]

_HERE = "spurious_imagenet.cli"
_INTERRUPTED = 130  # what shells show for a program that Ctrl-C ended
#: A full or read-only disk, and a folder where a file was expected or the reverse.
_EXPECTED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
}

#: What one wants to do → subcommand → where its function (or, for a group of commands, its app) is, and its help.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Build": {
        "shards": ("shards:shards", "Pack an image folder into WebDataset shards."),
        "verify-shards": ("shards:verify_shards", "Compare shards with the hashes in their manifest."),
        "features": ("features:command", "Run a model over shards and keep its penultimate features."),
        "components": ("components:command", "Find the class-wise neural PCA components of a model."),
        "neurons": ("neurons:command", "Find the neural features that matter most to each class."),
        "head": ("head:command", "Fit a linear head on the frozen features of any encoder, for any labelled folder."),
        "cues": ("cues:command", "Make concepts of text, for any model."),
        "npfv": ("npfv:command", "Make the images that maximise each component, and choose the most confident ones."),
        "masks": ("masks:command", "Write where the images that show a concept show it, as soft masks."),
        "boards": ("boards:command", "Draw one board per concept, from which a person judges it."),
        "mine": ("mine:command", "Find the images of a pool that show a component without, perhaps, the class."),
    },
    "Judge": {
        "review": ("review:app", "Have concepts or images judged by labelers who do not see each other's answers."),
        "annotate": ("annotate:command", "Put verdicts on the concepts of a bank."),
        "suggest": (
            "cues:suggest_command",
            "Suggest core or spurious by where a concept's maps lie on object masks.",
        ),
        "label-noise": ("label_noise:command", "List images whose label may be wrong, and classes that collide."),
    },
    "Publish": {
        "publish": ("publish:command", "Write, check and upload a Hugging Face dataset."),
        "import": ("imports:app", "Read annotations and images that others have published."),
        "browse": ("browse:command", "Open a published dataset or a candidates folder in FiftyOne."),
        "trace": ("trace:command", "Walk back from a published image to verdicts, votes, shard and weights."),
    },
    "Measure": {
        "evaluate": ("evaluate:command", "Measure how much models rely on a dataset's spurious features."),
        "rank": ("rank:command", "Sort the images of each class by how strongly they show its spurious features."),
        "gaps": (
            "gaps:command",
            "Measure how much worse models do without spurious cues, and compare models.",
        ),
        "sensitivity": ("sensitivity:command", "Measure how accuracy drops when a concept's region is corrupted."),
        "contrast": ("contrast:command", "Compare neural PCA components with the top neural features of one model."),
        "report": ("report:command", "Write records as one page with figures and tables."),
    },
    "Mend": {
        "spufix": ("spufix:command", "Make a correction that takes spurious features out of a model's logits."),
        "tune": ("tune:command", "Tune a model's head on the images of lowest spuriosity."),
    },
    "Compete": {
        "submit": ("submit:app", "Make and check a submission to the leaderboard."),
        "leaderboard": ("leaderboard:app", "Keep, score, serve and export a leaderboard."),
        "export-results": ("export_results:command", "Write a model's results as its card on the Hub wants them."),
    },
    "Tools": {
        "convert-checkpoint": (
            "convert_checkpoint:command",
            "Turn a pickled checkpoint you trust into safetensors.",
        ),
        "planted": ("planted:app", "Make, learn and check a synthetic world whose spurious features are known."),
    },
}
COMMANDS = {name: found for group in GROUPS.values() for name, found in group.items()}


class _LazyCommands(CommandGroup):
    """Imports a subcommand's module only when it is asked for: torch alone takes seconds."""

    _listing = False
    sections = {title: list(commands) for title, commands in GROUPS.items()}

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
            for registered in found.registered_commands:
                assert registered.callback is not None
                registered.callback = with_config_file(registered.callback)
            return typer.main.get_command(found)
        return _named(cmd_name, with_config_file(found), found.__doc__)


def _named(name: str, function: Callable[..., None], help_text: str) -> Any:
    single = plain_typer(group=False)
    single.command(name, help=help_text)(function)
    return typer.main.get_command(single)


app = plain_typer(_LazyCommands, completion=True)


def _say_version(asked: bool) -> None:
    if asked:
        from spurious_imagenet import __version__  # read from the package's metadata each time

        typer.echo(f"spurious-imagenet {__version__}")
        raise typer.Exit


@app.callback()
def root(
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Say more; -vv says all.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only, no warnings.")] = False,
    log: Annotated[
        str | None, typer.Option(envvar="SPURIOUS_LOG", help="What to say: debug, info, warning or error.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say the version and exit.")
    ] = False,
) -> None:
    """Does your classifier look at the object, or at what happens to be around it?"""
    if verbose or quiet or log:
        show_from("error" if quiet else ("info", "debug")[min(verbose, 2) - 1] if verbose else str(log))


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

"""Groups of commands whose help and whose mistakes read well in a narrow terminal."""

from __future__ import annotations

from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from spurious_imagenet.errors import SpuriousImagenetError

__all__ = ["CommandGroup", "InterruptedByUser", "UsageError", "plain_typer"]


class InterruptedByUser(BaseException):
    """Ctrl-C, in a form that typer does not turn into an exit without a word."""


class UsageError(SpuriousImagenetError):
    """An option or command that does not exist, or a value that cannot be read as what it should be."""


class CommandGroup(TyperGroup):
    """Lists its commands with their whole help, in place of as much of it as fits a line.

    Attributes:
        sections: Title → names of commands; one section of all where it is empty.
    """

    sections: ClassVar[dict[str, list[str]]] = {}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        sections = self.sections or {"Commands": self.list_commands(ctx)}
        width = max(map(len, self.list_commands(ctx)))
        for title, names in sections.items():
            found = ((name, self.get_command(ctx, name)) for name in names)
            shown = [(name, (c.help or "").partition("\n\n")[0]) for name, c in found if c is not None and not c.hidden]
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in shown])

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options before the command's name."""
        try:
            return super().make_context(*args, **kwargs)
        except BaseException as error:
            _said_plainly(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            _said_plainly(error)
            raise


def plain_typer(cls: type[TyperGroup] = CommandGroup, *, group: bool = True, completion: bool = False) -> typer.Typer:
    """Make an app whose help is plain text: boxes leave options and words no room at 80 columns."""
    return typer.Typer(cls=cls, no_args_is_help=group, add_completion=completion, rich_markup_mode=None)


def _said_plainly(error: BaseException) -> None:
    """Raise what the command line says in one sentence, in place of what typer would print itself or not at all."""
    if _by_interrupt(error):
        raise InterruptedByUser from None
    # typer's own exceptions have been click's and its own: what they can do is what tells them.
    if not hasattr(error, "format_message") or getattr(error, "exit_code", None) != 2:
        return
    if type(error).__name__ == "NoArgsIsHelpError":
        return
    said = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    command = "spurious" if context is None else context.command_path
    raise UsageError(f"{said}{'' if said.endswith(('.', '?')) else '.'} See `{command} --help`.") from None


def _by_interrupt(error: BaseException | None) -> bool:
    """Say whether an error is a Ctrl-C, or what a library made of one while it handled it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False

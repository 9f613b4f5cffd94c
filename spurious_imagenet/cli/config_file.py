"""``--config FILE`` of every command: values of its options from YAML or TOML; the command line wins."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from spurious_imagenet.errors import ConfigError, one_line

__all__ = ["with_config_file"]

_CONFIG, _SAVE = "config_file_to_read", "config_file_to_write"


def with_config_file(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options ``--config`` and ``--save-config``.

    Args:
        function: The command; its parameters become options as typer makes them.
    """
    if hasattr(function, "__wrapped_by_config__"):
        return function

    @wraps(function)
    def command(**values: Any) -> None:
        values.pop(_CONFIG)
        target = values.pop(_SAVE)
        if target is not None:
            _save(target, values)
        function(**values)

    extra = [
        inspect.Parameter(_CONFIG, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_ConfigOption),
        inspect.Parameter(_SAVE, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_SaveOption),
    ]
    signature = inspect.signature(function, eval_str=True)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    command.__signature__ = signature.replace(parameters=[*own, *extra])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *extra]}
    command.__wrapped_by_config__ = True  # type: ignore[attr-defined]
    return command


def _read(ctx: typer.Context, file: Path | None) -> None:
    """Take the file's values as defaults: options that are on the command line keep theirs."""
    if file is None or ctx.resilient_parsing:
        return
    from spurious_imagenet.texts import unknown_key  # pydantic and yaml would double the time of `spurious --help`

    known: dict[str, Any] = {
        name: p for p in ctx.command.params if p.name not in (_CONFIG, _SAVE) for name in _names(p)
    }
    found: dict[str, Any] = {}
    for key, value in _content(file).items():
        name = str(key).lstrip("-").replace("-", "_")
        if name not in known:
            raise ConfigError(f"{file}: {unknown_key(str(key), sorted(known))}")
        option, given = known[name], _as_typed(value)
        try:
            option.process_value(ctx, given)
        except Exception as error:  # whatever a type says of a value that it does not take
            raise ConfigError(f"{file}: {key}: {one_line(error)} (got {value!r}).") from None
        found[str(option.name)] = given
    ctx.default_map = found


def _content(file: Path) -> dict[str, Any]:
    from spurious_imagenet.texts import read_toml, read_yaml

    what = "a file of options"
    content = read_toml(file, what) if file.suffix == ".toml" else read_yaml(file, what)
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds {type(content).__name__}: expected options and values, such as `top: 50`.")
    return content


def _as_typed(value: Any) -> Any:
    """Return a value as the command line would give it: text, except for switches."""
    if isinstance(value, list):
        return [_as_typed(item) for item in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _names(option: Any) -> list[str]:
    flags = [flag.lstrip("-").replace("-", "_") for flag in option.opts if flag.startswith("--")]
    return [*flags, str(option.name)]


def _save(target: Path, values: dict[str, Any]) -> None:
    import yaml

    from spurious_imagenet.io import atomic_path

    if target.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"--save-config {target}: expected a name that ends in .yaml.")
    content = {name: _plain(value) for name, value in values.items() if value is not None}
    with atomic_path(target) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


_ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_read,
        help="Options and their values, YAML or TOML; what is on the command line wins.",
    ),
]
_SaveOption = Annotated[
    Path | None,
    typer.Option("--save-config", metavar="FILE", help="Write the options of this run as YAML that repeats it."),
]

"""The app that all commands belong to, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from crlft_ray.json_text import json_text

app = typer.Typer(
    name="crlft",
    help="Fine-tune a language model on conversations of mixed quality with C-RLFT, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a config value; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]

Fresh = Annotated[bool, typer.Option("--fresh", help="Start over instead of going on from the newest checkpoint.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each worker.")]

GATE_SAID_NO = 3
"""Exit code of a registration that made no champion."""


def load(path: Path, overrides: list[str] | None) -> Any:
    """The config with its overrides."""
    from crlft_ray.config import load_config

    return load_config(path, overrides or [])


def console() -> Any:
    """For tables and colours."""
    from rich.console import Console

    return Console()


def print_output(as_json: bool, content: Any, show: Callable[[], Any]) -> None:
    """Prints `content` as one JSON object, or shows it to a person."""
    if as_json:
        print(json_text(content))
    else:
        show()

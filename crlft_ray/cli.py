"""The command line: each command is a function of the library with the same name and parameters."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from crlft_ray.errors import Stopped, TrainingFailed, UserError
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

USER_CAN_MEND = 2
RESUMABLE = 75


def main() -> None:
    """Runs the CLI; what the user can mend is one message and exit code 2."""
    # DeepSpeed announces at import what it found; here only its errors are news.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("crlft_ray").addHandler(handler)
    logging.getLogger("crlft_ray").setLevel(logging.INFO)
    try:
        app()
    except UserError as error:
        print(f"crlft: {error}", file=sys.stderr)
        sys.exit(USER_CAN_MEND)
    except KeyboardInterrupt:
        print("crlft: interrupted", file=sys.stderr)
        sys.exit(1)
    except Stopped as stopped:
        print(f"crlft: {stopped}", file=sys.stderr)
        sys.exit(RESUMABLE)
    except TrainingFailed as error:
        print(f"crlft: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def fetch(names: Annotated[list[str], typer.Argument(metavar="NAME...")], as_json: AsJson = False) -> None:
    """Bring a model, conversations or a benchmark into the cache (smollm2-135m, chitchat, agieval)."""
    from crlft_ray.assets import fetch

    paths = {name: str(path) for name, path in fetch(names).items()}
    _print(as_json, paths, lambda: [print(f"{name}: {path}") for name, path in paths.items()])


@app.command()
def prepare(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Conversations → tagged Arrow shards."""
    from crlft_ray.shards.prepare import prepare

    prepared = prepare(_load(config, overrides))
    _print(as_json, asdict(prepared), lambda: _show_prepared(prepared))


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="Shard folder, checkpoint, export or a run's output.")],
    pack: Annotated[int, typer.Option(help="Pack of the conversation to show.")] = 0,
    conversation: Annotated[int, typer.Option(help="Conversation of that pack.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What is in it; one conversation with what is learned marked in colour."""
    from crlft_ray.inspection import inspect

    console = None if as_json else _console()
    _print(as_json, inspect(path, pack=pack, conversation=conversation, console=console), lambda: None)


@app.command()
def train(config: ConfigFile, overrides: Overrides = None, fresh: Fresh = False, as_json: AsJson = False) -> None:
    """Shards → checkpoints → export, tracked; goes on from the output's newest checkpoint."""
    from crlft_ray.training.train import train

    trained = train(_load(config, overrides), fresh=fresh)
    _print(as_json, asdict(trained), lambda: print(f"{trained.steps} steps done; the model is in {trained.export}"))


@app.command()
def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders, hub ids or fetched names.")],
    suite: Annotated[list[str] | None, typer.Option(help="Benchmark; may be repeated.")] = None,
    shards: Annotated[str | None, typer.Option(help="Shard folder, for its held-out conversations.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions per task.")] = None,
    heldout: Annotated[int | None, typer.Option(min=1, help="Held-out conversations per class.")] = None,
    condition: Annotated[str | None, typer.Option(help="Condition to ask the suites under.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each task.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Scores of models, side by side."""
    from crlft_ray.evaluation.evaluate import SUITES, evaluate
    from crlft_ray.evaluation.table import print_scores

    suites = suite if suite is not None else list(SUITES)
    scores = evaluate(
        models, suites=suites, shards=shards, limit=limit, heldout=heldout, condition=condition, threads=threads
    )
    _print(as_json, {"models": [s.to_dict() for s in scores]}, lambda: print_scores(scores, _console()))


@app.command()
def run(config: ConfigFile, overrides: Overrides = None, fresh: Fresh = False, as_json: AsJson = False) -> None:
    """Prepare, train and evaluate in a row."""
    from crlft_ray.pipeline import run

    result = run(_load(config, overrides), fresh=fresh)
    summary = {
        "prepared": asdict(result.prepared),
        "trained": asdict(result.trained),
        "scores": [score.to_dict() for score in result.scores],
        "sample": result.sample,
    }
    _print(as_json, summary, lambda: _show_run(result))


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="Folder, hub id or fetched name.")],
    message: Annotated[str | None, typer.Option(help="Answer this one message and stop.")] = None,
    condition: Annotated[str | None, typer.Option(help="Text in the role prefixes; '' for none.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 200,
    as_json: AsJson = False,
) -> None:
    """Talk to a model."""
    from crlft_ray.talk import chat

    reply = chat(model, message=message, condition=condition, max_new_tokens=max_new_tokens)
    _print(as_json, {"message": message, "reply": reply}, lambda: print(reply) if reply is not None else None)


def _load(path: Path, overrides: list[str] | None) -> Any:
    from crlft_ray.config import load_config

    return load_config(path, overrides or [])


def _console() -> Any:
    from rich.console import Console

    return Console()


def _print(as_json: bool, content: Any, show: Callable[[], Any]) -> None:
    if as_json:
        print(json_text(content))
    else:
        show()


def _show_prepared(prepared: Any) -> None:
    from crlft_ray.inspection import print_manifest

    done = "nothing has changed, nothing was done" if prepared.unchanged else f"done in {prepared.seconds:.1f} s"
    print_manifest(prepared.manifest, _console())
    print(f"{prepared.folder}: {done}")


def _show_run(result: Any) -> None:
    from crlft_ray.evaluation.table import print_scores

    console = _console()
    print_scores(result.scores, console)
    message, reply = result.sample
    trained = result.trained
    console.print(f"\nyou: {message}\nmodel: {reply}\n", highlight=False, markup=False)
    console.print("What to do next:", highlight=False)
    for command, meaning in (
        (f"mlflow server --backend-store-uri {trained.tracking_uri}", "the run's page, then open its address"),
        (f"crlft chat {trained.export}", "talk to the model"),
        (f"crlft inspect {trained.output}", "see what it learned from"),
    ):
        console.print(f"  {command}   # {meaning}", highlight=False, markup=False, soft_wrap=True)

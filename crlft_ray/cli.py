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

Threads = Annotated[int, typer.Option(min=1, help="CPU threads of each worker.")]

USER_CAN_MEND = 2
GATE_SAID_NO = 3
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
    """Bring a model, conversations or a benchmark into the cache (smollm2-135m, chitchat, agieval, bbh, gsm8k)."""
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
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Folders, hub ids, fetched names or models:/NAME@ALIAS.")
    ],
    suite: Annotated[
        list[str] | None, typer.Option(help="agieval, bbh (or with :generate), or a folder; may be repeated.")
    ] = None,
    shards: Annotated[str | None, typer.Option(help="Shard folder: its held-out conversations, and overlap.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions per task.")] = None,
    half: Annotated[str | None, typer.Option(help="Only the questions of one half: select or gate.")] = None,
    heldout: Annotated[int | None, typer.Option(min=1, help="Held-out conversations per class.")] = None,
    condition: Annotated[str | None, typer.Option(help="Class to ask under, or none; default: the model's.")] = None,
    threads: Threads = 1,
    output: Annotated[str, typer.Option(help="Folder for answers, scores and report.html.")] = "evaluation",
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow; default: MLFLOW_TRACKING_URI, or a file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Scores of models, side by side; writes report.html."""
    from crlft_ray.evaluation.evaluate import DEFAULT_SUITES, evaluate
    from crlft_ray.evaluation.suites import HALVES
    from crlft_ray.evaluation.table import print_scores

    halves = dict(zip(HALVES, HALVES, strict=True))
    if half is not None and half not in halves:
        raise UserError(f"half: '{half}' is not one of {', '.join(halves)}")
    suites = suite if suite is not None else list(DEFAULT_SUITES)
    found = evaluate(
        models, suites=suites, shards=shards, limit=limit, half=halves[half] if half else None, heldout=heldout,
        condition=condition, threads=threads, output=output, tracking_uri=tracking_uri,
    )  # fmt: skip

    def show() -> None:
        print_scores(found, _console())
        print(f"{output}/report.html has the rest")

    _print(as_json, found.to_dict(), show)


@app.command()
def register(
    output: Annotated[str, typer.Argument(help="Output folder of a finished run.", metavar="RUN")],
    name: Annotated[str, typer.Option(help="Registered model.")],
    level: Annotated[float | None, typer.Option(help="Largest p-value of 'better'; default: the config's.")] = None,
    suite: Annotated[str | None, typer.Option(help="What the gate compares on; default: the config's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it the champion whatever the gate says.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is forced; kept with the version.")] = None,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Into the MLflow registry, through the gate."""
    from crlft_ray.registry.register import register

    registered = register(output, name=name, level=level, suite=suite, force=force, reason=reason, threads=threads)
    _print(as_json, registered.to_dict(), lambda: print(registered.text()))
    if not registered.promoted:
        raise typer.Exit(GATE_SAID_NO)


@app.command()
def run(config: ConfigFile, overrides: Overrides = None, fresh: Fresh = False, as_json: AsJson = False) -> None:
    """Prepare, train, evaluate and register in a row."""
    from crlft_ray.pipeline import run

    result = run(_load(config, overrides), fresh=fresh)
    summary = {
        "prepared": asdict(result.prepared),
        "trained": asdict(result.trained),
        "evaluation": result.evaluation.to_dict() if result.evaluation else None,
        "registered": result.registered.to_dict() if result.registered else None,
        "sample": result.sample,
    }
    _print(as_json, summary, lambda: _show_run(result))
    if result.registered and not result.registered.promoted:
        raise typer.Exit(GATE_SAID_NO)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="Folder, hub id, fetched name or models:/NAME@ALIAS.")],
    message: Annotated[str | None, typer.Option(help="Answer this one message and stop.")] = None,
    as_class: Annotated[
        str | None, typer.Option("--as", metavar="CLASS", help="Show this class's reply, or that of none, beside.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 200,
    as_json: AsJson = False,
) -> None:
    """Talk to a model."""
    from crlft_ray.talk import chat

    replies = chat(model, message=message, as_class=as_class, max_new_tokens=max_new_tokens)

    def show() -> None:
        for name, reply in (replies or {}).items():
            print(f"{name}: {reply}" if as_class else reply)

    _print(as_json, {"message": message, "replies": replies}, show)


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
    if result.evaluation:
        print_scores(result.evaluation, console)
    if result.registered:
        console.print(result.registered.text(), highlight=False, markup=False)
    message, reply = result.sample
    trained = result.trained
    console.print(f"\nyou: {message}\nmodel: {reply}\n", highlight=False, markup=False)
    console.print("What to do next:", highlight=False)
    for command, meaning in (
        (f"mlflow server --backend-store-uri {trained.tracking_uri}", "the run's page, then open its address"),
        (f"crlft chat {trained.export}", "talk to the model"),
        (f"crlft inspect {trained.output}", "see what it learned from"),
        (f"crlft register {trained.output} --name NAME", "into the registry, if it generalizes better than its base"),
    ):
        console.print(f"  {command}   # {meaning}", highlight=False, markup=False, soft_wrap=True)

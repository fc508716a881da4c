"""The line from conversations to a model: `prepare`, `train`, `run`; `fetch` before and `inspect` after them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from crlft_ray.cli.app import GATE_SAID_NO, AsJson, ConfigFile, Fresh, Overrides, app, console, load, print_output


@app.command()
def fetch(names: Annotated[list[str], typer.Argument(metavar="NAME...")], as_json: AsJson = False) -> None:
    """Bring a model, conversations or a benchmark into the cache (smollm2-135m, chitchat, agieval, bbh, gsm8k)."""
    from crlft_ray.assets import fetch

    paths = {name: str(path) for name, path in fetch(names).items()}
    print_output(as_json, paths, lambda: [print(f"{name}: {path}") for name, path in paths.items()])


@app.command()
def prepare(
    config: ConfigFile,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Also replace shards that a stopped run needs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Conversations → tagged Arrow shards."""
    from crlft_ray.shards.prepare import prepare
    from crlft_ray.training.earlier import trained_on

    loaded = load(config, overrides)
    prepared = prepare(loaded, needed=None if fresh else trained_on(loaded))
    print_output(as_json, asdict(prepared), lambda: _show_prepared(prepared))


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="Shard folder, checkpoint, export or a run's output.")],
    pack: Annotated[int, typer.Option(help="Pack of the conversation to show.")] = 0,
    conversation: Annotated[int, typer.Option(help="Conversation of that pack.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What is in it; one conversation with what is learned marked in colour."""
    from crlft_ray.inspection import inspect

    shown_on = None if as_json else console()
    print_output(as_json, inspect(path, pack=pack, conversation=conversation, console=shown_on), lambda: None)


@app.command()
def train(config: ConfigFile, overrides: Overrides = None, fresh: Fresh = False, as_json: AsJson = False) -> None:
    """Shards → checkpoints → export, tracked; goes on from the output's newest checkpoint."""
    from crlft_ray.training.train import train

    trained = train(load(config, overrides), fresh=fresh)
    print_output(
        as_json, asdict(trained), lambda: print(f"{trained.steps} steps done; the model is in {trained.export}")
    )


@app.command()
def run(config: ConfigFile, overrides: Overrides = None, fresh: Fresh = False, as_json: AsJson = False) -> None:
    """Prepare, train, evaluate and register in a row."""
    from crlft_ray.pipeline import run

    result = run(load(config, overrides), fresh=fresh)
    summary = {
        "prepared": asdict(result.prepared),
        "trained": asdict(result.trained),
        "evaluation": result.evaluation.to_dict() if result.evaluation else None,
        "registered": result.registered.to_dict() if result.registered else None,
        "sample": result.sample,
    }
    print_output(as_json, summary, lambda: _show_run(result))
    if result.registered and not result.registered.promoted:
        raise typer.Exit(GATE_SAID_NO)


def _show_prepared(prepared: Any) -> None:
    from crlft_ray.inspection import print_manifest

    done = "nothing has changed, nothing was done" if prepared.unchanged else f"done in {prepared.seconds:.1f} s"
    print_manifest(prepared.manifest, console())
    print(f"{prepared.folder}: {done}")


def _show_run(result: Any) -> None:
    from crlft_ray.evaluation.table import print_scores

    screen = console()
    if result.evaluation:
        print_scores(result.evaluation, screen)
    if result.registered:
        screen.print(result.registered.text(), highlight=False, markup=False)
    if result.sample:
        message, reply = result.sample
        screen.print(f"\nyou: {message}\nmodel: {reply}", highlight=False, markup=False)
    trained = result.trained
    screen.print("\nWhat to do next:", highlight=False)
    for command, meaning in (
        (f"mlflow server --backend-store-uri {trained.tracking_uri}", "the run's page, then open its address"),
        (f"crlft chat {trained.export}", "talk to the model"),
        (f"crlft inspect {trained.output}", "see what it learned from"),
        (f"crlft register {trained.output} --name NAME", "into the registry, if it generalizes better than its base"),
    ):
        screen.print(f"  {command}   # {meaning}", highlight=False, markup=False, soft_wrap=True)

"""What is done with a model: `evaluate`, `register`, `chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from crlft_ray.cli.app import GATE_SAID_NO, AsJson, Threads, app, console, print_output
from crlft_ray.errors import UserError


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
        print_scores(found, console())
        print(f"{output}/report.html has the rest")

    print_output(as_json, found.to_dict(), show)


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
    print_output(as_json, registered.to_dict(), lambda: print(registered.text()))
    if not registered.promoted:
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

    print_output(as_json, {"message": message, "replies": replies}, show)

"""Many trainings that answer one question: `tune`, `study ablation`."""

from __future__ import annotations

from typing import Annotated

import typer

from crlft_ray.cli.app import GATE_SAID_NO, AsJson, ConfigFile, Fresh, Overrides, app, console, load, print_output
from crlft_ray.errors import UserError


@app.command()
def tune(
    config: ConfigFile,
    overrides: Overrides = None,
    fresh: Fresh = False,
    register: Annotated[
        bool, typer.Option("--register", help="Take the winner through the gate, as the config's register.name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """A study over class weights, or anything else that is not in the shards; goes on where it was cut off."""
    from crlft_ray.tuning.study import tune
    from crlft_ray.tuning.table import print_study

    loaded = load(config, overrides)
    if register and not loaded.register_.name:
        raise UserError("register.name: is required by --register")
    study = tune(loaded, fresh=fresh, register_as=loaded.register_.name if register else None)
    print_output(as_json, study.to_dict(), lambda: print_study(study, console()))
    if study.registered and not study.registered.promoted:
        raise typer.Exit(GATE_SAID_NO)


study_app = typer.Typer(help="Studies that come with the project.", no_args_is_help=True)
app.add_typer(study_app, name="study")


@study_app.command("ablation")
def study_ablation(
    output: Annotated[
        str | None,
        typer.Option(
            help="Folder of worlds, models, answers and report.html.",
            show_default="runs/ablation, or runs/ablation-quick",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed and short trainings.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Worlds and initial models for each row.")] = 3,
    further: Annotated[
        bool, typer.Option("--further", help="Also expert shares, weights, mislabelled sources, a third class.")
    ] = False,
    rows: Annotated[str, typer.Option(help="Only rows whose names contain this, such as '1% expert'.")] = "",
    split: Annotated[str, typer.Option(help="Problems to ask: test, or validation to try settings.")] = "test",
    as_json: AsJson = False,
) -> None:
    """The paper's table in a world whose truth is known; goes on where it was cut off."""
    from crlft_ray.ablation.study import SPLITS, study_ablation
    from crlft_ray.ablation.table import print_ablation

    splits = dict(zip(SPLITS, SPLITS, strict=True))
    if split not in splits:
        raise UserError(f"split: '{split}' is not one of {', '.join(splits)}")
    ablation = study_ablation(output=output, quick=quick, seeds=seeds, further=further, rows=rows, split=splits[split])
    print_output(as_json, ablation.to_dict(), lambda: print_ablation(ablation, console()))

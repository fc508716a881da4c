"""Many trainings that answer one question: `tune`."""

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

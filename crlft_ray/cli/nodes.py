"""What is asked before the money is spent: `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crlft_ray.cli.app import AsJson, Overrides, app, console, load, print_output
from crlft_ray.errors import UserError

TO_MEND = 2
"""Exit code of an examination that found something."""


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="YAML file of the run.", metavar="[CONFIG]")] = None,
    address: Annotated[
        str | None, typer.Option(help="host:port of the cluster; default: RAY_ADDRESS, or this machine alone.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check every node of the cluster: versions, compiler, GPUs, network, storage, MLflow, clock, disk."""
    from crlft_ray.doctor.examine import doctor
    from crlft_ray.doctor.table import print_diagnosis

    if overrides and config is None:
        raise UserError("--set: needs a CONFIG to change")
    diagnosis = doctor(load(config, overrides) if config else None, address=address)
    print_output(as_json, diagnosis.to_dict(), lambda: print_diagnosis(diagnosis, console()))
    if not diagnosis.ok:
        raise typer.Exit(TO_MEND)

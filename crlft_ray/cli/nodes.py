"""What is asked before the money is spent: `plan`, the bill, and `doctor`, the fault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crlft_ray.cli.app import AsJson, ConfigFile, Overrides, app, console, load, print_output
from crlft_ray.errors import UserError

TO_MEND = 2
"""Exit code of an examination that found something."""


@app.command()
def plan(
    config: ConfigFile,
    nodes: Annotated[int, typer.Option(help="Hosts.")],
    gpus: Annotated[int, typer.Option(help="GPUs of each.")],
    gpu: Annotated[str, typer.Option(help="Their kind, such as a100-80g; an unknown one lists them.")],
    tokens: Annotated[int | None, typer.Option(help="Tokens of the data, before its shards are prepared.")] = None,
    network: Annotated[float, typer.Option(help="Gbit/s between nodes.")] = 100.0,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Will it fit, how long will it take, what does it need: worked out, nothing loaded or started."""
    from crlft_ray.planning.plan_of import plan
    from crlft_ray.planning.table import print_plan

    planned = plan(load(config, overrides), nodes=nodes, gpus=gpus, gpu=gpu, tokens=tokens, network=network)
    print_output(as_json, planned.to_dict(), lambda: print_plan(planned, console()))


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="YAML file of the run.", metavar="[CONFIG]")] = None,
    address: Annotated[
        str | None, typer.Option(help="host:port of the cluster; default: RAY_ADDRESS, or this machine alone.")
    ] = None,
    runtime_env: Annotated[
        Path | None, typer.Option(help="YAML file of `ray job submit`: is its working directory small enough?")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check every node of the cluster: versions, compiler, GPUs, network, storage, MLflow, clock, disk."""
    from crlft_ray.diagnosis.examine import doctor
    from crlft_ray.diagnosis.table import print_diagnosis

    if overrides and config is None:
        raise UserError("--set: needs a CONFIG to change")
    diagnosis = doctor(load(config, overrides) if config else None, address=address, runtime_env=runtime_env)
    print_output(as_json, diagnosis.to_dict(), lambda: print_diagnosis(diagnosis, console()))
    if not diagnosis.ok:
        raise typer.Exit(TO_MEND)

"""What a run needs of a cluster: `plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from crlft_ray.cli.app import AsJson, ConfigFile, Overrides, app, console, load, print_output


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

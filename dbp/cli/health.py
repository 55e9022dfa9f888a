"""`dbp health`: whether a service serves, for probes of containers and of load balancers."""

from __future__ import annotations

import click

from dbp.cli.arguments.ranges import SECONDS
from dbp.cli.screen.output import service_option
from dbp.exit_codes import UNREACHABLE


@click.command()
@service_option
@click.option(
    "--timeout", type=SECONDS, default=5.0, show_default=True,
    help="Seconds within which the service must answer.",
)  # fmt: skip
def health(service: str, timeout: float) -> None:
    """Ask a service whether it serves.

    Prints its address and state; exits with 0 if it serves, else with 3. Needs no token.

    \b
    Examples:
      dbp health
      dbp health --service 127.0.0.1:5327 --timeout 1
    """
    import asyncio

    from dbp.client.health import is_serving

    serving = asyncio.run(is_serving(service, timeout=timeout))
    state = "serving" if serving else "not serving: it is starting or shutting down"
    click.echo(f"{service}: {state}")
    if not serving:
        raise SystemExit(UNREACHABLE)

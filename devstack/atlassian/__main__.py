"""Runs the stand-in for Atlassian as a process of its own."""

import argparse
import asyncio
from contextlib import suppress

import uvicorn

from devstack.atlassian.desk import create_app
from devstack.atlassian.signer import new_atlassian


async def serve(
    installer_url: str, app_keys: list[str], host: str, port: int, *, sites_at: str | None
) -> None:
    """Serve the stand-in until the process is told to stop."""
    async with new_atlassian(sites_at=sites_at) as atlassian:
        app = create_app(atlassian, installer_url, app_keys)
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off")
        await uvicorn.Server(config).serve()


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m devstack.atlassian", description=__doc__)
    parser.add_argument("--installer-url", required=True, help="where the installer listens")
    parser.add_argument("--app-key", action="append", required=True, help="an app; may be repeated")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--sites-here",
        action="store_true",
        help="sites answer at this address, not at names of real ones",
    )
    options = parser.parse_args(arguments)
    with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends on a laptop
        asyncio.run(
            serve(
                options.installer_url,
                options.app_key,
                options.host,
                options.port,
                sites_at=f"http://{options.host}:{options.port}" if options.sites_here else None,
            )
        )


if __name__ == "__main__":
    main()

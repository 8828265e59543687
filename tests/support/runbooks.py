"""Follows a runbook as a person would: the commands of its blocks, word for word."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path


def commands(page: Path, name: str) -> str:
    """The commands of a block of a runbook."""
    [found] = re.findall(rf"^```sh {name}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


async def follow(
    page: Path,
    block: str,
    variables: Mapping[str, str],
    *,
    folder: Path | None = None,
    tools: tuple[Path, ...] = (),
) -> str:
    """Run a block's commands where they all have to succeed, and return what they say."""
    return await run(commands(page, block), variables, folder=folder, tools=tools)


async def run(
    text: str,
    variables: Mapping[str, str],
    *,
    folder: Path | None = None,
    tools: tuple[Path, ...] = (),
) -> str:
    """Do the same with commands that a person has put together."""
    path = [*tools, Path(sys.executable).parent]
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        text,
        cwd=folder,
        env={"PATH": ":".join([*map(str, path), os.environ["PATH"]]), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, (said + errors).decode()
    return said.decode()

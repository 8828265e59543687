"""Signs many messages in a process of its own, which ends with the one that began it.

Signing is half of what a message costs. In a thread it gives the interpreter's lock away for each
signature and has to wait for it again, and so does everything else.
"""

import asyncio
import signal
import struct
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from services.notifier.letters.dkim import Signer

SignAll: TypeAlias = Callable[[Sequence[bytes]], Coroutine[Any, Any, list[bytes]]]

_NUMBER: Final = struct.Struct(">I")


class SigningStopped(Exception):  # noqa: N818 - reads as the fact it states
    """The process that signs is gone, or never came up."""


@asynccontextmanager
async def signing_process(key_file: Path) -> AsyncIterator[SignAll]:
    """Have a process that signs with the keys of this file, for as long as the block runs.

    What is yielded gives each message back with its signatures, in the same order; several may
    wait for it at once. It raises ``SigningStopped``.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        str(key_file),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    turn = asyncio.Lock()

    async def sign_all(messages: Sequence[bytes]) -> list[bytes]:
        try:
            stdin.write(_packed(messages))
            # It answers in the order in which it is asked, and those who wait get their turn so.
            async with turn:
                await stdin.drain()
                (number,) = _NUMBER.unpack(await stdout.readexactly(_NUMBER.size))
                return [await _read(stdout) for _ in range(number)]
        except (OSError, asyncio.IncompleteReadError):
            raise SigningStopped from None
        except asyncio.CancelledError:
            # Its answer would be taken for the next one's.
            with suppress(ProcessLookupError):
                process.kill()
            raise

    try:
        yield sign_all
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _packed(messages: Sequence[bytes]) -> bytes:
    parts = [_NUMBER.pack(len(messages))]
    for message in messages:
        parts += [_NUMBER.pack(len(message)), message]
    return b"".join(parts)


async def _read(stdout: asyncio.StreamReader) -> bytes:
    (length,) = _NUMBER.unpack(await stdout.readexactly(_NUMBER.size))
    return await stdout.readexactly(length)


def _serve(signer: Signer, stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer until nobody asks any more."""
    while head := stdin.read(_NUMBER.size):
        (number,) = _NUMBER.unpack(head)
        messages = []
        for _ in range(number):
            (length,) = _NUMBER.unpack(stdin.read(_NUMBER.size))
            messages.append(stdin.read(length))
        stdout.write(_packed([signer.sign(message) for message in messages]))
        stdout.flush()


if __name__ == "__main__":
    # Who stops the service lets it finish what it has begun; the end of the pipe is our end.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    with suppress(BrokenPipeError, struct.error):
        _serve(Signer.load(Path(sys.argv[1])), sys.stdin.buffer, sys.stdout.buffer)

"""What the exit statuses of `keepword` mean; the same for every command."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

FAILED: Final = 1
MISUSED: Final = 2
DIFFERS: Final = 3
INTERRUPTED: Final = 130

MEANINGS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "all went well",
        FAILED: "something failed, was refused or did not verify",
        MISUSED: "the command line or the environment makes no sense",
        DIFFERS: "what is there is not as agreed",
        INTERRUPTED: "it was interrupted before it was done",
    }
)

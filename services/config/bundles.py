"""Scripts of pages that the set-up bundles (`devstack/bundles.py`)."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from chassis.pages import PageFiles
from chassis.problems import Problem

BUILT: Final = Path(__file__).parent / "built"


class Bundles:
    """Serves some of them; where nobody has made them, the rest of the service runs all the same."""

    def __init__(self, *names: str) -> None:
        are_built = all((BUILT / name).exists() for name in names)
        self._files = (
            PageFiles(BUILT, dict.fromkeys(names, "text/javascript")) if are_built else None
        )

    async def show(self, request: Request) -> Response:
        """Serve the script that a path ends with; 503 where it was not made."""
        if self._files is None:
            raise Problem(503, detail="The script is not there: `make setup` bundles it.")
        return await self._files.show(request)

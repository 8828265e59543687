"""The app's screens: fragments of HTML that the installer's entry page shows in the customer's site.

A screen is a file here, a template in ``pages/app/`` and an entry in ``AREAS``.
"""

from collections.abc import Sequence

from fastapi import APIRouter

from services.config.domain.kinds import KINDS
from services.config.routes.screens import previews, shell, transfer, your_data
from services.config.routes.screens.editors import EditorScreens
from services.config.routes.screens.histories import HistoryScreens
from services.config.routes.screens.lists import ListScreens
from services.config.routes.screens.screen import Screens


def screens_routers() -> Sequence[APIRouter]:
    """Return the routes of all screens."""
    screens = Screens()
    router = screens.router()
    for kind in KINDS:
        ListScreens(screens, kind).add_to(router)
        EditorScreens(screens, kind).add_to(router)
        HistoryScreens(screens, kind).add_to(router)
    transfer.add_to(router, screens)
    your_data.add_to(router, screens)
    return (shell.router(screens), previews.router(screens), router)

"""The file that a tenant's things are exported to and imported from: a ZIP of JSON."""

from typing import Final

FORMAT: Final = "keepword-things"
FORMAT_VERSION: Final = 1

MANIFEST: Final = "manifest.json"
SCHEMA: Final = "schema.json"
HISTORY: Final = "history.json"

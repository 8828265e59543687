"""Write what follows from the contracts: ``python -m contracts``.

The newest schema file of every message type, the AsyncAPI documents, ``docs/events.md``. Released
schemas change in their documentation only; the tests refuse anything else.
"""

import json
from pathlib import Path

from contracts.asyncapi import write_documents
from contracts.events_page import write_page
from contracts.registry import MESSAGE_TYPES
from contracts.schemas import published_schema


def write_schemas(root: Path) -> None:
    """Make the newest schema file of each message type under ``root`` say what its model says."""
    for message_type in MESSAGE_TYPES:
        file = root / message_type.dataschema
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            json.dumps(published_schema(message_type), indent=2, ensure_ascii=False) + "\n"
        )


def write_everything(root: Path) -> None:
    """Make all of it under ``root``, where the golden samples have to be."""
    write_schemas(root)
    write_documents(root)
    write_page(root)


if __name__ == "__main__":
    write_everything(Path(__file__).parent.parent)

"""Write the newest schema file of every message type: ``python -m contracts``.

Released files change in their documentation only; the tests refuse anything else.
"""

import json
from pathlib import Path

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


if __name__ == "__main__":
    write_schemas(Path(__file__).parent.parent)

"""Write what the chart takes from the code: ``python -m deploy``."""

from pathlib import Path

from deploy import dashboards
from deploy.files import write_files

if __name__ == "__main__":
    write_files(Path(__file__).parent.parent)
    dashboards.write()

"""Runs config: ``python -m services.config``."""

import sys

from services.config.app import main

sys.exit(main())

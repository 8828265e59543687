"""Runs purger: ``python -m services.purger``."""

import sys

from services.purger.app import main

sys.exit(main())

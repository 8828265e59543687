"""Runs notifier: ``python -m services.notifier``."""

import sys

from services.notifier.app import main

sys.exit(main())

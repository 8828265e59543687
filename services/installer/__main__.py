"""``python -m services.installer`` runs the installer."""

import sys

from services.installer.app import main

sys.exit(main())

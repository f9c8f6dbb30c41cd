"""The plan's name for `smsctl db upgrade`."""

import sys

from app.cli import main

sys.argv[1:1] = ["db", "upgrade"]
main()

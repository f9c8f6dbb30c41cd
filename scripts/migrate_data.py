"""The plan's name for `smsctl migrate run`."""

import sys

from app.cli import main

sys.argv[1:1] = ["migrate", "run"]
main()

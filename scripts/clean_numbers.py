"""The plan's name for `smsctl numbering reclassify`."""

import sys

from app.cli import main

sys.argv[1:1] = ["numbering", "reclassify"]
main()

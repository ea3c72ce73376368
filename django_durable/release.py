"""Which release this is, and on which Python: workers and runs write it down."""

import sys

VERSION = "0.1.0"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

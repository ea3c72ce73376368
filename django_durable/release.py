"""Which release this is: workers write it down."""

VERSION = "0.1.0"

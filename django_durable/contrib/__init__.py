"""Optional parts: nothing else of the library needs them."""

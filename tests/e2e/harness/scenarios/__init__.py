"""One module per way of breaking things. Each scenario raises ``AssertionError`` or returns what it has measured."""

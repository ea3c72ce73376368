"""Real worker processes that are killed, stopped, cut off and restarted, and what must be true afterwards.

The scenarios take their sizes as parameters: small ones are tests, the full ones are run by ``benchmarks.chaos``.
"""

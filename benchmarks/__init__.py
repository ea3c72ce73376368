"""Benchmarks, run by hand: ``python -m benchmarks.steps`` and so on. None of them is a test."""

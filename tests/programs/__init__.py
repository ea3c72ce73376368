"""Random workflows: a small instruction set, one workflow that interprets it, and what must hold however it runs."""

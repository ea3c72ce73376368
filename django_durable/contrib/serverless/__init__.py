"""Workers on AWS Lambda: each invocation is a worker from its beginning to its end, and leaves nothing behind.

``messages``, a function that SQS invokes, does what hints are about. ``tick``, one that a schedule invokes, finds
what no hint tells of. Both are in ``handlers``, to be named in the configuration of a function.
"""

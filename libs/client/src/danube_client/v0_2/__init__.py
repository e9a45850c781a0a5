"""The calls of v0.2, one for each message: for platforms without streaming.

A client uses them where the platform answers UNIMPLEMENTED to `danube.stream.v1`.
"""

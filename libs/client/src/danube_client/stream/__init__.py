"""Native streaming, `danube.stream.v1`: batches both ways, on one stream for each producer and consumer.

Batches, windows, sequences and ranges of acknowledgements are pure; `publisher`, `subscriber` and `reading`
run them on a stream, and open the next stream when one is lost.
"""

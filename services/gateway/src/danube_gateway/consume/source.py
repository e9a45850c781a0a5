"""A subscription as this gateway sees it: its streams here, what they delivered, and where acks go."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from danube_common.model.run import Run
from danube_gateway.consume.ack_forwarder import AckForwarder, Delivered, Span
from danube_gateway.consume.unacked import Unacked


@dataclass(slots=True)
class Source:
    """One generation of a subscription that has streams at this gateway.

    Attributes:
        forwarder: of the topic's bundle.
        unacked: what its streams delivered; None if its topic is non-reliable and knows no acknowledgements.
        streams: its streams.
        prefetch: whether a consumer or the subscription bounds the unacknowledged messages: its streams may
            wait for each acknowledgement.
    """

    delivered: Delivered
    forwarder: AckForwarder
    unacked: Unacked | None
    streams: set[object] = field(default_factory=set)
    prefetch: bool = False

    def hand_out(self, stream: object, batch: list[Run]) -> list[Run]:
        """Note what a stream's client gets, and return it: the batch without what was acknowledged meanwhile.

        An owner that was not told yet may have sent that once more.
        """
        if self.unacked is None:
            return batch
        spans = sorted([(run.first, run.first + run.high - run.low - 1) for run in batch])
        if told := self.forwarder.unconfirmed_of(self.delivered, spans[0][0], spans[-1][1]):
            told.sort()
            kept = [part for run in batch for part in without(run, told)]
            if kept != batch:
                batch, spans = kept, [(run.first, run.last) for run in kept]
        self.unacked.add_all(stream, spans)
        return batch

    def accept(self, position: int) -> bool:
        """Take an acknowledgement that may be answered now; False if the owner must be asked."""
        if self.unacked is None:
            return True
        if not self.forwarder.has_room or not self.unacked.take(position):
            return False
        self.forwarder.accept(self.delivered, position, urgent=self.prefetch)
        return True

    def accept_spans(self, stream: object, spans: list[Span]) -> None:
        """Take acknowledgements of what ``stream`` delivered; what it did not deliver is passed over.

        The caller waits for `AckForwarder.has_room` before.
        """
        if self.unacked is None:
            return
        if taken := self.unacked.take_spans(stream, spans):
            self.forwarder.accept_spans(self.delivered, taken)


def without(run: Run, spans: list[Span]) -> list[Run]:
    """Return what is left of a run without the positions of ``spans``, which are ascending and apart."""
    left: list[Run] = []
    first = run.first
    for begin, end in spans[max(bisect_right(spans, (first,)) - 1, 0) :]:
        if begin > run.last:
            break
        if end < first:
            continue
        if first < begin:
            left.append(run.part(first, begin - 1))
        first = end + 1
    if first <= run.last:
        left.append(run.part(first, run.last))
    return left

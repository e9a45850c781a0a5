"""Faust over Danube topics: agents, tables and windows beside the platform.

Example::

    import faust

    import danube_faust

    app = faust.App("shop", broker="danube://127.0.0.1:6650")
    orders = app.topic("orders", value_type=str)


    @app.agent(orders)
    async def process(stream):
        async for order in stream:
            print(order)
"""

from __future__ import annotations

from faust.stores import STORES
from faust.transport.drivers import TRANSPORTS

# The entry point of the distribution says the same; this is for a source tree that is not installed.
TRANSPORTS.aliases["danube"] = "danube_faust.transport:Transport"
STORES.aliases["memory"] = "danube_faust.tables.memory_store:Store"

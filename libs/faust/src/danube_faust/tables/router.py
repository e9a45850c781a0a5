"""Which worker a web request for a key of a table goes to."""

from __future__ import annotations

from faust.app.router import Router
from faust.types import AppT, K
from yarl import URL


class TableRouter(Router):
    """Finds the worker that has a key of a table: the one that has the messages of that key.

    Faust's own looks for the key as the changelog has it, in JSON. Agents change the table in the partition
    of the message, whose key is plain text.
    """

    def key_store(self, table_name: str, key: K) -> URL:
        """Return the URL of the worker that has a key in a table.

        Raises:
            KeyError: no worker has its partition.
        """
        table = self._get_table(table_name)
        if table.use_partitioner:
            return super().key_store(table_name, key)
        plain = self.app.serializers.dumps_key(table.key_type, key, serializer=self.app.conf.key_serializer)
        return self.app.assignor.key_store(self._get_table_topic(table), plain or b"")


def route_by_messages(app: AppT) -> None:
    """Let requests of ``app.table_route`` go where messages go, unless the app has a router of its own."""
    if type(app.router) is Router:
        app.router = TableRouter(app)

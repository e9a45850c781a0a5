"""Names of Danube topics for names of Faust topics."""

from __future__ import annotations

import re
from typing import Final

NAMESPACE: Final = "default"
"""Where topics are, unless ``danube_namespace`` says otherwise."""

_OTHER = re.compile(r"[^\w-]")


class Names:
    """The names of the topics of one app.

    Attributes:
        namespace: of all of them.
        parts: the Danube topics of the partitions of each topic that was found or created.

    A Danube name may hold letters, digits, ``_`` and ``-``; Faust's own topics have dots, too, which become
    ``-``.
    """

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self.namespace = namespace
        self.parts: dict[str, list[str]] = {}
        self._taken: dict[str, str] = {}

    def topic(self, name: str) -> str:
        """Return the name of the Danube topic.

        Raises:
            ValueError: the name has a namespace; or another topic of the app has the Danube name already.
        """
        if name.startswith("/"):
            raise ValueError(
                f"topic {name!r} is named with its namespace: call it {name.rpartition('/')[2]!r}, and say"
                " faust.App(..., danube_namespace=...) if it is not in 'default'"
            )
        local = _OTHER.sub("-", name)
        other = self._taken.setdefault(local, name)
        if other != name:
            raise ValueError(
                f"topics {other!r} and {name!r} would both be /{self.namespace}/{local}: rename one of them"
            )
        return f"/{self.namespace}/{local}"

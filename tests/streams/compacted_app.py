"""An app with a table of one partition, for the command that compacts it."""

from __future__ import annotations

import os

import faust

app = faust.App(os.environ["APP_ID"], broker=os.environ["DANUBE_BROKER"], topic_partitions=1)
sums = app.Table("sums", default=int)

"""Names that vulture takes for unused, and why each of them is used."""
# ruff: noqa: B018, F821
# mypy: ignore-errors

# Fields of stored records: written for readers of the metadata store, or to make a value unique.
nonce
cut_ms

# nats-py and its parser read, set or call these by name.
DEFAULT_BUFFER_SIZE
_ps
_pending_data_size
_process_err
_process_ping

# gRPC status codes and the values of a setting: the list is complete, whether or not this code names each.
OUT_OF_RANGE
CONSERVATIVE

# A tuple that is taken apart by position.
in_bytes
out_bytes

# pydantic reads it.
model_config

# werkzeug reads it from its request and response.
content_length

# typer reads them from a command.
__signature__
__annotations__

# schema_graph fills the lists of a node by the name of the keyword's role.
unused

# Words of the registry's contract, which are found by their value; and fields of protobuf messages.
FORWARD
FORWARD_TRANSITIVE
FULL_TRANSITIVE
oneof_index
allow_alias
default_value

# asyncio calls these of a protocol.
connection_made
data_received
connection_lost

# hpack reads it.
max_allowed_table_size

# A principal's type, found by its value.
SERVICE_ACCOUNT

# typer keeps the options before a command for `tls_options.tls`.
token_file

# Faust calls these of a transport.
_drain_messages
_last_flush_at
_add_gap
_getmany
_new_offset
_new_topicpartition
_to_message
_keep_assignment
driver_version
earliest_offsets
highwater
highwaters
offset_from
offset_to
partitions_for_topic
seek_to_committed
seek_wait
send_and_wait
supports_headers

# An option of an app.
danube_namespace

# Pages of the console show it.
bytes_out

# Of a task, which h2corn calls by name.
set_name

# Of http.server, which calls them by name.
do_GET
do_POST
log_message

# Python reads it: the type of a module decides what its attributes are.
__class__

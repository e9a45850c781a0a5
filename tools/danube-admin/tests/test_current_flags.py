"""The commands, options and values that danube-admin of the current generation has: all work here."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import typer.main
from google.protobuf.message_factory import GetMessageClass

from danube_admin_cli.__main__ import app
from danube_admin_cli.mcp.tools import tools
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_operations_pb2, danube_platform_pb2, danube_schema_pb2

COMMANDS = {
    "brokers list": "--output",
    "brokers leader-broker": "",
    "brokers namespaces": "--output",
    "brokers unload": "--broker-id --max-parallel --namespaces-include --namespaces-exclude --dry-run "
    "--timeout-seconds",
    "brokers activate": "--broker-id --reason",
    "brokers balance": "--output",
    "brokers rebalance": "--dry-run --max-moves",
    "cluster status": "--output",
    "cluster add-node": "--node-addr",
    "cluster promote-node": "--node-id",
    "cluster remove-node": "--node-id",
    "namespaces topics": "NAMESPACE --output",
    "namespaces policies": "NAMESPACE --output",
    "namespaces create": "NAMESPACE",
    "namespaces delete": "NAMESPACE",
    "topics list": "--namespace --broker --output",
    "topics create": "TOPIC --namespace --partitions --schema-subject --dispatch-strategy",
    "topics delete": "TOPIC --namespace",
    "topics subscriptions": "TOPIC --namespace --output",
    "topics describe": "TOPIC --namespace --output",
    "topics unsubscribe": "TOPIC -s --subscription --namespace",
    "topics set-failure-policy": "TOPIC --namespace -s --subscription --max-redelivery-count "
    "--ack-timeout-ms --base-redelivery-delay-ms --max-redelivery-delay-ms --backoff-strategy "
    "--dead-letter-topic --poison-policy",
    "topics get-failure-policy": "TOPIC --namespace -s --subscription --output",
    "topics unload": "TOPIC --namespace",
    "topics configure-schema": "TOPIC --namespace --subject --validation-policy --enable-payload-validation",
    "topics set-validation-policy": "TOPIC --namespace --policy --enable-payload-validation",
    "topics get-schema-config": "TOPIC --namespace --output",
    "schemas register": "SUBJECT --schema-type --file --schema --description --tags --output",
    "schemas get": "--id --subject --version --output",
    "schemas versions": "SUBJECT --output",
    "schemas check": "SUBJECT --schema-type --file --schema --mode",
    "schemas get-compatibility": "SUBJECT --output",
    "schemas set-compatibility": "SUBJECT --mode",
    "schemas delete": "SUBJECT --version --confirm",
    "schemas list-subjects": "--output",
    "security roles create": "NAME --permissions",
    "security roles get": "NAME --output",
    "security roles list": "--output",
    "security roles delete": "NAME",
    "security bindings create": "ID --principal-type --principal-name --roles --scope --resource",
    "security bindings get": "NAME --scope --resource --output",
    "security bindings list": "--scope --resource --output",
    "security bindings delete": "NAME --scope --resource",
    # A secret is read from a file or a variable: an option's value is seen by everybody on the machine.
    "security tokens create": "--subject --secret-key --ttl --type --issuer",
    "security tokens validate": "--token --secret-key",
    "serve": "",
    "server": "",
}
TOPIC = "/default/t"
LINES = {
    "brokers list --output json": "",
    "brokers leader-broker": "",
    "brokers namespaces --output json": "",
    "brokers unload --broker-id 7 --max-parallel 5 --namespaces-include a --namespaces-include b"
    " --timeout-seconds 120 --yes": 'max_parallel: 5 namespaces_include: "a" namespaces_include: "b"',
    "brokers unload --broker-id 7 --namespaces-exclude c --dry-run": 'namespaces_exclude: "c"',
    "brokers activate --broker-id 7 --reason done": 'reason: "done"',
    "brokers balance --output json": "",
    "brokers rebalance --max-moves 5 --dry-run": "dry_run: true max_moves: 5",
    "cluster status": "",
    "cluster add-node --node-addr http://b:50054": 'addr: "http://b:50054"',
    "cluster promote-node --node-id 12": "node_id: 12",
    "cluster remove-node --node-id 12": "node_id: 12",
    "namespaces topics default --output json": 'name: "default"',
    "namespaces policies default --output json": 'namespace: "default"',
    "namespaces create n": 'name: "n"',
    "namespaces delete n --yes": 'name: "n"',
    "topics list --namespace default --output json": 'name: "default"',
    "topics list --broker 7 --output json": 'broker_id: "7"',
    f"topics create {TOPIC} --dispatch-strategy non_reliable": 'dispatch_strategy: "non-reliable"',
    f"topics create {TOPIC} --dispatch-strategy reliable": 'dispatch_strategy: "reliable:',
    f"topics create {TOPIC} --dispatch-strategy reliable_dispatch": 'dispatch_strategy: "reliable:',
    f"topics create {TOPIC} --dispatch-strategy Reliable-Dispatch": 'dispatch_strategy: "reliable:',
    "topics create default/t --schema-subject s --partitions 3": f'base_name: "{TOPIC}" partitions: 3',
    "topics delete t --namespace default --yes": f'name: "{TOPIC}"',
    "topics subscriptions default/t --output json": f'name: "{TOPIC}"',
    "topics describe default/t --output json": f'topic: "{TOPIC}"',
    "topics unsubscribe --subscription s default/t --yes": f'topic: "{TOPIC}" subscription: "s"',
    f"topics set-failure-policy {TOPIC} -s s --max-redelivery-count 2 --ack-timeout-ms 5000"
    " --base-redelivery-delay-ms 50 --max-redelivery-delay-ms 60 --backoff-strategy exponential"
    " --dead-letter-topic /default/d --poison-policy block": "max_redelivery_count: 2 ack_timeout_ms: 5000"
    " base_redelivery_delay_ms: 50 max_redelivery_delay_ms: 60 backoff_strategy: Exponential"
    ' dead_letter_topic: "/default/d" poison_policy: Block',
    f"topics set-failure-policy {TOPIC} -s s --poison-policy drop": "poison_policy: Drop",
    f"topics set-failure-policy {TOPIC} -s s --poison-policy dead-letter": "failure_policy { }",
    f"topics set-failure-policy {TOPIC} -s s --poison-policy dead_letter": "failure_policy { }",
    f"topics get-failure-policy {TOPIC} -s s --output json": 'subscription: "s"',
    "topics unload t --namespace default": f'name: "{TOPIC}"',
    f"topics configure-schema {TOPIC} --subject s --validation-policy enforce --enable-payload-validation": (
        'schema_subject: "s" validation_policy: "enforce" enable_payload_validation: true'
    ),
    f"topics configure-schema {TOPIC} --subject s": 'validation_policy: "none"',
    f"topics set-validation-policy {TOPIC} --policy warn --enable-payload-validation": (
        'validation_policy: "warn" enable_payload_validation: true'
    ),
    "topics set-validation-policy t --namespace default --policy none": 'validation_policy: "none"',
    f"topics get-schema-config {TOPIC} --output json": f'topic_name: "{TOPIC}"',
    **{
        f"schemas register s --schema-type {kind} --schema x --description d --tags a --tags b -o json": (
            f'schema_type: "{kind}" schema_definition: "x" description: "d"'
        )
        for kind in ("json_schema", "avro", "protobuf", "string", "bytes")
    },
    "schemas get --subject s --output json": 'subject: "s"',
    "schemas get --id 42 --version 3": "schema_id: 42 version: 3",
    "schemas versions s --output json": 'subject: "s"',
    "schemas check s --schema-type avro --schema x --mode full": 'compatibility_mode: "full"',
    "schemas get-compatibility s --output json": 'subject: "s"',
    **{
        f"schemas set-compatibility s --mode {mode}": f'compatibility_mode: "{mode}"'
        for mode in ("none", "backward", "forward", "full")
    },
    "schemas delete s --version 2 --confirm": 'subject: "s" version: 2',
    "schemas list-subjects --output json": "",
    "security roles create r --permissions 'Produce, Lookup'": 'permissions: "Produce" permissions: "Lookup"',
    "security roles get r --output json": 'name: "r"',
    "security roles list --output json": "",
    "security roles delete r --yes": 'name: "r"',
    "security bindings create b --principal-type service_account --principal-name my-app --roles p,c"
    " --scope namespace --resource /default": 'id: "b" principal_type: "service_account"'
    ' principal_name: "my-app" role_names: "p" role_names: "c" scope: "namespace" resource_name: "/default"',
    "security bindings create b --principal-type user --principal-name a --roles p --scope cluster": (
        'scope: "cluster"'
    ),
    "security bindings get b --scope topic --resource /default/t --output json": 'binding_id: "b"',
    "security bindings list --scope cluster --output json": 'scope: "cluster"',
    "security bindings delete b --scope cluster --yes": 'binding_id: "b"',
    "namespaces --endpoint {} create n": 'name: "n"',
    "--endpoint {} namespaces create n": 'name: "n"',
    "namespaces create n --endpoint {}": 'name: "n"',
}
"""What is asked for by a line of a script. What deletes needs ``--yes``, which the original does not have."""
TWICE = (
    "topics set-validation-policy /default/t --policy warn --validation-policy enforce",
    "topics set-validation-policy /default/t",
    "schemas set-compatibility s full --mode none",
    "schemas set-compatibility s",
    "security roles create r --permissions Produce --permission Lookup",
    "security roles create r",
    "security bindings create b --id c --principal user:a --role p --scope cluster",
    "security bindings create b --principal user:a --principal-type user --principal-name c -r p --scope x",
    "security bindings create b --principal-type user --roles p --scope cluster",
    "security bindings create b --principal user:a --role p --roles q --scope cluster",
    "security bindings create b --principal user:a --scope cluster",
)
AGREEING = (
    "topics set-validation-policy /default/t --policy warn --validation-policy warn",
    "schemas set-compatibility s full --mode full",
    "security roles create r --permissions Produce,Lookup --permission Produce --permission Lookup",
    (
        "security bindings create b --id b --principal user:a --principal-type user --principal-name a -r p"
        " --roles p --scope cluster"
    ),
)
SECRET = "a secret of the tests, longer than 32 bytes"


BINDING = "id principal_type principal_name role_names scope resource_name"
KEYS = {
    "brokers list": "broker_id broker_status broker_addr broker_role admin_addr metrics_addr",
    "brokers balance": "coefficient_of_variation mean_load max_load min_load std_deviation "
    "broker_count brokers",
    "topics list --namespace default": "name broker_id delivery",
    "topics list --broker 7": "name broker_id delivery",
    f"topics describe {TOPIC}": "topic broker_id delivery schema_subject schema_id schema_version "
    "schema_type compatibility_mode subscriptions",
    f"topics get-failure-policy {TOPIC} -s s": "topic subscription max_redelivery_count ack_timeout_ms "
    "base_redelivery_delay_ms max_redelivery_delay_ms backoff_strategy dead_letter_topic poison_policy",
    f"topics get-schema-config {TOPIC}": "topic schema_subject validation_policy enable_payload_validation "
    "schema_id",
    "schemas register s -t avro --schema x": "subject schema_id version is_new_version fingerprint",
    "schemas get --subject s": "schema_id version subject schema_type schema_definition description "
    "created_at created_by tags fingerprint compatibility_mode",
    "schemas versions s": "version schema_id created_at created_by description fingerprint",
    "schemas get-compatibility s": "subject compatibility_mode",
    "schemas list-subjects": "subject schema_type latest_version schema_id compatibility_mode tags",
    "security roles get r": "name permissions system",
    "security roles list": "name permissions system",
    "security bindings get b --scope cluster": BINDING,
    "security bindings list --scope cluster": BINDING,
}
"""The keys of each object that ``--output json`` prints."""


@pytest.fixture
def obliging(service: Any) -> Any:
    """Does whatever is asked for."""
    for file in (wire, danube_operations_pb2, danube_platform_pb2, danube_schema_pb2):
        for each in file.DESCRIPTOR.services_by_name.values():
            for method in each.methods:
                answer: Any = GetMessageClass(method.output_type)()
                for field in ("success", "is_compatible"):
                    if field in method.output_type.fields_by_name:
                        setattr(answer, field, True)
                if "policies" in method.output_type.fields_by_name and method.name.startswith("Get"):
                    answer.policies = "{}"
                service.answers[f"/{each.full_name}/{method.name}"] = answer
    return service


def command_of(words: str) -> Any:
    found: Any = typer.main.get_command(app)
    for word in words.split():
        found = found.commands[word]
    return found


@pytest.mark.parametrize(("command", "wanted"), COMMANDS.items())
def test_a_command_of_the_current_generation_is_there_with_its_options(command: str, wanted: str) -> None:
    found = command_of(command)
    known = {option for parameter in found.params for option in parameter.opts}
    known |= {parameter.metavar for parameter in found.params}
    assert set(wanted.split()) - known == set()


@pytest.mark.parametrize(("line", "asked"), LINES.items())
def test_a_line_of_a_script_asks_for_what_it_says(obliging: Any, cli: Any, line: str, asked: str) -> None:
    ended = cli(*shlex.split(line.replace("{}", obliging.endpoint)))
    assert (ended.code, ended.err) == (0, "")
    requests = [" ".join(str(request).split()) for _, request in obliging.requests]
    assert [text for text in requests if asked in text], requests


def test_every_command_that_asks_something_is_tried() -> None:
    tried = {command for command in COMMANDS for line in LINES if line.startswith(f"{command} ")}
    tried |= COMMANDS.keys() & LINES.keys()
    offline = {"security tokens create", "security tokens validate", "serve", "server"}
    assert COMMANDS.keys() - tried == offline


@pytest.mark.parametrize("line", TWICE)
def test_two_spellings_that_differ_and_none_at_all_are_wrong_usage(
    obliging: Any, cli: Any, line: str
) -> None:
    assert (cli(*line.split()).code, obliging.requests) == (2, [])


@pytest.mark.parametrize("line", AGREEING)
def test_two_spellings_that_agree_are_one(obliging: Any, cli: Any, line: str) -> None:
    assert (cli(*line.split()).code, len(obliging.requests)) == (0, 1)


@pytest.mark.parametrize(
    "line",
    [
        "--endpoint ftp://a:1 namespaces create n",
        "namespaces --endpoint ftp://a:1 create n",
        "namespaces create n --endpoint ftp://a:1",
        "--endpoint http://b:1 security roles --endpoint ftp://a:1 list",
    ],
)
def test_the_endpoint_is_taken_wherever_it_stands(cli: Any, line: str) -> None:
    ended = cli(*line.split())
    assert (ended.code, "ftp://a:1" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("command", "hidden"),
    [
        ("topics set-validation-policy", "--policy "),
        ("schemas set-compatibility", "--mode"),
        ("security roles create", "--permissions"),
        ("security bindings create", "--principal-type"),
        ("security tokens create", "--secret-key "),
    ],
)
def test_help_shows_one_spelling(cli: Any, command: str, hidden: str) -> None:
    assert hidden not in cli(*command.split(), "--help").out


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (("create", "--subject", "a", "--secret-key", SECRET), "--secret-key-file"),
        (("validate", "--secret-key", SECRET), "--secret-key-file"),
        (("validate", "--token", SECRET), "standard input"),
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(
    cli: Any, arguments: tuple[str, ...], instead: str
) -> None:
    ended = cli("security", "tokens", *arguments)
    assert (ended.code, ended.out, instead in ended.err, SECRET in ended.err) == (2, "", True, False)


def test_a_token_s_secret_is_in_the_variable_of_the_original(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = (
        "security",
        "tokens",
        "create",
        "--subject",
        "a",
        "--type",
        "user",
        "--issuer",
        "i",
        "-o",
        "json",
    )
    monkeypatch.setenv("DANUBE_JWT_SECRET_KEY", SECRET)
    for ttl, ttl_s in (("2h", 7200), ("3d", 259_200), ("60", 60)):
        claims = json.loads(cli(*create, "--ttl", ttl, "--endpoint", "http://nobody:1").out)["claims"]
        assert (claims["exp"] - claims["iat"], claims["iss"]) == (ttl_s, "i")
    monkeypatch.setenv("DANUBE_SECRET_KEY", f"another {SECRET}")
    assert cli(*create).code == 2


def test_values_in_json_are_those_of_the_original(obliging: Any, cli: Any) -> None:
    obliging.answers["/danube_schema.SchemaRegistry/GetTopicSchemaConfig"] = (
        danube_schema_pb2.GetTopicSchemaConfigResponse(schema_subject="s", validation_policy="enforce")
    )
    told = json.loads(cli("topics", "get-schema-config", TOPIC, "--output", "json").out)
    assert told["validation_policy"] == "ENFORCE"
    told = json.loads(cli("topics", "get-failure-policy", TOPIC, "-s", "s", "--output", "json").out)
    assert (told["poison_policy"], told["backoff_strategy"]) == ("dead_letter", "fixed")


@pytest.mark.parametrize(("line", "keys"), KEYS.items())
def test_json_has_the_keys_of_the_original(obliging: Any, cli: Any, line: str, keys: str) -> None:
    for answer in obliging.answers.values():
        for field in answer.DESCRIPTOR.fields:
            if field.is_repeated and field.message_type is not None:
                getattr(answer, field.name).add()
    ended = cli(*line.split(), "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert set(keys.split()) - set(told[0] if isinstance(told, list) else told) == set()


def test_a_tool_for_machines_has_one_spelling() -> None:
    offered = {tool.name: {one.name for one in tool.arguments} for tool in tools(command_of(""))}
    assert "validation_policy" in offered["topics_set_validation_policy"]
    for name, spelling in (
        ("topics_set_validation_policy", "policy"),
        ("schemas_set_compatibility", "mode_option"),
        ("security_roles_create", "permissions"),
        ("security_bindings_create", "principal_type"),
    ):
        assert spelling not in offered[name]


@pytest.mark.parametrize("line", ["serve --mode mcp --broker-endpoint http://a:1", "server --mode ui"])
def test_what_is_served_elsewhere_is_told(cli: Any, line: str) -> None:
    ended = cli(*line.split())
    assert (ended.code, "danube-admin mcp" in ended.err) == (2, True)


def test_an_address_without_a_scheme_has_tls_if_the_variable_says_so(
    service: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers["/danube_admin.NamespaceAdmin/CreateNamespace"] = wire.NamespaceResponse(success=True)
    line = ("namespaces", "create", "n", "--endpoint", service.endpoint.removeprefix("http://"))
    assert cli(*line).code == 0
    monkeypatch.setenv("DANUBE_ADMIN_TLS", "true")
    ended = cli(*line)
    assert (ended.code, "https://" in ended.err, len(service.requests)) == (3, True, 1)


def test_the_version_has_a_short_option(cli: Any) -> None:
    assert cli("-V").out == cli("--version").out != ""


def test_the_endpoint_and_the_variables_of_tls_and_tokens_are_known(cli: Any) -> None:
    told = " ".join(cli("--help").out.split())
    for name in ("ENDPOINT", "CA", "CERT", "KEY", "DOMAIN"):
        assert f"DANUBE_ADMIN_{name}" in told

"""The commands and options that danube-admin of the current generation has: all are here."""

from __future__ import annotations

from typing import Any

import pytest
import typer.main

from danube_admin_cli.__main__ import app

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
    "topics set-failure-policy": "TOPIC --subscription --max-redelivery-count --ack-timeout-ms "
    "--base-redelivery-delay-ms --max-redelivery-delay-ms --backoff-strategy --dead-letter-topic "
    "--poison-policy",
    "topics get-failure-policy": "TOPIC --subscription --output",
    "topics unload": "TOPIC --namespace",
    "topics configure-schema": "TOPIC --subject --validation-policy --enable-payload-validation",
    "topics set-validation-policy": "TOPIC --validation-policy --enable-payload-validation",
    "topics get-schema-config": "TOPIC --output",
    "schemas register": "SUBJECT --schema-type --file --schema --description --tags --output",
    "schemas get": "--id --subject --version --output",
    "schemas versions": "SUBJECT --output",
    "schemas check": "SUBJECT --schema-type --file --schema --mode --output",
    "schemas get-compatibility": "SUBJECT --output",
    "schemas set-compatibility": "SUBJECT",
    "schemas delete": "SUBJECT --version --confirm",
    "schemas list-subjects": "--output",
    **{
        f"security {group} {verb}": ""
        for group in ("roles", "bindings")
        for verb in ("create", "get", "list", "delete")
    },
    # The secret is read from a file: an option's value is seen by everybody on the machine.
    "security tokens create": "--subject --secret-key-file --ttl --type --issuer",
    "security tokens validate": "--secret-key-file",
}


@pytest.mark.parametrize(("command", "wanted"), COMMANDS.items())
def test_a_command_of_the_current_generation_is_there_with_its_options(command: str, wanted: str) -> None:
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]
    known = {option for parameter in found.params for option in parameter.opts}
    known |= {parameter.metavar for parameter in found.params}
    assert set(wanted.split()) - known == set()


def test_the_endpoint_and_the_variables_of_tls_and_tokens_are_known(cli: Any) -> None:
    told = " ".join(cli("--help").out.split())
    for name in ("ENDPOINT", "CA", "CERT", "KEY", "DOMAIN"):
        assert f"DANUBE_ADMIN_{name}" in told

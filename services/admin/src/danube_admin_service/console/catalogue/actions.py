"""What is done to namespaces and schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from danube_admin_service.console.access import calls
from danube_admin_service.console.action import Action, Target, page
from danube_admin_service.console.forms import Form, number, policy_of
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema


def _subject_page(form: Form) -> Target:
    return "/schema", {"name": form["subject"].strip()}


CATALOGUE_ACTIONS: Final[Mapping[str, Action]] = {
    "create-namespace": Action(
        f"{calls.NAMESPACE}/CreateNamespace",
        lambda form: admin.NamespaceRequest(name=form["namespace"].strip()),
        lambda form: f"Namespace {form['namespace'].strip()} was created.",
        page("/namespaces"),
    ),
    "delete-namespace": Action(
        f"{calls.NAMESPACE}/DeleteNamespace",
        lambda form: admin.NamespaceRequest(name=form["namespace"]),
        lambda form: f"Namespace {form['namespace']} was deleted.",
        page("/namespaces"),
        confirm="namespace",
    ),
    "set-namespace-policy": Action(
        calls.SET_NAMESPACE_POLICIES,
        lambda form: platform.SetNamespacePoliciesRequest(
            namespace=form["namespace"], policies=policy_of(form)
        ),
        lambda form: f"{form['policy']} of {form['namespace']} is now {form['value'].strip()}.",
        page("/namespaces"),
    ),
    "clear-namespace-policies": Action(
        calls.SET_NAMESPACE_POLICIES,
        lambda form: platform.SetNamespacePoliciesRequest(namespace=form["namespace"], clear=True),
        lambda form: f"Namespace {form['namespace']} has no policies of its own any more.",
        page("/namespaces"),
    ),
    "register-schema": Action(
        calls.REGISTER_SCHEMA,
        lambda form: schema.RegisterSchemaRequest(
            subject=form["subject"].strip(),
            schema_type=form["type"],
            schema_definition=form["definition"].encode(),
        ),
        lambda form: f"The schema of {form['subject'].strip()} is registered.",
        _subject_page,
    ),
    "set-compatibility": Action(
        f"{calls.REGISTRY}/SetCompatibilityMode",
        lambda form: schema.SetCompatibilityModeRequest(
            subject=form["subject"], compatibility_mode=form["mode"]
        ),
        lambda form: f"New versions have to be compatible: {form['mode']}.",
        _subject_page,
    ),
    "delete-schema-version": Action(
        f"{calls.REGISTRY}/DeleteSchemaVersion",
        lambda form: schema.DeleteSchemaVersionRequest(
            subject=form["subject"], version=number(form["version"] or "0", "a version")
        ),
        lambda form: f"Version {form['version']} of {form['subject']} was deleted.",
        page("/schemas"),
        confirm="subject",
    ),
}

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from danube_admin_service.cluster.load_manager import RebalanceRules
from danube_admin_service.cluster.ranking import LoadStrategy
from danube_admin_service.console.access.visitor import Door
from danube_admin_service.console.site import Site
from danube_admin_service.service import KIND, AdminConfig, _open_console
from danube_common.model.policies import MESSAGE_BYTES_CEILING, Policies
from danube_common.rpc.port import Methods
from danube_common.runtime.config import ConfigError, load


def test_without_configuration_the_original_addresses_and_defaults_hold() -> None:
    config = load(KIND, AdminConfig, [], {}).config
    assert config.grpc_addr == "127.0.0.1:50051"
    assert (config.bundles_file, config.bundles_memory) == (4, 4)
    assert config.bootstrap_namespaces == []
    assert Policies(**config.policies.model_dump()) == Policies()


def test_loads_are_compared_by_topics_and_levelled_only_when_asked_unless_told_otherwise() -> None:
    config = load(KIND, AdminConfig, [], {}).config
    assert config.load_strategy is LoadStrategy.FAIR
    assert RebalanceRules(**config.rebalance.model_dump()) == RebalanceRules()
    flags = ["--load-strategy", "weighted_load", "--rebalance-interval-s", "300"]
    told = load(KIND, AdminConfig, [*flags, "--rebalance-aggressiveness", "aggressive"], {}).config
    assert told.load_strategy is LoadStrategy.WEIGHTED_LOAD
    rules = RebalanceRules(**told.rebalance.model_dump())
    assert (rules.interval_s, rules.aggressiveness.threshold_percent) == (300, 20)


def test_the_eight_policies_can_be_set_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "admin.toml"
    names = Policies.__struct_fields__
    file.write_text(
        'bootstrap_namespaces = ["shop"]\n[policies]\n' + "".join(f"{name} = 7\n" for name in names)
    )
    config = load(KIND, AdminConfig, ["--config", str(file)], {}).config
    assert config.bootstrap_namespaces == ["shop"]
    assert config.policies.model_dump() == dict.fromkeys(names, 7)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--bundles-file", "0"], "bundles_file"),
        (["--bundles-memory", "0"], "bundles_memory"),
        (["--load-strategy", "random"], "load_strategy"),
        (["--rebalance-moves-max", "0"], "rebalance.moves_max"),
        (["--bootstrap-namespaces", "shop,a/b"], "letters, digits"),
        (["--policies-max-publish-rate", "-1"], "policies.max_publish_rate"),
        (["--policies-max-message-size", str(MESSAGE_BYTES_CEILING + 1)], "policies.max_message_size"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_its_name(argv: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(KIND, AdminConfig, argv, {})


@pytest.mark.parametrize(
    ("argv", "guarded", "told"),
    [
        (["--http-addr", "127.0.0.1:1"], False, []),
        (["--http-addr", "127.0.0.1:1"], True, []),
        (["--http-addr", "0.0.0.0:1"], True, ["tokens_in_plaintext"]),
        (["--http-addr", "0.0.0.0:1", "--http-tls-cert-file", "c", "--http-tls-key-file", "k"], True, []),
        (["--http-addr", "0.0.0.0:1"], False, ["console_not_served"]),
    ],
)
def test_a_console_that_others_reach_asks_for_tokens_and_warns_without_tls(
    argv: list[str], told: list[str], *, guarded: bool
) -> None:
    config = load(KIND, AdminConfig, argv, {}).config
    runtime: Any = SimpleNamespace(log=structlog.get_logger(), spawn=lambda work, _name: work.close())
    guard: Any = object() if guarded else None
    sources: Any = SimpleNamespace(activity=None)
    with capture_logs() as lines:
        _open_console(runtime, config, Site(), Door(Methods(), guard), sources)
    assert [line["event"] for line in lines] == told

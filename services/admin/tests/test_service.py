from __future__ import annotations

from pathlib import Path

import pytest

from danube_admin_service.cluster.load_manager import RebalanceRules
from danube_admin_service.cluster.ranking import LoadStrategy
from danube_admin_service.service import KIND, AdminConfig
from danube_common.model.policies import MESSAGE_BYTES_CEILING, Policies
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

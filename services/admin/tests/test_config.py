from __future__ import annotations

from pathlib import Path

import pytest

from danube_admin.service import KIND, AdminConfig
from danube_common.policies import MESSAGE_BYTES_CEILING, Policies
from danube_common.runtime.config import ConfigError, load


def test_without_configuration_the_original_addresses_and_defaults_hold() -> None:
    config = load(KIND, AdminConfig, [], {}).config
    assert config.grpc_addr == "127.0.0.1:50051"
    assert (config.bundles_file, config.bundles_memory) == (4, 4)
    assert config.bootstrap_namespaces == []
    assert Policies(**config.policies.model_dump()) == Policies()


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
        (["--bootstrap-namespaces", "shop,a/b"], "letters, digits"),
        (["--policies-max-publish-rate", "-1"], "policies.max_publish_rate"),
        (["--policies-max-message-size", str(MESSAGE_BYTES_CEILING + 1)], "policies.max_message_size"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_its_name(argv: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(KIND, AdminConfig, argv, {})

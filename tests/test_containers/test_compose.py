"""docker-compose.yml against the specification, against the program's settings and commands, and against its own promises."""

from __future__ import annotations

import copy
import ipaddress
import re
from typing import Any

import pytest

from app.core.config import ApiSettings, Settings
from tests.generated_docs import environment_names
from tests.house_support import ROOT, hold, texts
from tests.test_containers.compose_support import (
    COMPOSE,
    Node,
    bytes_of,
    has_healthcheck,
    interpolated,
    load,
    networks_of,
    project_file,
    references,
    seconds_of,
    structure,
    variables_of,
)
from tests.test_docs import command_of

GIGABYTE = 1 << 30
SERVER_MEMORY, LEFT_FOR_THE_SYSTEM, SERVER_CPUS = 16 * GIGABYTE, GIGABYTE, 8
SECRET_FILES = "./docker/secrets/"
COMPOSE_ONLY = {"API_REPLICAS"}
"""What Compose itself reads, beside settings of the platform that it hands through."""
ENVIRONMENT_OF_IMAGES = {
    "postgres": {"POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD_FILE", "POSTGRES_INITDB_ARGS"},
    "grafana": {
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
        "GF_SECURITY_COOKIE_SECURE",
        "GF_SERVER_ROOT_URL",
        "GF_USERS_ALLOW_SIGN_UP",
        "GF_AUTH_ANONYMOUS_ENABLED",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
        "GF_PLUGINS_PREINSTALL_DISABLED",
    },
}


@pytest.fixture(scope="module")
def compose() -> Node:
    return load()


@pytest.fixture(scope="module")
def services(compose: Node) -> dict[str, Node]:
    found: dict[str, Node] = compose["services"]
    return found


def ours(services: dict[str, Node]) -> dict[str, Node]:
    """The services that run the platform's own image."""
    return {name: body for name, body in services.items() if body["image"].startswith("sms-platform")}


def changed(compose: Node, path: str, value: Any) -> Node:
    """A copy of `compose` in which `path` (a.b.c) is `value`."""
    made = copy.deepcopy(compose)
    *way, last = path.split(".")
    at = made
    for step in way:
        at = at[step]
    at[last] = value
    return made


def test_file_has_the_structure_of_the_specification(compose: Node) -> None:
    hold(f"docker-compose.yml:1: {line}" for line in structure(compose))


def test_all_that_is_referred_to_is_there_and_all_that_is_there_is_used(compose: Node) -> None:
    hold(f"docker-compose.yml:1: {line}" for line in references(compose))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("services.api.enviroment", {"SMS_LOG__LEVEL": "INFO"}),
        ("services.api.restart", "sometimes"),
        ("services.api.environment", {"SMS_LOG__LEVEL": True}),
        ("services.api.deploy", {"resources": {"limits": {"cpu": "1"}}}),
        ("services.api.depends_on", {"schema": {"condition": "service_ready"}}),
        ("services.nginx.ports", ["80"]),
        ("services.api.privileged", True),
        ("secrets.redis_url", {"environment": "REDIS_URL"}),
        ("networks.front", {"internel": True}),
    ],
)
def test_a_file_with_a_wrong_structure_would_be_noticed(compose: Node, path: str, value: Any) -> None:
    assert structure(changed(compose, path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("services.api.networks", ["fronts", "front", "data", "watch"], "named fronts"),
        ("services.api.secrets", ["databse_url"], "named databse_url"),
        ("services.api.depends_on", {"schemas": {"condition": "service_started"}}, "no service"),
        ("services.api.depends_on", {"grafana": {"condition": "service_started"}}, "profile"),
        ("services.schema.restart", "always", "started again"),
        ("services.valkey.healthcheck", {"disable": True}, "not checked"),
        ("volumes.left_over", {}, "nobody uses it"),
    ],
)
def test_a_reference_into_nothing_would_be_noticed(compose: Node, path: str, value: Any, said: str) -> None:
    assert any(said in line for line in references(changed(compose, path, value)))


def test_a_key_that_stands_twice_would_be_noticed() -> None:
    with pytest.raises(ValueError, match="name twice"):
        load("name: a\nname: b\n")


def test_files_exist(compose: Node, services: dict[str, Node]) -> None:
    named = [it["file"] for it in compose["configs"].values()]
    named += [body["build"]["dockerfile"] for body in ours(services).values()]
    named += [it["source"] for body in services.values() for it in body.get("volumes", ()) if isinstance(it, dict)]
    hold(f"docker-compose.yml:1: {path} does not exist" for path in named if not project_file(path).exists())


def test_secrets_are_files_outside_the_repository(compose: Node) -> None:
    hold(
        f"docker-compose.yml:1: the secret {name} comes from {it['file']}"
        for name, it in compose["secrets"].items()
        if it["file"] != f"{SECRET_FILES}{name}"
    )
    assert [path for path, _ in texts() if path.startswith("docker/secrets/")] == ["docker/secrets/.gitignore"]


def test_every_variable_of_the_platform_is_a_setting(services: dict[str, Node]) -> None:
    known = set(environment_names())
    hold(
        f"docker-compose.yml:1: {service}: {name} is no setting"
        for service, body in ours(services).items()
        for name in body.get("environment", {})
        if name not in known
    )


def test_variables_of_other_images_are_known(services: dict[str, Node]) -> None:
    others = set(services) - set(ours(services))
    found = {name: set(services[name]["environment"]) for name in others if "environment" in services[name]}
    assert found == ENVIRONMENT_OF_IMAGES


def test_what_compose_puts_in_is_a_setting_or_its_own() -> None:
    assert variables_of(COMPOSE.read_text(encoding="utf-8")) - set(environment_names()) == COMPOSE_ONLY


def test_secrets_of_the_platform_are_settings(services: dict[str, Node]) -> None:
    known = {name.lower() for name in environment_names()}
    hold(
        f"docker-compose.yml:1: {service}: no setting reads the secret {name}"
        for service, body in ours(services).items()
        for name in body["secrets"]
        if name not in known
    )


def test_settings_take_every_value_that_is_given(services: dict[str, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    for body in ours(services).values():
        with monkeypatch.context() as patch:
            for name in environment_names():
                patch.delenv(name, raising=False)
            for name, value in body["environment"].items():
                patch.setenv(name, interpolated(value))
            settings = Settings(_env_file=None)
        assert settings.environment == "production"


def test_commands_exist(services: dict[str, Node]) -> None:
    found = []
    for name, body in ours(services).items():
        words = [*body.get("entrypoint", ()), *body.get("command", ())]
        if words and (words[0] != "smsctl" or (command_of(words[1:])).wrong):
            found.append(f"docker-compose.yml:1: {name}: {' '.join(words)} is no command")
    hold(found)


def test_images_are_pinned_to_one_version(services: dict[str, Node]) -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    assert {body["image"] for body in ours(services).values()} == {f"sms-platform:{version[1]}"}
    hold(
        f"docker-compose.yml:1: {name}: {body['image']} may be another image tomorrow"
        for name, body in services.items()
        if not re.fullmatch(r"[a-z0-9/.-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?", body["image"])
    )


def test_no_secret_is_written_down(services: dict[str, Node]) -> None:
    """Nothing that looks like one, no password in a URL, and what is named as a secret names a file."""
    random = re.compile(r"\b([0-9a-f]{24,}|[A-Za-z0-9]{32,})\b")
    in_url = re.compile(r"://[^/\s:@]*:(?!%s)[^/\s:@]+@")
    found = [
        f"{path}:{number}: {line.strip()[:60]}"
        for path, text in texts()
        if path.startswith(("docker-compose.yml", "docker/"))
        for number, line in enumerate(text.splitlines(), 1)
        if random.search(line) or in_url.search(line) or line.lstrip().startswith(("requirepass", "masterauth"))
    ]
    found += [
        f"docker-compose.yml:1: {service}: {name} holds its value"
        for service, body in services.items()
        for name, value in body.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|TOKEN|KEY", name) and not str(value).startswith("/run/secrets/")
    ]
    hold(found)


def test_every_service_is_confined(services: dict[str, Node]) -> None:
    """No capability, no new privilege, nothing written but where it is said, no root, logs that end."""
    wanted = {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    found = [
        f"docker-compose.yml:1: {name}: {key} is {body.get(key)}"
        for name, body in services.items()
        for key, value in wanted.items()
        if body.get(key) != value
    ]
    for name, body in services.items():
        if name not in ours(services) and re.fullmatch("0:.*", body.get("user", "0:0")):
            found.append(f"docker-compose.yml:1: {name}: runs as root")
        if set(body["logging"]["options"]) != {"max-size", "max-file"}:
            found.append(f"docker-compose.yml:1: {name}: its log grows for ever")
    hold(found)


def test_what_runs_for_long_is_watched_and_started_again(services: dict[str, Node]) -> None:
    lasting = {name: body for name, body in services.items() if body["restart"] != "no"}
    assert set(services) - set(lasting) == {"schema", "cli"}
    assert {body["restart"] for body in lasting.values()} == {"unless-stopped"}
    assert [name for name, body in lasting.items() if not has_healthcheck(body)] == []


def test_only_nginx_is_published_and_only_nginx_has_a_way_out(compose: Node, services: dict[str, Node]) -> None:
    closed = {name for name, body in compose["networks"].items() if body.get("internal")}
    assert {name for name, body in services.items() if "ports" in body} == {"nginx"}
    assert {name for name, body in services.items() if not set(networks_of(body)) <= closed} == {"nginx"}
    assert [name for name, body in services.items() if not networks_of(body)] == []


def test_nginx_reaches_no_data_and_grafana_is_published_on_this_machine_only(services: dict[str, Node]) -> None:
    neighbours = {
        name for name, body in services.items() if set(networks_of(body)) & set(networks_of(services["nginx"]))
    }
    assert neighbours == {"nginx", "api", "grafana"}
    assert [it for it in services["nginx"]["ports"] if it.endswith(":9443")] == ["127.0.0.1:3443:9443"]


def test_the_api_believes_nginx_alone(compose: Node, services: dict[str, Node]) -> None:
    address = services["nginx"]["networks"]["front"]["ipv4_address"]
    assert services["api"]["environment"]["SMS_API__TRUSTED_PROXIES"] == f'["{address}"]'
    (pool,) = compose["networks"]["front"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(pool["subnet"])
    assert ipaddress.ip_address(address) not in ipaddress.ip_network(pool["ip_range"]), "another could be given it"


def test_limits_fit_the_server(services: dict[str, Node]) -> None:
    limits = {name: body["deploy"]["resources"]["limits"] for name, body in services.items()}
    at_once = sum(bytes_of(it["memory"]) for name, it in limits.items() if name != "schema")  # it ends before the rest
    assert at_once <= SERVER_MEMORY - LEFT_FOR_THE_SYSTEM
    assert max(float(it["cpus"]) for it in limits.values()) <= SERVER_CPUS


def test_memory_of_the_servers_fits_their_containers(services: dict[str, Node]) -> None:
    def of(file: str, name: str) -> int:
        found = re.search(rf"^{name}\s*=?\s*([0-9]+[kmg]b)", page(file), re.MULTILINE | re.IGNORECASE)
        assert found, name
        return bytes_of(found[1])

    room = {name: bytes_of(services[name]["deploy"]["resources"]["limits"]["memory"]) for name in services}
    assert of("docker/redis.conf", "maxmemory") * 2 <= room["valkey"]
    assert of("docker/postgres.conf", "effective_cache_size") < room["postgres"]
    assert of("docker/postgres.conf", "shared_buffers") * 2 < room["postgres"]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_connections_of_the_api_fit_the_server(services: dict[str, Node]) -> None:
    environment = services["api"]["environment"]
    workers, pool = (int(interpolated(environment[f"SMS_API__{it}"])) for it in ("WORKERS", "POOL_SIZE"))
    limit = re.search(r"^max_connections = (\d+)", page("docker/postgres.conf"), re.MULTILINE)
    assert limit
    assert workers * pool * 2 <= int(limit[1]), "two replicas of the API, as while one takes over from the other"


def test_containers_are_given_the_time_they_need_to_stop(services: dict[str, Node]) -> None:
    asked = int(services["api"]["environment"]["SMS_API__SHUTDOWN_S"])
    assert asked == ApiSettings().shutdown_s
    assert seconds_of(services["api"]["stop_grace_period"]) > asked
    assert seconds_of(services["nginx"]["stop_grace_period"]) > asked
    lasting = [name for name, body in services.items() if body["restart"] != "no"]
    assert [name for name in lasting if "stop_grace_period" not in services[name]] == []


def test_schema_is_brought_up_to_date_once_before_the_api(services: dict[str, Node]) -> None:
    assert services["schema"]["command"] == ["smsctl", "db", "upgrade"]
    assert services["api"]["depends_on"]["schema"]["condition"] == "service_completed_successfully"
    assert services["schema"]["secrets"] == ["database_admin_url"]
    assert "database_admin_url" not in services["api"]["secrets"], "the API cannot change the schema"


def test_data_checksums_and_scram_are_asked_for(services: dict[str, Node]) -> None:
    arguments = services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    assert {"--data-checksums", "--auth=scram-sha-256", "--encoding=UTF8"} <= set(arguments)

"""The Dockerfiles, read by a parser of our own: what they promise can be seen without building them."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.config import ApiSettings
from app.services import schema_service
from tests.generated_docs import environment_names
from tests.house_support import ROOT, hold
from tests.test_containers.dockerfile_support import Stage, parse

DOCKERFILES = ("docker/Dockerfile", "docker/Dockerfile.worker")
BUILDS = re.compile(r"\b(apt-get|gcc|make|build-essential|curl|wget|pip)\b")
OWN_VARIABLES = {"SMS_SECRETS_DIR"}


@pytest.fixture(params=DOCKERFILES)
def stages(request: pytest.FixtureRequest) -> list[Stage]:
    return parse(ROOT / request.param)


def runtime(path: str) -> Stage:
    """The stage that is shipped."""
    return parse(ROOT / path)[-1]


def test_bases_are_one_pinned_version_of_python(stages: list[Stage]) -> None:
    assert {stage.base for stage in stages} == {"python:3.11.15-slim-bookworm"}
    assert [stage.name for stage in stages] == ["builder", "runtime"]


def test_dependencies_are_the_locked_ones_and_nothing_is_compiled(stages: list[Stage]) -> None:
    installs = [it.text for stage in stages for it in stage.all("RUN") if re.search(r"\binstall --require", it.text)]
    assert len(installs) == 1
    assert {"--require-hashes", "--only-binary", "-r", "requirements.txt"} <= set(installs[0].split())
    assert "PIP_NO_CACHE_DIR" in stages[0].environment()


def test_runtime_has_nothing_that_builds(stages: list[Stage]) -> None:
    assert [it.text for it in stages[-1].all("RUN") if BUILDS.search(it.text)] == []
    assert {it.options.get("from") for it in stages[-1].all("COPY")} == {"builder"}


def test_runtime_is_not_root_and_its_number_is_fixed(stages: list[Stage]) -> None:
    names = [it.name for it in stages[-1].instructions]
    user = stages[-1].last("USER")
    assert user is not None
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user.text)
    assert names.index("USER") < names.index("CMD")
    assert max(i for i, name in enumerate(names) if name in ("RUN", "COPY")) < names.index("USER"), "root's files"


def test_commands_are_run_without_a_shell(stages: list[Stage]) -> None:
    commands = [it for kind in ("CMD", "ENTRYPOINT") for it in stages[-1].all(kind)]
    assert commands
    assert [it.text for it in commands if not it.is_exec] == []
    assert stages[-1].last("STOPSIGNAL") is not None


def excluded(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps `path` out: the last pattern that fits decides."""
    verdict = False
    for pattern in patterns:
        bare = pattern.removeprefix("!").removeprefix("**/")
        parts = [path, *(str(it) for it in Path(path).parents), Path(path).name]
        if any(fnmatch.fnmatch(part, bare) for part in parts):
            verdict = not pattern.startswith("!")
    return verdict


def test_what_is_copied_exists_and_reaches_the_builder(stages: list[Stage]) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sources = [it for copy in stages[0].all("COPY") for it in copy.words[:-1]]
    assert {"app", "migrations", "requirements.txt"} <= set(sources)
    hold(f"docker/Dockerfile:1: {it} does not exist" for it in sources if not (ROOT / it).exists())
    hold(f".dockerignore:1: {it} is kept out" for it in sources if excluded(it, patterns))


@pytest.mark.parametrize(
    "path", [".env", "docker/secrets/database_url", "var/secrets/secret_key", ".git/config", "tests/x"]
)
def test_what_is_nobodys_business_stays_out_of_the_builder(path: str) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert excluded(path, [line for line in lines if line and not line.startswith("#")])


def test_variables_are_settings(stages: list[Stage]) -> None:
    names = {name for name in stages[-1].environment() if name.startswith("SMS_")}
    assert names <= set(environment_names()) | OWN_VARIABLES
    assert names >= {"SMS_SECRETS_DIR", "SMS_DATA_DIR"}


def test_both_images_are_built_the_same_way() -> None:
    """The layers of the two are shared: same instructions, same cache."""
    first, second = (parse(ROOT / path) for path in DOCKERFILES)
    assert [(it.name, it.options, it.text) for it in first[0].instructions] == [
        (it.name, it.options, it.text) for it in second[0].instructions
    ]
    shared = ("ENV", "RUN", "COPY", "USER", "WORKDIR")
    assert [(it.name, it.text) for it in first[1].instructions if it.name in shared] == [
        (it.name, it.text) for it in second[1].instructions if it.name in shared
    ]


def test_the_image_starts_the_api_and_its_health_is_asked() -> None:
    stage = runtime("docker/Dockerfile")
    command, check, port = stage.last("CMD"), stage.last("HEALTHCHECK"), stage.last("EXPOSE")
    assert command is not None
    assert command.words == ["python", "/srv/sms/serve.py"]
    assert check is not None
    assert check.text == 'CMD ["python", "/srv/sms/healthcheck.py"]'
    assert {"interval", "timeout", "start-period", "retries"} == set(check.options)
    assert port is not None
    assert int(port.text) == ApiSettings().port


def test_the_workers_image_claims_no_worker() -> None:
    """Until there is one, its command ends at once and says why: a container that idles would look like a worker."""
    stage = runtime("docker/Dockerfile.worker")
    command, check = stage.last("CMD"), stage.last("HEALTHCHECK")
    assert command is not None
    assert command.words[:2] == ["python", "-c"]
    assert check is not None
    assert check.text == "NONE"
    ended = subprocess.run([sys.executable, *command.words[1:]], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "no worker in this version" in ended.stderr
    assert [it for it in (ROOT / "app/workers").glob("*.py") if it.name != "__init__.py"] == []


def test_sources_in_the_image_need_nothing_outside_of_it(tmp_path: Path) -> None:
    """A copy of what is copied, as it lies in /srv/sms: the command line starts there, and finds its migrations."""
    for name in ("app", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    launcher = (ROOT / "docker/smsctl").read_text(encoding="utf-8")
    assert launcher.startswith("#!/opt/venv/bin/python\n")
    assert os.access(ROOT / "docker/smsctl", os.X_OK)
    head = "from app.services import schema_service; print(schema_service.head())"
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "SMS_ENV_FILE": os.devnull,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }  # fmt: skip
    for program, said in ((["-", "--help"], "migrate"), (["-c", head], schema_service.head())):
        ended = subprocess.run(
            [sys.executable, "-P", *program], input=launcher, cwd=tmp_path, env=environment, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert said in ended.stdout

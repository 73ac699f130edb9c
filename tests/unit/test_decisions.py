"""Every rule of the registry, each with a planted fault that it finds and a near miss that it leaves alone."""

# ruff: noqa: E501 (a case is a line where it can be)

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from mage_platform.command_line.decisions import decisions
from mage_platform.decisions import RULES, Finding, check_project
from mage_platform.decisions.checking import CHECKS
from mage_platform.decisions.project import Project
from mage_platform.decisions.sarif import as_sarif
from mage_platform.errors import ContractViolated

DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
"""


def workload(
    *, kind: str = "Deployment", image: str = "app:1.2.3", pod: str = "", container: str = "", user: str = "true"
) -> str:
    """A manifest that keeps every rule, but for what is asked for."""
    return f"""{DENY}apiVersion: apps/v1
kind: {kind}
metadata: {{name: it}}
spec:
  serviceName: nodes
  template:
    spec:
      securityContext: {{runAsNonRoot: {user}}}
      {pod}
      containers:
        - name: main
          image: {image}
          {container}
"""


HEADLESS = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: nodes}\nspec: {clusterIP: None}\n"
FEATURES = """-- the store
CREATE TABLE platform.features (
    entity_id uuid NOT NULL,
    event_time timestamptz NOT NULL,
    feature_vector jsonb NOT NULL,
    PRIMARY KEY (entity_id, event_time)
) PARTITION BY HASH (entity_id);
"""
INDEX = "CREATE INDEX idx_features_vector_gin ON platform.features USING gin (feature_vector jsonb_path_ops);\n"
BOUNCER = """[databases]
platform = host=postgres port=5432
[pgbouncer]
pool_mode = transaction
auth_type = scram-sha-256
max_client_conn = 1000
default_pool_size = 20
reserve_pool_size = 5
"""
ROUTE = "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/p')\nasync def route(body: dict):\n"
PIPELINE = "blocks:\n- uuid: plans\n  upstream_blocks: []\n  configuration: {dynamic: %s}\n"
PIPELINE += "- {uuid: train_us, upstream_blocks: [plans]}\n- {uuid: train_eu, upstream_blocks: [plans]}\n"
INGRESS = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: door}\nspec:\n"
RULES_OF_INGRESS = "  rules:\n  - host: a.example.org\n"
CONTRACT = "from pydantic import BaseModel\nclass FeatureVector(BaseModel):\n    entity_id: str\n"

# rule, file, the planted fault, its line, the near miss
CASES: list[tuple[str, str, str, int, str]] = [
    ("jsonb-not-json", "a.sql", "CREATE TABLE t (\n  a int,\n  b json\n);", 3, "SELECT b::json FROM t; -- json, they say"),
    ("jsonb-not-json", "a.sql", "SELECT 1;\n\nALTER TABLE t ADD COLUMN b json;", 3, "ALTER TABLE t ADD COLUMN json jsonb;"),
    ("jsonb-not-json", "a.sql", "ALTER TABLE t ALTER COLUMN b TYPE json;", 1, "ALTER TABLE t ALTER COLUMN b TYPE jsonb;"),
    (
        "jsonb-not-json", "a.sql", "-- name: one\nCREATE TEMPORARY TABLE {table} (b json[]);", 2,
        "-- name: one\nSELECT * FROM t WHERE a = %(a)s\n-- name: two\nCREATE TEMPORARY TABLE {table} (b jsonb);",
    ),
    ("jsonb-not-json", "a.py", "cursor.execute('''\nCREATE TABLE t (b json)''')", 2, "print('CREATE TABLE t (b json)')"),
    (
        "jsonb-not-json", "a.py", "from sqlalchemy import JSON, Column\nb = Column('b', JSON)", 2,
        "from sqlalchemy import Column\nb = Column('json', JSONB)",
    ),
    ("feature-table", "a.sql", FEATURES.replace("jsonb", "text") + INDEX, 2, FEATURES + INDEX),
    ("feature-table", "a.sql", FEATURES.replace("(entity_id, event", "(event") + INDEX, 2, FEATURES + INDEX),
    ("feature-table", "a.sql", FEATURES.replace("timestamptz", "timestamp") + INDEX, 2,
     "CREATE TABLE features_0 PARTITION OF features FOR VALUES WITH (MODULUS 2, REMAINDER 0);"),
    ("feature-index", "a.sql", FEATURES, 2, FEATURES + INDEX),
    ("feature-index", "a.sql", FEATURES + INDEX.replace("gin", "btree").replace(" jsonb_path_ops", ""), 2, INDEX),
    (
        "no-range-partitions", "a.sql", "CREATE TABLE t (a int) PARTITION BY RANGE (a);", 1,
        "CREATE TABLE t (a int) PARTITION BY HASH (a); SELECT sum(a) OVER (ORDER BY a RANGE UNBOUNDED PRECEDING) FROM t;",
    ),
    ("no-direct-postgres", "a.py", "import psycopg\npsycopg.connect(host='db', port=5432)", 2,
     "import psycopg\npsycopg.connect(host='db', port=6432)"),
    ("no-direct-postgres", "a.py", "create_engine('postgresql://u@db:5432/x')", 1,
     "create_engine('postgresql://u@pool:6432/x')  # not postgresql://db:5432"),
    (
        "no-direct-postgres", "k8s/a.yaml",
        workload(container='env: [{name: PLATFORM_DATABASE__PORT, value: "5432"}]'), 19,
        workload(image="pgbouncer:1.23.1", container='env: [{name: DB_PORT, value: "5432"}]'),
    ),
    (
        "no-direct-postgres", "k8s/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  PLATFORM_ENVIRONMENT: production\n  PLATFORM_DATABASE__HOST: db\n", 4,
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  PLATFORM_ENVIRONMENT: production\n  PLATFORM_DATABASE__HOST: pool\n"
        "  PLATFORM_DATABASE__THROUGH_PGBOUNCER: 'true'\n",
    ),
    ("no-direct-postgres", "io_config.yaml", "default:\n  POSTGRES_PORT: 5432\n", 2, "default:\n  POSTGRES_PORT: 6432\n"),
    ("pgbouncer-transaction-mode", "pg.ini", BOUNCER.replace("transaction", "session"), 4, BOUNCER),
    ("pgbouncer-transaction-mode", "pg.ini", BOUNCER.replace("pool_mode = transaction\n", ""), 3,
     "[other]\npool_mode = session\n"),
    ("pgbouncer-transaction-mode", "pg.ini", BOUNCER.replace("port=5432", "port=5432 pool_mode=session"), 2,
     BOUNCER.replace("port=5432", "port=5432 pool_mode=transaction")),
    ("no-pojo", "a.py", "model.train()\nmodel.download_pojo(path='.')", 2, "model.download_mojo()  # not download_pojo()"),
    ("heap-within-limit", "a.yaml", workload(container="args: [-Xmx9g]\n          resources: {limits: {memory: 10Gi}}"), 19,
     workload(container="args: [-Xmx7g]\n          resources: {limits: {memory: 10Gi}}")),
    ("heap-within-limit", "a.yaml", workload(container="command: [java, -Xmx1g]"), 19, workload(container="command: [java]")),
    (
        "heap-within-limit", "a.yaml",
        workload(container="env: [{name: OPTS, value: -XX:MaxRAMPercentage=75}]\n"
                           "          resources: {limits: {memory: 8Gi}}"), 19,
        workload(container="env: [{name: OPTS, value: -XX:MaxRAMPercentage=70.0}]\n"
                           "          resources: {limits: {memory: 8Gi}}"),
    ),
    (
        "heap-within-limit", "a.yaml",
        workload(container="args: [$(HEAP)]\n          env: [{name: HEAP, value: -Xmx8192m}]\n"
                           "          resources: {limits: {memory: 8Gi}}"), 19,
        workload(container="args: [$(HEAP)]\n          env: [{name: HEAP, value: -Xmx5734m}]\n"
                           "          resources: {limits: {memory: 8Gi}}"),
    ),
    ("h2o-stateful-set", "a.yaml", workload(image="h2oai/h2o-open-source-k8s:3.46.0.11") + HEADLESS, 7,
     workload(kind="StatefulSet", image="h2oai/h2o-open-source-k8s:3.46.0.11") + HEADLESS),
    ("h2o-stateful-set", "a.yaml", workload(kind="StatefulSet", image="h2o:3.46.0.11"), 11,
     workload(image="our/trains-with-h2o:1.2.3")),
    ("no-sync-predict", "a.py", ROUTE + "    return model.predict(body)", 5,
     ROUTE + "    return await loop.run_in_executor(pool, model.predict, body)"),
    ("no-sync-predict", "a.py", ROUTE + "    return await loop.run_in_executor(pool, model.predict(body))", 5,
     ROUTE + "    def work():\n        return model.predict(body)\n    return await loop.run_in_executor(pool, work)"),
    ("no-sync-predict", "a.py", ROUTE + "    return [m.predict_proba(body) for m in models]", 5,
     ROUTE + "    return await client.predict(body)"),
    ("one-contract", "serving/a.py", CONTRACT, 2, "from mage_platform.contracts import FeatureVector"),
    ("one-contract", "serving/a.py", CONTRACT, 2, "class FeatureVector:\n    '''A reader of it, no contract.'''"),
    ("cache-has-ttl", "a.py", "import redis\nr = redis.Redis()\nr.set('k', 'v')", 3,
     "import redis\nr = redis.Redis()\nr.set('k', 'v', ex=300)"),
    ("cache-has-ttl", "a.py", "import redis\nredis.Redis().mset({'k': 'v'})", 2, "gauge.set('k', 'v')"),
    ("cache-key-names-model", "a.py", "k = f'pred:{hash(frozenset(model))}'", 1, "k = f'pred:{model.mojo_sha256}:{row}'"),
    ("cache-key-names-model", "a.py", "k = 'pred:' + entity", 1, "k = 'pred:' + version.mojo_sha256"),
    ("cache-key-names-model", "a.py", "k = 'prediction:{}'.format(row)", 1, "print(f'predicted: {row}')"),
    ("dynamic-fan-out", "transformers/a.py", "def t(plans):\n    for plan in plans:\n        train_region(plan)", 2,
     "def t(plan):\n    return train_region(plan)"),
    ("dynamic-fan-out", "custom/a.py", "from concurrent.futures import ThreadPoolExecutor\n"
     "ThreadPoolExecutor().map(train_region, plans)", 2, "map(trainable, plans)"),
    ("dynamic-fan-out", "pipelines/p/metadata.yaml", PIPELINE % "false", 6, PIPELINE % "true"),
    ("no-docker-in-docker", "a.yaml", "services:\n- docker:27.1.1-dind\n", 2, "services:\n- moby/buildkit:v0.15.1\n"),
    ("no-docker-in-docker", "a.yaml", workload(pod="volumes: [{name: s, hostPath: {path: /var/run/docker.sock}}]"), 15,
     workload(pod="volumes: [{name: s, hostPath: {path: /var/lib/models}}]")),
    ("no-docker-in-docker", "Dockerfile", "FROM debian:12.7\nRUN apt-get install -y docker-ce\nUSER 1\n", 2,
     "FROM debian:12.7\nRUN echo no docker here\nUSER 1\n"),
    ("pinned-requirements", "requirements.txt", "a==1.0\n# b\nb>=2\n", 3, "a==1.0 \\\n    --hash=sha256:00\n-r other.txt\n"),
    ("pinned-requirements", "requirements-dev.txt", "a==1.*", 1, "a[extra]==1.2; python_version < '3.12'"),
    ("pinned-requirements", "Dockerfile", "FROM debian:12.7\nRUN pip install -q \\\n h2o\nUSER 1\n", 2,
     "FROM debian:12.7\nRUN pip install -r requirements.txt h2o==3.46.0.11\nUSER 1\n"),
    ("pinned-images", "a.yaml", workload(image="app"), 18, workload(image="app:1.2.3")),
    ("pinned-images", "a.yaml", workload(image="reg:5000/app:latest"), 18, workload(image="reg:5000/app@sha256:" + "0" * 64)),
    ("pinned-images", "Dockerfile", "FROM python:3.11\nUSER 1\n", 1,
     "ARG V=3.11.4\nFROM python:${V}-slim AS build\nFROM build\nUSER 1\n"),
    ("pinned-images", "kustomization.yaml", "images:\n- name: app\n  newTag: '1'\n", 3, "images:\n- {name: app, newTag: 1.2.3}"),
    ("supported-versions", "requirements.txt", "fastapi==0.99.1", 1, "fastapi==0.100.0"),
    ("supported-versions", "a.yaml", workload(image="postgres:14.5"), 18, workload(image="postgres:15.8")),
    ("supported-versions", "a.yaml", workload(image="redis:6.2.14"), 18, workload(image="redis-exporter:1.62.0")),
    ("no-root", "a.yaml", workload(user="false"), 17, workload()),
    ("no-root", "a.yaml", workload(container="securityContext: {runAsUser: 0}"), 19,
     workload(container="securityContext: {runAsUser: 10001}")),
    ("no-root", "Dockerfile", "FROM a:1.2.3 AS b\nUSER 1\nFROM c:1.2.3\n", 3, "FROM a:1.2.3\nUSER root\nUSER 10001:10001\n"),
    ("no-root", "Dockerfile", "FROM a:1.2.3\nUSER 0:0\n", 2, "FROM a:1.2.3\nUSER 1000\n"),
    ("secrets-as-files", "a.yaml", workload(container="env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]"), 19,
     workload(container="env: [{name: A, valueFrom: {configMapKeyRef: {name: s, key: k}}}]")),
    ("secrets-as-files", "a.yaml", workload(container="envFrom: [{secretRef: {name: s}}]"), 19,
     workload(container="envFrom: [{configMapRef: {name: s}}]")),
    ("secrets-as-files", "a.yaml", workload(container="env: [{name: DB_PASSWORD, value: x}]"), 19,
     workload(container="env: [{name: DB_PASSWORD_FILE, value: /run/secrets/x}]")),
    ("secrets-as-files", "a.yaml", "apiVersion: v1\nkind: Secret\nstringData:\n  a: hunter2\n", 4,
     "apiVersion: v1\nkind: Secret\nstringData: {}\n"),
    ("secrets-as-files", "Dockerfile", "FROM a:1.2.3\nENV API_TOKEN=abc\nUSER 1\n", 2,
     "FROM a:1.2.3\nENV TOKENIZERS=off\nUSER 1\n"),
    ("tls-at-ingress", "a.yaml", INGRESS + RULES_OF_INGRESS, 1, INGRESS + "  tls: [{hosts: [a.example.org]}]\n" + RULES_OF_INGRESS),
    ("tls-at-ingress", "a.yaml", INGRESS + "  tls: [{hosts: [b.example.org]}]\n" + RULES_OF_INGRESS, 7,
     INGRESS + "  tls: [{hosts: ['*.example.org']}]\n" + RULES_OF_INGRESS),
    ("network-policy", "a.yaml", workload().replace("podSelector: {}", "podSelector: {matchLabels: {a: b}}"), 7, workload()),
    ("network-policy", "a.yaml", workload().replace("[Ingress, Egress]", "[Ingress]"), 7, INGRESS),
]  # fmt: skip


def planted(folder: Path, path: str, content: str) -> list[Finding]:
    """What is found in a project of this one file."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    judgement = check_project(folder)
    assert judgement.unreadable == {}
    return judgement.findings


@pytest.mark.parametrize(("rule", "path", "fault", "line", "near"), CASES)
def test_a_planted_fault_is_found_where_it_stands(
    tmp_path: Path, rule: str, path: str, fault: str, line: int, near: str
) -> None:
    found = planted(tmp_path, path, fault)
    assert [(each.path, each.line) for each in found if each.rule == rule] == [(path, line)], found


@pytest.mark.parametrize(("rule", "path", "fault", "line", "near"), CASES)
def test_a_near_miss_is_left_alone(tmp_path: Path, rule: str, path: str, fault: str, line: int, near: str) -> None:
    assert [each for each in planted(tmp_path, path, near) if each.rule == rule] == []


def test_a_folder_called_build_is_looked_at_unless_it_is_the_output_at_the_root(tmp_path: Path) -> None:
    for place in ("build", "k8s/build"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "notes.txt").write_text("anything")
    assert Project(tmp_path).files == ["k8s/build/notes.txt"]


def test_every_rule_has_a_check_a_fault_and_a_near_miss() -> None:
    assert {rule.id for rule in RULES} == set(CHECKS) == {case[0] for case in CASES}


WAIVER = "- {rule: no-pojo, path: 'a*.py', reason: until the old scorer is gone, until: 2027-01-31}\n"


def test_a_waiver_covers_what_it_names_until_its_day(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("model.download_pojo()")
    (tmp_path / "decision_waivers.yaml").write_text(WAIVER)
    last = check_project(tmp_path, today=date(2027, 1, 31))
    assert (last.findings, len(last.waived), last.kept) == ([], 1, True)
    after = check_project(tmp_path, today=date(2027, 2, 1))
    assert (len(after.findings), after.waived, len(after.idle_waivers), after.kept) == (1, [], 1, False)


def test_two_waivers_of_one_place_take_no_waiver_from_another(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("model.download_pojo()")
    (tmp_path / "b.py").write_text("model.download_pojo()")
    more = WAIVER.replace("'a*.py'", "a.py") + WAIVER.replace("'a*.py'", "b.py")
    (tmp_path / "decision_waivers.yaml").write_text(WAIVER + more)
    judged = check_project(tmp_path, today=date(2026, 12, 1))
    assert judged.findings == []
    assert [(each.path, waiver.path) for each, waiver in judged.waived] == [("a.py", "a*.py"), ("b.py", "b.py")]
    assert [waiver.path for waiver in judged.idle_waivers] == ["a.py"]


def test_a_waiver_that_covers_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "decision_waivers.yaml").write_text(WAIVER)
    done = CliRunner().invoke(decisions, ["check", str(tmp_path)])
    assert done.exit_code == 1
    assert "no-pojo for a*.py (until 2027-01-31) covers nothing" in done.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WAIVER.replace("no-pojo", "no-pojos"), "waives 'no-pojos', which is no rule"),
        (WAIVER.replace("until the old scorer is gone", "so"), "reason 'so'"),
        (WAIVER.replace(", until: 2027-01-31", ""), "until"),
        ("a: b", "is no list"),
        ("- [", "is no YAML"),
    ],
)
def test_a_malformed_waiver_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "decision_waivers.yaml").write_text(text)
    with pytest.raises(ContractViolated, match=said):
        check_project(tmp_path)


@pytest.mark.parametrize(
    ("path", "content"), [("a.py", "def ("), ("a.yaml", "a: [b"), ("a.sql", "CREATE TABLE t (a json b c d);")]
)
def test_a_file_that_cannot_be_read_is_told_and_fails_the_check(tmp_path: Path, path: str, content: str) -> None:
    (tmp_path / path).write_text(content)
    judgement = check_project(tmp_path)
    assert [name.partition(":")[0] for name in judgement.unreadable] == [path]
    assert not judgement.kept


def test_json_and_sarif_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("model.download_pojo()")
    (tmp_path / "b.sql").write_text("CREATE TABLE t (b json);")
    sarif = tmp_path / "out.sarif"
    done = CliRunner().invoke(decisions, ["check", str(tmp_path), "--json", "--sarif", str(sarif)])
    assert done.exit_code == 1
    said = json.loads(done.output)
    (run,) = json.loads(sarif.read_text())["runs"]
    places = [
        (r["ruleId"], r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], r["message"]["text"])
        for r in run["results"]
    ]
    assert places == [(f["rule"], f["path"], f["message"]) for f in said["findings"]]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [rule.id for rule in RULES]
    assert all(run["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])


def test_waived_findings_are_suppressed_in_sarif(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("model.download_pojo()")
    (tmp_path / "decision_waivers.yaml").write_text(WAIVER)
    (result,) = as_sarif(check_project(tmp_path, today=date(2026, 12, 1)))["runs"][0]["results"]
    assert result["suppressions"][0]["justification"].startswith("until the old scorer is gone")


def test_list_prints_every_rule_with_its_state(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("model.download_pojo()")
    done = CliRunner().invoke(decisions, ["list", str(tmp_path), "--json"])
    states = {each["id"]: each["findings"] for each in json.loads(done.output)}
    assert (len(states), states["no-pojo"], sum(states.values())) == (len(RULES), 1, 1)

"""All settings of the platform, in one place.

Settings come from `PLATFORM_*` environment variables (nested names joined by two underscores, as in
`PLATFORM_SIDECAR__PORT=8080`). Secrets come from files: `<secrets folder>/platform_<name>`, one value a file. The
secrets folder is `PLATFORM_SECRETS_FOLDER`, else `/run/secrets/platform` where it exists, else
`<state folder>/secrets`, where the local stack writes passwords it makes up at its first start.

Settings are built at the edge (command line, block, sidecar start) and passed down.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from mage_platform.errors import SettingsInvalid
from mage_platform.sidecar_settings import SidecarSettings

PROJECT = Path(__file__).resolve().parent.parent
PREFIX = "PLATFORM_"
Port = Annotated[int, Field(ge=1, le=65535)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Group):
    """Where PostgreSQL is reached. In production this is PgBouncer in transaction mode, and nothing else."""

    host: str = "127.0.0.1"
    """Host name or address."""
    port: Port = 15432
    """Port of PostgreSQL. Locally the embedded server listens here."""
    name: str = "platform"
    """Database."""
    user: str = "platform"
    """Role. Its password is the secret `platform_database_password`."""
    through_pgbouncer: bool = False
    """True when host and port are PgBouncer's. Required in production."""
    pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    """Most connections one process keeps open."""
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long opening a connection may take."""


class ProvisioningSettings(_Group):
    """PostgreSQL itself, which only `mage-platform database provision` asks: roles and databases cannot be made through
    PgBouncer."""

    host: str = "postgres"
    """Host name or address; by default the Service of a cluster."""
    port: Port = 5432
    """Port of PostgreSQL."""
    superuser: str = "postgres"
    """Role that may do anything. Its password is the secret `postgres_superuser_password`."""


class PgBouncerSettings(_Group):
    """The pooler of the local stack; used when its binary is installed."""

    port: Port = 16432
    """Port it listens on."""
    enabled: bool = True
    """False keeps the local stack on direct connections even where PgBouncer is installed."""


class RedisSettings(_Group):
    """The look-aside cache (Redis 7 or Valkey)."""

    host: str = "127.0.0.1"
    """Host name or address."""
    port: Port = 16379
    """Port."""
    database: Annotated[int, Field(ge=0, le=15)] = 0
    """Number of the logical database."""
    timeout_milliseconds: Annotated[int, Field(ge=1, le=5000)] = 50
    """Longest wait for an answer before the cache is left out."""
    vector_ttl_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    """How long a stored vector is kept. An ingest renews all at once; this bounds their age when Redis missed it."""


class H2OSettings(_Group):
    """The H2O server that trains, or the cluster of them."""

    host: str = "127.0.0.1"
    """Name or address. Behind a name with several addresses, such as a headless Service, the leader is looked for."""
    port: Port = 54321
    """REST port; H2O takes the next one as well."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Nodes the cluster has when it is whole. Training waits for exactly so many, and ends when one is lost."""
    memory_limit_gib: Annotated[float, Field(ge=1)] = 5.0
    """Memory H2O may use in all, as a container limit would set it. The heap is 70 % of it."""
    threads: Annotated[int, Field(ge=1)] = max(1, os.cpu_count() or 1)
    """Worker threads of the local H2O server."""
    connect_timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    """How long a training waits for the server, or for the whole cluster, before it gives up."""
    silence_limit_seconds: Annotated[float, Field(ge=5)] = 20.0
    """How long a node may be silent before it counts as lost. It sends a sign of life every second."""

    @property
    def heap_mib(self) -> int:
        """Heap in MiB: 70 % of the limit, rounded down (registry: JVM heap at most 70 % of container memory)."""
        return int(self.memory_limit_gib * 1024 * 0.70)

    @property
    def url(self) -> str:
        """Base address of the REST interface."""
        return f"http://{self.host}:{self.port}"


class MageSettings(_Group):
    """The Mage server: UI, scheduler and API."""

    host: str = "127.0.0.1"
    """Address it binds to and is reached at."""
    port: Port = 6789
    """Port of the UI and the API."""
    owner_email: str = "owner@platform.local"
    """Login of the owner. The password is the secret `platform_mage_owner_password`."""
    database: str = "mage"
    """Database of Mage's own metadata, on the same PostgreSQL."""
    database_user: str = "mage"
    """Role of Mage's own metadata. Its password is the secret `platform_mage_database_password`."""

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://{self.host}:{self.port}"


class TrainingSettings(_Group):
    """How the fan-out uses the machine."""

    parallel_regions: Annotated[int, Field(ge=1, le=64)] = max(2, (os.cpu_count() or 1) + 1)
    """Children of the fan-out that work side by side on the H2O server; one more than it has cores keeps it busy while
    another reads. Each wants about a GiB of its heap: set less where there is less."""
    small_region_rows: Annotated[int, Field(ge=0)] = 5_000
    """Regions with fewer labelled rows share a child of the fan-out, when there are more of them than work side by
    side."""
    regions_a_child: Annotated[int, Field(ge=1, le=1_000)] = 25
    """Most small regions of one child."""
    executor: Literal["local_python", "k8s"] = "local_python"
    """Where a branch runs: in a worker process of Mage, or each as a Kubernetes job."""


class Settings(BaseSettings):
    """Everything that can be set. Each nested group documents its fields."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        case_sensitive=False,
        env_ignore_empty=True,
    )

    environment: Literal["local", "production"] = "local"
    """`production` refuses direct database connections and logs JSON."""
    state_folder: Path = PROJECT / ".platform"
    """Everything the local stack keeps: data folders, logs, secrets, models of runs."""
    use_cases_folder: Path = PROJECT / "use_cases"
    """Folder with one sub-folder for each use case."""
    secrets_folder: Path | None = None
    """Folder of the secret files; see above for the default."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severity that is logged."""

    database: DatabaseSettings = DatabaseSettings()
    provisioning: ProvisioningSettings = ProvisioningSettings()
    pgbouncer: PgBouncerSettings = PgBouncerSettings()
    redis: RedisSettings = RedisSettings()
    h2o: H2OSettings = H2OSettings()
    mage: MageSettings = MageSettings()
    sidecar: SidecarSettings = SidecarSettings()
    training: TrainingSettings = TrainingSettings()

    database_password: SecretStr | None = None
    """Password of `database.user`."""
    mage_database_password: SecretStr | None = None
    """Password of `mage.database_user`."""
    mage_owner_password: SecretStr | None = None
    """Password of the Mage owner's login."""
    redis_password: SecretStr | None = None
    """Password of Redis; none by default."""
    signing_key: SecretStr | None = None
    """Private Ed25519 key (PEM) that signs model versions: the secret `platform_signing_key`. Only training and
    `mage-platform models sign` need it."""
    verification_keys: str | None = None
    """Public Ed25519 keys (PEM, one after the other) whose signatures count, the file `platform_verification_keys`
    beside the secrets. The sidecar, training and promotions by hand need it; several, so that a key can be replaced."""

    @property
    def runs_folder(self) -> Path:
        """Where training runs keep their MOJOs until they are registered: `<state folder>/runs/<run>/<region>`."""
        return self.state_folder / "runs"

    def database_url(self) -> str:
        """`postgresql://` address with the password; a secret, never log it."""
        database = self.database
        password = self.database_password.get_secret_value() if self.database_password else ""
        credentials = quote(database.user, safe="") + (":" + quote(password, safe="") if password else "")
        return f"postgresql://{credentials}@{database.host}:{database.port}/{quote(database.name, safe='')}"


def load_settings(**overrides: Any) -> Settings:
    """Settings of this process, from its environment and the secret files.

    Raises:
        SettingsInvalid: A `PLATFORM_*` name is unknown, a value does not fit, or production is set up with direct
            database connections. The message names the variable, the value and the nearest right name.
    """
    _refuse_unknown_names()
    folder = None
    try:
        first = Settings(**overrides)
        folder = _secrets_folder(first)
        settings = Settings(_secrets_dir=str(folder), **overrides) if folder else first
    except ValidationError as error:
        raise _explain(error) from None
    except SettingsError as error:  # a secret file that is no text, or a group's JSON that is none
        cure = f"mend the file in {folder}, or remove it to have a new one made up" if folder else "mend its value"
        raise SettingsInvalid(f"{error} ({error.__cause__}): {cure}") from None
    if settings.environment == "production" and not settings.database.through_pgbouncer:
        raise SettingsInvalid(
            "production refuses direct PostgreSQL connections: point PLATFORM_DATABASE__HOST and "
            "PLATFORM_DATABASE__PORT at PgBouncer and set PLATFORM_DATABASE__THROUGH_PGBOUNCER=true",
            field="database.through_pgbouncer",
        )
    return settings


def source_connection(settings: Settings, name: str) -> SecretStr:
    """The connection string of another PostgreSQL that use cases read from: the secret `platform_source_<name>`.

    Raises:
        SettingsInvalid: There is no such file, or nothing in it; names the file to write.
    """
    file = secret_file(settings, f"platform_source_{name}")
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        text = ""
    if not text:
        raise SettingsInvalid(
            f"source.connection {name!r} asks for the secret file {file}, which "
            f"{'is empty' if file.is_file() else 'cannot be read'}: write the connection string into it, "
            "postgresql://user:password@host:5432/database",
            field="source.connection",
        )
    return SecretStr(text)


def secret_file(settings: Settings, name: str) -> Path:
    """Where a secret is kept, whether it is there or not."""
    return (_secrets_folder(settings) or settings.state_folder / "secrets") / name


def setting_names() -> list[str]:
    """Every accepted environment variable, sorted.

    >>> "PLATFORM_SIDECAR__PORT" in setting_names()
    True
    """
    names = []
    for name, field in Settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names += [f"{PREFIX}{name}__{inner}".upper() for inner in annotation.model_fields]
        else:
            names.append(f"{PREFIX}{name}".upper())
    return sorted(names)


def _refuse_unknown_names() -> None:
    known = setting_names()
    groups = {name.split("__")[0] for name in known}
    for name in os.environ:
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in known and upper not in groups:
            nearest = difflib.get_close_matches(upper, known, n=1, cutoff=0.0)[0]
            raise SettingsInvalid(f"unknown setting {name}; did you mean {nearest}?", field=name)


def _secrets_folder(settings: Settings) -> Path | None:
    candidates = [settings.secrets_folder, Path("/run/secrets/platform"), settings.state_folder / "secrets"]
    return next((folder for folder in candidates if folder is not None and folder.is_dir()), None)


def _explain(error: ValidationError) -> SettingsInvalid:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = PREFIX + "__".join(path).upper()
    secret = name.lower().endswith(("password", "key", "keys"))
    value = "" if secret else f"={first.get('input')!r}"
    return SettingsInvalid(f"{name}{value}: {first['msg']}", field=".".join(path))

"""The settings of the gateway and its workers, from environment variables that begin with GATEWAY_.

docs/settings.md has the same table; a test compares the two.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "GATEWAY_"
QUERIES_S = 10.0
HERE = Path(__file__).resolve().parent
# An installed package contains the page's files. In a checkout and in the image they are next to the package.
WEB = HERE / "web" if (HERE / "web" / "index.html").is_file() else HERE.parent / "web"
CATALOG = HERE / "catalog.json"  # a checkout has it, an installed package doesn't
_HOME = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
DATA = HERE.parent / "out" / "gateway" if CATALOG.is_file() else _HOME / "cog-gateway"  # of a system on one machine

Seconds = Annotated[float, Field(ge=0, le=10 * 365 * 86400)]
Bytes = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Settings(BaseSettings):
    """The settings of a deployment. The defaults suit one machine."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    database_url: str = Field(default="postgresql:///gateway", description="The PostgreSQL database, as a libpq URL.")
    files_url: str = Field(
        default="out/gateway/files",
        validate_default=True,
        description="Where files are stored: a folder, or the URL of a bucket (s3://, gs://, az://).",
    )
    catalog: Path | None = Field(
        default=CATALOG if CATALOG.is_file() else None,
        description="The models and versions on offer, a JSON file. It is read again when it changes. "
        "Empty: only the models that were added.",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="The models of that file to offer, such as `a/b,c/d`. Default: all."
    )
    models_folder: Path = Field(
        default=Path("out/gateway/models"),
        description="The folder of the models that `script/model` has added, which are on offer too.",
    )

    previews: dict[str, str] = Field(
        default={},
        description="The addresses of the models' preview servers, which the page's curves come from, as JSON: "
        '`{"deforum/deforum_stable_diffusion": "http://127.0.0.1:5100"}`.',
    )

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=5000, ge=0, le=65535, description="The port to listen on. 0 takes a free one.")
    public_url: HttpUrl | None = Field(
        default=None,
        description="The address that clients use, with which every URL in a response begins. "
        "Default: the request's Host header, and in webhooks `http://HOST:PORT`.",
    )
    trusted_proxies: str = Field(
        default="",
        description="The addresses or networks of proxies whose X-Forwarded-Proto and X-Forwarded-For are trusted, "
        "such as `10.0.0.1,10.1.0.0/16`.",
    )
    keep_alive_s: Seconds = Field(default=20, description="How long an idle connection stays open, in seconds.")
    connections: int = Field(
        default=2000,
        ge=1,
        description="The most open connections. Beyond it, a new connection closes the one that has been idle for "
        "longest, or gets 503 if none is idle. Health checks are answered all the same.",
    )
    connections_per_address: int = Field(
        default=1000,
        ge=1,
        description="The most open connections from one client address (for IPv6: from one /64 network), with the same "
        "consequences. It doesn't apply to trusted proxies.",
    )
    drain_s: Seconds = Field(
        default=5, description="How long running requests may take to finish at shutdown, in seconds."
    )
    web: Path = Field(default=WEB, description="The folder of the web page.")

    body_bytes: Bytes = Field(
        default=1 << 20,
        description="The largest request body, in bytes. A larger one gets 413. An uploaded file, and the data URLs in "
        "the inputs of a prediction, come on top.",
    )
    body_s: Seconds = Field(
        default=10,
        description="How long the headers of a request, and then its body, may take to arrive, in seconds. "
        "After that the connection is closed, or the response is 408. A body of more than 320 KiB has more time, a "
        "second for each 32 KiB.",
    )
    header_bytes: Bytes = Field(
        default=32 << 10, description="The largest request line with headers, in bytes. A larger one gets 400."
    )

    creates_per_s: Seconds = Field(
        default=50,
        description="How many predictions a token may create per second, on average. 0 means no limit.",
    )
    create_burst: int = Field(
        default=500, ge=1, description="How many predictions a token may create in one burst. More get 429."
    )
    queued: Count = Field(
        default=10_000,
        description="How many unfinished predictions a token may have. More get 429. 0 means no limit.",
    )
    wait_s: float = Field(
        default=55, gt=0, le=55, description="The longest that a create request may wait for its output, in seconds."
    )

    output_files: Literal["auto", "url", "data"] = Field(
        default="auto",
        description="How outputs refer to files: by URL, as data URLs, or `auto`, which sends data URLs if the public "
        "address is not https and the client is one of Replicate's own, which accept no http URL for a file. "
        "Lists and webhooks always have URLs.",
    )
    data_url_bytes: Bytes = Field(
        default=64 << 20,
        description="The largest output to send as data URLs, in bytes. A larger one keeps its URLs.",
    )
    file_url_s: float = Field(
        default=3600, ge=1, description="The least time that the URL of a file or stream stays valid, in seconds."
    )
    file_redirects: bool = Field(
        default=True,
        description="Redirect clients to the bucket, with a presigned URL. `false` passes files through the gateway, "
        "for a bucket that clients can't reach. Requests with a token, and files in a folder, always are.",
    )
    file_bytes: Bytes = Field(
        default=100 << 20,
        description="The largest file of an input, in bytes: one that is uploaded, the data URLs of a prediction "
        "together, or one that a worker fetches. Must be the same for all gateways and workers.",
    )
    file_quota_bytes: Count = Field(
        default=10 << 30,
        description="How much a token may store, in bytes: its uploaded files, and the large data URLs in its inputs. "
        "More gets 413. 0 means no limit.",
    )
    file_retention_s: Seconds = Field(
        default=86400,
        description="How long uploaded files are kept, in seconds. 0 keeps them until they are deleted.",
    )
    retention_s: Seconds = Field(
        default=3600,
        description="How long inputs, outputs and logs are kept after a prediction's end, in seconds. "
        "0 keeps them forever.",
    )

    webhook_http: bool = Field(default=False, description="Allow webhooks to http addresses, for development.")
    webhook_private: bool = Field(
        default=False, description="Allow webhooks to private, loopback and link-local addresses, for development."
    )
    webhook_try_s: float = Field(
        default=10,
        gt=0,
        le=60,
        description="The timeout of one try to deliver a webhook, in seconds. Must be the same for all gateways and "
        "workers.",
    )
    webhook_pauses_s: Annotated[tuple[Seconds, ...], NoDecode] = Field(
        default=(1, 1, 2, 4, 8, 16), description="The pauses before the retries of a `completed` webhook, in seconds."
    )
    webhook_interval_s: Seconds = Field(
        default=0.5,
        description="The least time between two `logs`, or two `output`, webhooks of a running prediction, in seconds. "
        "Must be the same for all gateways and workers.",
    )

    input_private: bool = Field(
        default=False,
        description="Allow inputs to be URLs of private, loopback and link-local addresses, for development. "
        "Must be the same for all gateways and workers.",
    )
    input_s: float = Field(
        default=120,
        gt=0,
        description="Worker: how long the files of a prediction's inputs may take to download, in seconds. "
        "After that the prediction fails.",
    )

    callback_host: str = Field(
        default="127.0.0.1",
        description="Worker: the address that it listens on for its Cog server's webhooks.",
    )
    callback_port: int = Field(
        default=0, ge=0, le=65535, description="Worker: the port for its Cog server's webhooks. 0 takes a free one."
    )
    callback_token: SecretStr | None = Field(
        default=None,
        description="Worker: the value of WEBHOOK_AUTH_TOKEN in its Cog server's environment. Webhooks without it are "
        "refused, so no other user of the host can forge a result. Default: not checked.",
    )
    cog_uids: Annotated[tuple[int, ...], NoDecode] = Field(
        default=(),
        description="Worker: the ids of the users that may run its Cog server, besides root and the worker's own user. "
        "If another user's process listens at a loopback address of the Cog server, the worker sends it nothing.",
    )
    output_bytes: Bytes = Field(
        default=300 << 20,
        description="Worker: the largest webhook of a Cog server, in bytes. It contains the output files, "
        "which take a third more.",
    )
    stalled_s: float = Field(
        default=30,
        ge=1,
        description="How long a running prediction may go without a heartbeat from its worker, in seconds, before it "
        "is queued again. Must be the same for all gateways and workers.",
    )
    lost_s: Seconds = Field(
        default=10,
        description="Worker: how long a Cog server may be idle while a prediction should run on it, in seconds, "
        "before the prediction is queued again.",
    )
    cancel_s: Seconds = Field(
        default=30,
        description="Worker: how long a Cog server may take to stop a canceled prediction, in seconds, before it is "
        "shut down.",
    )
    setup_failed_s: Seconds = Field(
        default=60,
        description="Worker: how long predictions wait for a model whose setup fails, in seconds, before they fail.",
    )

    alive_file: Path | None = Field(
        default=None,
        description="Worker: a file that it touches while it is healthy, for `python -m gateway.probe worker`. "
        "Default: none.",
    )

    metrics_token: SecretStr | None = Field(
        default=None,
        description="The token that /metrics needs, for a Prometheus server. Clients' tokens don't open it, because it "
        "counts everybody's predictions. Default: none.",
    )
    metrics_public: bool = Field(default=False, description="Serve /metrics without a token.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="The format of log lines.")

    @field_validator("catalog", mode="before")
    @classmethod
    def _may_be_none(cls, value: object) -> object:
        """Read an empty environment variable as no file."""
        return value or None

    @field_validator("files_url")
    @classmethod
    def _as_url(cls, value: str) -> str:
        """Return a folder as a file URL."""
        return value if "://" in value else Path(value).absolute().as_uri()

    @field_validator("models", "webhook_pauses_s", "cog_uids", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Split the value of an environment variable at commas."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _is_a_beginning(cls, value: HttpUrl | None) -> HttpUrl | None:
        if value and (value.query or value.fragment):
            raise ValueError("must have no query or fragment, because paths are appended to it")
        return value

    @property
    def delivery_s(self) -> float:
        """The longest that the job of a delivery may run: one try, the pause after it, and its queries."""
        return self.webhook_try_s + self.webhook_interval_s + QUERIES_S

    @property
    def base_url(self) -> str:
        """The address that URLs begin with outside of requests, without a trailing slash."""
        return str(self.public_url).rstrip("/") if self.public_url else self.own_url

    @property
    def own_url(self) -> str:
        """The address that the gateway listens on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def read_environment(data: Path) -> None:
    """Use the settings of the system that was started with this data folder, except those that are set already."""
    path = data / "environment"
    if path.is_file():
        pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
        known = {name: value for name, _, value in pairs if name.startswith(PREFIX)}
        os.environ.update(known | {name: value for name, value in os.environ.items() if name in known})


class SettingsError(ValueError):
    """Environment variables have invalid values; str() has a line for each."""


@functools.cache
def settings() -> Settings:
    """Return the settings of this process, read from its environment at the first call.

    Raises:
        SettingsError: A value is invalid.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(problem) for problem in error.errors())) from error


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings but are unknown: misspelled, or of a later version."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)


def _sentence(problem: ErrorDetails) -> str:
    name = PREFIX + str(problem["loc"][0]).upper() if problem["loc"] else "the settings"
    return f"{name} is {problem['input']!r}: {problem['msg']}"

"""Every setting of the gateway and its workers, read once, from environment variables that begin with GATEWAY_.

docs/gateway.md has the same table; a test holds the two equal.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "GATEWAY_"
HERE = Path(__file__).resolve().parent

Seconds = Annotated[float, Field(ge=0, le=10 * 365 * 86400)]
Bytes = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Settings(BaseSettings):
    """Hold what a deployment may change; the defaults suit one machine."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    database_url: str = Field(
        default="postgresql:///gateway", description="The PostgreSQL database, as libpq takes it."
    )
    files_url: str = Field(
        default="out/gateway/files",
        validate_default=True,
        description="Where output files are kept: a folder, or the URL of a bucket (s3://, gs://, az://).",
    )
    catalog: Path = Field(
        default=HERE / "catalog.json", description="The models and versions that are offered, a JSON file."
    )

    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Which of its models to offer, such as `a/b,c/d`; left out: all."
    )

    previews: dict[str, str] = Field(
        default={},
        description="Where models' preview servers listen, for the page's curves, as JSON: "
        '`{"deforum/deforum_stable_diffusion": "http://127.0.0.1:5100"}`.',
    )

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=5000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    public_url: HttpUrl | None = Field(
        default=None,
        description="The address that clients use, the beginning of every URL in an answer. "
        "Left out: what the request's Host header says, and in webhooks `http://HOST:PORT`.",
    )
    trusted_proxies: str = Field(
        default="",
        description="The addresses of proxies whose X-Forwarded-Proto and X-Forwarded-For are believed, such as "
        "`10.0.0.1,10.0.0.2`.",
    )
    keep_alive_s: Seconds = Field(default=20, description="How long an idle connection stays open, in seconds.")
    connections: int = Field(default=2000, ge=1, description="How many connections at once; more are answered 503.")
    drain_s: Seconds = Field(
        default=5, description="How long requests that are under way may go on at the end, in seconds."
    )
    web: Path = Field(default=HERE / "web", description="The folder of the page that a browser sees.")

    body_bytes: Bytes = Field(default=1 << 20, description="The largest request body, in bytes; more is answered 413.")
    body_s: Seconds = Field(
        default=10,
        description="How long the headers of a request, and then its body, may take to arrive, in seconds; "
        "then the connection is closed, or 408 answered.",
    )
    header_bytes: Bytes = Field(
        default=32 << 10, description="The largest request line with headers, in bytes; more is answered 400."
    )

    creates_per_s: Seconds = Field(
        default=50,
        description="How many predictions a token may create a second, on average. 0 sets no limit.",
    )
    create_burst: int = Field(
        default=500, ge=1, description="How many of them at once, after a rest; more are answered 429."
    )
    queued: Count = Field(
        default=10_000,
        description="How many unfinished predictions a token may have; more are answered 429. 0 sets no limit.",
    )
    wait_s: float = Field(
        default=55, gt=0, le=55, description="The longest wait for an output that a request may hold, in seconds."
    )

    output_files: Literal["auto", "url", "data"] = Field(
        default="auto",
        description="How outputs name files: by URL, as data URLs, or `auto`: as data URLs where the public address is "
        "not https and the client is one of Replicate's own, which take no http URL for a file. "
        "Lists and webhooks have URLs always.",
    )
    data_url_bytes: Bytes = Field(
        default=64 << 20,
        description="The largest output that becomes data URLs, in bytes; a larger one keeps its URLs.",
    )
    file_url_s: float = Field(
        default=3600, ge=1, description="How long the URL of a file or stream is good for at least, in seconds."
    )
    file_redirects: bool = Field(
        default=True,
        description="Send clients to the bucket itself, by a URL that it has presigned; `false` passes files through, "
        "for a bucket that they can't reach. What comes with a token is passed through always. A folder's always are.",
    )
    retention_s: Seconds = Field(
        default=3600,
        description="How long inputs, outputs and logs are kept after the end, in seconds. 0 keeps them for ever.",
    )

    webhook_http: bool = Field(default=False, description="Let webhooks go to http addresses, for development.")
    webhook_private: bool = Field(
        default=False, description="Let webhooks go to private, loopback and link-local addresses, for development."
    )
    webhook_try_s: float = Field(
        default=10, gt=0, le=60, description="How long one delivery of a webhook may take, in seconds."
    )
    webhook_pauses_s: Annotated[tuple[Seconds, ...], NoDecode] = Field(
        default=(1, 1, 2, 4, 8, 16), description="The pauses between the tries of a `completed` webhook, in seconds."
    )
    webhook_interval_s: Seconds = Field(
        default=0.5,
        description="How long a `logs` webhook keeps the next one of its prediction waiting, in seconds.",
    )

    callback_host: str = Field(
        default="127.0.0.1",
        description="Worker: the address at which its Cog server reaches it, and which it listens on.",
    )
    callback_port: int = Field(
        default=0, ge=0, le=65535, description="Worker: the port for its Cog server's webhooks; 0 takes a free one."
    )
    output_bytes: Bytes = Field(
        default=300 << 20,
        description="Worker: the largest webhook of a Cog server, in bytes; its files are in it, a third larger.",
    )
    stalled_s: float = Field(
        default=30,
        ge=1,
        description="How long a running prediction may go without a sign of life from its worker, in seconds; "
        "then it is queued again. The same for all gateways and workers.",
    )
    lost_s: Seconds = Field(
        default=10,
        description="Worker: how long a Cog server may be idle while a prediction should run on it, in seconds; "
        "then the prediction is queued again.",
    )
    cancel_s: Seconds = Field(
        default=30,
        description="Worker: how long a Cog server may take to heed a cancel, in seconds; then it is shut down.",
    )
    setup_failed_s: Seconds = Field(
        default=60,
        description="Worker: how long predictions wait for a model whose setup failed, in seconds; then they fail.",
    )

    alive_file: Path | None = Field(
        default=None,
        description="Worker: a file that it touches while it is well, for `python -m gateway.probe worker`. "
        "Left out: none.",
    )

    metrics_public: bool = Field(default=False, description="Answer /metrics without a token.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="How a log line looks.")

    @field_validator("files_url")
    @classmethod
    def _as_url(cls, value: str) -> str:
        """Return a folder as a URL too."""
        return value if "://" in value else Path(value).absolute().as_uri()

    @field_validator("models", "webhook_pauses_s", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Return the items of a list that an environment variable holds: they stand between commas."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _is_a_beginning(cls, value: HttpUrl | None) -> HttpUrl | None:
        if value and (value.query or value.fragment):
            raise ValueError("must have neither a query nor a fragment, since paths are added to it")
        return value

    @property
    def base_url(self) -> str:
        """Return the address that URLs begin with where no request tells it, without a slash at its end."""
        return str(self.public_url).rstrip("/") if self.public_url else self.own_url

    @property
    def own_url(self) -> str:
        """Return the address that is listened on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class SettingsError(ValueError):
    """Say which environment variable has a value that it can't have, one a line."""


@functools.cache
def settings() -> Settings:
    """Return the settings of this process, read from its environment at the first call. Raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(problem) for problem in error.errors())) from error


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings and are none: one was misspelt, or is from a later version."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)


def _sentence(problem: ErrorDetails) -> str:
    name = PREFIX + str(problem["loc"][0]).upper() if problem["loc"] else "the settings"
    return f"{name} is {problem['input']!r}: {problem['msg']}"

"""docs/gateway.md says of the settings what the settings say."""

from pathlib import Path

from gateway.settings import Settings
from tests.gateway.processes import ROOT

DOCUMENT = ROOT / "docs" / "gateway.md"
HEAD = "| variable | default | what it is |\n| --- | --- | --- |\n"


def default_of(value: object) -> str:
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(str(item) for item in value)}`" if value else ""
    return f"`{value}`" if value not in (None, "") else ""


def table() -> str:
    rows = [
        f"| `GATEWAY_{name.upper()}` | {default_of(about.default)} | {about.description} |\n"
        for name, about in Settings.model_fields.items()
    ]
    return HEAD + "".join(rows)


def test_the_table_of_settings_is_up_to_date() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8"), f"docs/gateway.md needs this table:\n{table()}"


def test_every_setting_says_its_unit() -> None:
    for name, about in Settings.model_fields.items():
        assert about.description, name
        for suffix, unit in (("_s", "seconds"), ("_bytes", "bytes")):
            if name.endswith(suffix) and name != "creates_per_s":
                assert unit in about.description, name

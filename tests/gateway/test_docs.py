"""The settings, and their table in docs/settings.md."""

from pathlib import Path

import pytest

from gateway.settings import Settings, SettingsError, settings, unknown
from tests.gateway.processes import ROOT

DOCUMENT = ROOT / "docs" / "settings.md"
HEAD = "| variable | default | meaning |\n| --- | --- | --- |\n"


def default_of(value: object) -> str:
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT) if value.is_absolute() else value}`"
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
    assert table() in DOCUMENT.read_text(encoding="utf-8"), f"docs/settings.md needs this table:\n{table()}"


def test_an_invalid_setting_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GATEWAY_PORT", "tcp://10.0.0.1:5000"), ("GATEWAY_WAIT_S", "60"), ("GATEWAY_QUEUED", "-1")):
        with monkeypatch.context() as patch, pytest.raises(SettingsError, match=f"^{name} is '{value}': "):
            patch.setenv(name, value)
            settings.__wrapped__()
    assert unknown({"GATEWAY_PORT": "1", "GATEWAY_PROT": "1", "PATH": "/"}) == ["GATEWAY_PROT"]

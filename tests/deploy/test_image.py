"""The gateway's image: what goes in, and as whom it runs."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "gateway.Dockerfile"
LINES = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def after(instruction: str) -> list[str]:
    return [line.removeprefix(instruction).strip() for line in LINES if line.startswith(f"{instruction} ")]


def test_it_carries_the_gateway_and_nothing_else() -> None:
    ignored = (ROOT / "deploy" / "gateway.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {line.split()[0] for line in after("COPY")}
    assert copied == let_in
    for name in copied:
        assert (ROOT / name).exists()


def test_it_runs_without_root_on_a_pinned_base_and_is_watched() -> None:
    (base,) = after("FROM")
    assert base == "python:3.11-slim-bookworm"
    assert after("USER")[-1] == "10001:10001"
    (check,) = after("HEALTHCHECK")
    assert check.endswith('CMD ["python", "-m", "gateway.probe"]')
    for command in (*after("RUN"), *after("CMD")):
        assert command.startswith("["), f"{command} would need a shell"

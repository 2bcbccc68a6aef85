"""Compare diffusion with the model's calls alone, with diffusers and with OpenVINO.

Run: script/bench diffusion [--small | --write] [--only runs|peers] [--samplers plms,euler] [--repeats N]. At full
size, with random weights, the runs take half an hour on two CPU cores, and the comparison of single evaluations ten
minutes. Each kind of device has its own sections in RESULTS.md. OpenVINO is included if it is installed:
.venv/bin/uv pip install --python .venv/bin/python -r bench/requirements.txt
"""

from bench import report
from bench.diffusion import loop, options, peers_section


def main() -> None:
    """Measure, print, and on request write."""
    asked = options.parsed(__doc__)
    kind = asked.device.type
    sections = {}
    if asked.only != "peers":
        sections[f"diffusion-{kind}"] = loop.section(asked)
    if asked.only != "runs" and kind == "cpu":
        sections["diffusion-peers"] = peers_section.section(asked)
    values: dict[str, float] = {}
    for name, (text, its_values) in sections.items():
        print(f"\n{text}")
        values |= its_values
        if asked.write:
            report.write_section(name, text)
    print(f"device={kind} {report.key_values(values)}")


if __name__ == "__main__":
    main()

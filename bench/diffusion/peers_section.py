"""The section about peers: a guided evaluation of the UNet by this project and by others, in turns."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from bench import report
from bench.diffusion import calls, peers
from bench.diffusion.options import Options, name_of, step
from bench.diffusion.peers import Compared, Evaluate, Given, Way, Weights
from lib.device import packing_pays
from lib.diffusion.packed import is_supported

REPEATS = 3
PLAIN, PACKED = "this project, plain modules", "this project, packed weights"
DIFFUSERS, DIFFUSERS_BFLOAT16, OPENVINO = "diffusers, float32", "diffusers, bfloat16", "OpenVINO"


def section(options: Options) -> tuple[str, dict[str, float]]:
    """Measure, and return the section of RESULTS.md and the values of the last line."""
    weights = Weights(options.small, options.dtype)
    its_name = PACKED if packing_pays("unet", options.device, options.dtype) else PLAIN
    found: dict[str, Compared] = {}
    with ExitStack() as stack:
        model = None
        if peers.has_openvino():
            with step("conversion for OpenVINO"):  # first, while enough memory is free
                model = stack.enter_context(peers.openvino_ir(weights))
        with step("the evaluations in float32"):
            unet = weights.unet(torch.float32)
            given = Given.drawn(unet.config)
            exact = [peers.by_pytorch(unet, given, torch.float32)(timestep) for timestep in peers.TIMESTEPS]
            del unet
        ours = stack.enter_context(project(options, given, its_name == PACKED))
        for name, way in ways(options, weights, given, model).items():
            if name != its_name:
                with step(name):
                    found[name] = peers.compare(ours, way, exact)
        found[its_name] = alone(ours, found, exact)
    with step("VAE"):
        vae_s = measured_vae(options) if is_supported(options.dtype) else {}
    return written(options, its_name, found, vae_s), last_line(found, its_name)


def alone(ours: Evaluate, found: Mapping[str, Compared], exact: Sequence[Tensor]) -> Compared:
    """Return the duration of this project's way, the median of all its turns, and its errors."""
    spent = peers.median([one.ours for one in found.values()])
    return Compared(spent, spent, peers.errors(ours, exact))


@contextmanager
def project(options: Options, given: Given, packed: bool) -> Iterator[Evaluate]:
    """Provide this project's evaluation."""
    yield peers.by_pytorch(options.models(packed)["riffusion"].unet, given, options.dtype, torch.channels_last)


def ways(options: Options, weights: Weights, given: Given, model: Path | None) -> dict[str, Way]:
    """Return the ways that are available on this machine."""
    found: dict[str, Way] = {PLAIN: functools.partial(project, options, given, False)}
    if is_supported(options.dtype):
        found[PACKED] = functools.partial(project, options, given, True)
    found[DIFFUSERS] = functools.partial(peers.diffusers, weights, given, torch.float32)
    if options.dtype == torch.bfloat16:
        found[DIFFUSERS_BFLOAT16] = functools.partial(peers.diffusers, weights, given, torch.bfloat16)
    if model is not None:
        found[OPENVINO] = functools.partial(peers.openvino, model, given, options.dtype)
    return found


def measured_vae(options: Options) -> dict[str, list[float]]:
    """Return the durations of the VAE's calls, plain and packed in turns."""
    recorded = [calls.recorded(options.models(packed)["riffusion"]) for packed in (False, True)]
    return {
        name: calls.medians_s([its_calls[name] for its_calls in recorded], options.device, REPEATS)
        for name in calls.VAE
    }


def last_line(found: Mapping[str, Compared], its_name: str) -> dict[str, float]:
    """Return the ratios to ours, nan for a peer that is not available, and the largest errors."""
    ratios = {
        key: found[name].to_ours if name in found else math.nan
        for key, name in (("openvino", OPENVINO), ("diffusers_bf16", DIFFUSERS_BFLOAT16), ("plain", PLAIN))
    }
    errors = {"error": max(found[its_name].errors), "error_plain": max(found[PLAIN].errors)}
    return {f"vs_{key}": value for key, value in ratios.items()} | errors


def instructions() -> str:
    """Name the processor's instructions for bfloat16."""
    has = torch.cpu.get_capabilities()
    named = [name for name, key in (("AMX", "amx_bf16"), ("AVX512-BF16", "avx512_bf16")) if has.get(key)]
    return f"with {' and '.join(named)}" if named else "with neither AMX nor AVX512-BF16"


def written(
    options: Options, its_name: str, found: Mapping[str, Compared], vae_s: Mapping[str, Sequence[float]]
) -> str:
    """Return the section of RESULTS.md."""
    rows = [
        [
            name,
            f"{one.its.elapsed_s:.2f} s",
            f"{one.its.cpu_s:.2f} s",
            f"{one.to_ours:.2f}",
            *(f"{error:.1e}" for error in one.errors),
        ]
        for name, one in found.items()
    ]
    missing = {
        OPENVINO: "OpenVINO is missing because it was not installed.",
        DIFFUSERS_BFLOAT16: "diffusers in bfloat16 is missing because this processor would only emulate that type.",
    }
    about = f"""{options.facts()}, {instructions()}. A guided evaluation of the UNet at each of {len(peers.TIMESTEPS)}
    timesteps, in turns with this project's, which here has {its_name.rpartition(", ")[2]}; medians. CPU time is that
    of all threads, and the ratio is of CPU times. OpenVINO computes in {name_of(options.dtype)}, like this project.
    Errors are relative to diffusers in float32 with the same weights, by timestep.
    {" ".join(text for name, text in missing.items() if name not in found)}"""
    header = [
        "",
        "an evaluation",
        "CPU time",
        "to this project",
        *(f"error at {timestep}" for timestep in peers.TIMESTEPS),
    ]
    vae = [[name, *(f"{its_s:.3f} s" for its_s in both), f"{both[0] / both[1]:.2f}"] for name, both in vae_s.items()]
    vae_table = report.markdown_table(["", "plain", "packed", "ratio"], vae) if vae else ""
    return f"""## Diffusion and its peers

{report.paragraph(about)}

{report.markdown_table(header, rows)}

{vae_table}
"""

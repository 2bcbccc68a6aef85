"""music-video: deforum whose motion, prompts and schedules follow a sound -> the frames of a film."""

from lib.deforum import Film
from lib.music_video_request import Request


def film_of(request: Request) -> Film:
    """Return the film of a request, which lib.deforum renders."""
    inputs, curves = request.inputs, request.curves
    return Film(
        prompts=request.prompts,
        angle=curves["angle"],
        zoom=curves["zoom"],
        translation_x=curves["translation_x"],
        translation_y=curves["translation_y"],
        strength=curves["strength"],
        noise_sigma=curves["noise"],
        guidance_scale=curves["guidance_scale"],
        color_coherence=inputs.color_coherence,
        sampler=inputs.sampler,
        steps=inputs.num_inference_steps,
        seed=inputs.seed,
        height_px=inputs.height,
        width_px=inputs.width,
        negative=request.negative,
        prompt_blend=inputs.prompt_blend,
        cadence=inputs.cadence,
        border=inputs.border,
        init=request.init,
    )

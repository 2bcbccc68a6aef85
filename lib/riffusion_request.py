"""Riffusion's inputs: the documented values, and the request that a clip is made from. No PyTorch is needed."""

from dataclasses import asdict, dataclass, replace

from lib.audio.seed_images import SEED_IMAGE_IDS
from lib.diffusion.schedule import MAX_STEPS
from lib.errors import Problems
from lib.inputs import MAX_SEED, check_choice, check_integer, check_number
from lib.prompt_weights import EMPTY, Prompt, check_prompt


@dataclass(frozen=True)
class Inputs:
    """The inputs by their documented names, with their defaults, and the seed, which is not a documented input.

    The values are unchecked, as a server or a caller provides them.
    """

    prompt_a: str = "funky synth solo"  # the sound of the clip
    prompt_b: str | None = None  # a second sound to blend with; None or spaces for none
    alpha: float = 0.5  # the share of prompt_b in the blend, 0 to 1
    denoising: float = 0.75  # the share of the schedule that is run, 0 to 1: how much of the seed image changes
    num_inference_steps: int = 50  # of the whole schedule, 1 to 1000
    seed_image_id: str = "vibes"  # the spectrogram that the clip starts from
    seed: int = 0  # of all noise, 32 bits

    def request(self) -> "Request":
        """Check the values and return the request.

        Raises:
            UserError: A value is invalid; the error has the problems of all inputs.
        """
        problems = Problems()
        check = problems.check
        # The values after `or` replace invalid ones until raise_any.
        prompt_a = check(check_prompt, "prompt_a", self.prompt_a) or EMPTY
        prompt_b = None if self.prompt_b is None else check(check_prompt, "prompt_b", self.prompt_b)
        alpha = check(check_number, "alpha", self.alpha, 0, 1) or 0.0
        denoising = check(check_number, "denoising", self.denoising, 0, 1) or 0.0
        steps = check(check_integer, "num_inference_steps", self.num_inference_steps, 1, MAX_STEPS) or 1
        name = check(check_choice, "seed_image_id", self.seed_image_id, SEED_IMAGE_IDS) or ""
        seed = check(check_integer, "seed", self.seed, 0, MAX_SEED) or 0
        problems.raise_any()
        inputs = replace(
            self, alpha=alpha, denoising=denoising, num_inference_steps=steps, seed_image_id=name, seed=seed
        )
        return Request(inputs, prompt_a, prompt_b if prompt_b and prompt_b.text.strip() else None)


@dataclass(frozen=True)
class Request:
    """A valid request: every value in its type and range, the prompts parsed."""

    inputs: Inputs
    prompt_a: Prompt
    prompt_b: Prompt | None  # None: no blend

    @property
    def steps(self) -> int:
        """The number of steps that are run: the schedule's times denoising, rounded down."""
        return steps_run(self.inputs.num_inference_steps, self.inputs.denoising)

    def described(self) -> dict[str, str]:
        """Return the inputs as text for a file's metadata."""
        return {name: str(value) for name, value in asdict(self.inputs).items() if value is not None}


def steps_run(num_inference_steps: int, denoising: float) -> int:
    """Return how many steps of a schedule are run."""
    return min(int(num_inference_steps * denoising), num_inference_steps)

"""The training timesteps of Stable Diffusion 1.x, and the schedules that are spread over them from the lower end."""

TRAIN_TIMESTEPS = 1000
BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": TRAIN_TIMESTEPS,
}
MAX_STEPS = TRAIN_TIMESTEPS  # with more, a schedule would have a timestep twice


def leading(num_steps: int) -> list[int]:
    """Return the timesteps of a leading schedule, the noisiest first: round(i * 1000 / num_steps) + offset.

    The offset is 1, as the models were published with; it is 0 where 1 would lead beyond the last timestep, 999, which
    is so from 667 steps on. Where num_steps divides 1000, this is the published schedule. Elsewhere that one takes
    whole strides, 1000 // num_steps, and begins far below full noise: 600 steps at timestep 600.
    """
    spread = [round(i * TRAIN_TIMESTEPS / num_steps) for i in reversed(range(num_steps))]
    offset = 1 if spread[0] + 1 < TRAIN_TIMESTEPS else 0
    return [timestep + offset for timestep in spread]

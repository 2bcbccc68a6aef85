"""The Cog predictor of music-video: it takes a sound and deforum's inputs, and returns an mp4 file with that sound.

`cog build` reads this file without running it, so every Input is a complete literal. lib/music_video_request.py has the
same inputs, and a test compares the two.
"""

import time
from typing import Optional

from cog import BaseRunner, Input, Path

from lib import weights
from lib.animation.video import Audio, encoding_thread, write_mp4
from lib.audio.features import SAMPLE_RATE_HZ
from lib.deforum import Deforum
from lib.device import computing, draw_seed, is_alive, limit_threads, release_threads
from lib.diffusion.models import load
from lib.errors import logged
from lib.inputs import RANDOM_SEED
from lib.music_video import film_of
from lib.music_video_request import Inputs
from lib.outputs import Outputs
from lib.progress import Stages, report


class Predictor(BaseRunner):
    """A sound and keyframed prompts to a film that moves to it, with deforum's weights."""

    def setup(self) -> None:
        limit_threads()
        folder = weights.ensure("deforum")
        self.models = load(folder)
        self.weights_kind = weights.kind(folder)
        self.deforum = Deforum(self.models)
        self.outputs = Outputs("music-video")
        encoding_thread()
        release_threads()

    def healthcheck(self) -> bool:
        return is_alive(self.models.device)

    def run(
        self,
        audio: Optional[Path] = Input(
            description="The sound that the film moves to: up to 15 minutes of anything FFmpeg reads, also a film. Leave blank for a silent film.",
            default=None,
        ),
        audio_start_s: float = Input(
            description="Where in the sound the film begins, in seconds", default=0, ge=0, le=900
        ),
        max_frames: Optional[int] = Input(
            description="Number of frames. Leave blank for the sound's length, at most 1000 frames; without a sound, 100.",
            default=None,
            ge=1,
            le=1000,
        ),
        animation_prompts: str = Input(
            description="What is seen: 'frame: prompt' or, on a beat, '4b: prompt', separated by '|'",
            default="0: a beautiful portrait of a woman by Artgerm, trending on Artstation",
        ),
        angle: str = Input(
            description="Rotation in degrees per frame. This and the next three are 'frame: (value)' or '4b: (value)', separated by commas; values are expressions that may follow the music, such as 3*beat",
            default="0:(0)",
        ),
        zoom: str = Input(
            description="Factor per frame; above 1 the camera moves in", default="0: (1.01 + 0.08*onset)"
        ),
        translation_x: str = Input(description="Pixels per frame to the right", default="0: (0)"),
        translation_y: str = Input(description="Pixels per frame downwards", default="0: (0)"),
        strength: str = Input(
            description="How much of the previous frame stays, from 0 to 1. A dip where a prompt changes shows the change at once.",
            default="0: (0.65)",
        ),
        noise: str = Input(description="Noise added to each frame, from 0 to 1", default="0: (0.02)"),
        guidance_scale: str = Input(description="How strongly the prompts steer, from 0 to 30", default="0: (7)"),
        negative_prompt: Optional[str] = Input(description="What to avoid", default=None),
        prompt_blend: int = Input(
            description="Frames that a prompt takes to replace the one before it", default=0, ge=0, le=1000
        ),
        bpm: Optional[float] = Input(
            description="Beats per minute, with a beat at the sound's beginning. Leave blank to estimate the beat.",
            default=None,
            ge=30,
            le=300,
        ),
        timeline: Optional[Path] = Input(description="The timeline of a walk, which has its exact beats", default=None),
        init_image: Optional[Path] = Input(description="A picture that the film begins from", default=None),
        cadence: int = Input(
            description="Diffuse every nth frame; those between are warped and mixed, which is as many times faster",
            default=1,
            ge=1,
            le=8,
        ),
        border: str = Input(
            description="What comes into the picture from outside",
            default="wrap",
            choices=["wrap", "reflect", "replicate"],
        ),
        color_coherence: str = Input(
            description="The colour space in which every frame is matched to frame 0",
            default="Match Frame 0 LAB",
            choices=["None", "Match Frame 0 HSV", "Match Frame 0 LAB", "Match Frame 0 RGB"],
        ),
        sampler: str = Input(
            description="The sampler of the diffusion",
            default="plms",
            choices=["klms", "dpm2", "dpm2_ancestral", "heun", "euler", "euler_ancestral", "plms", "ddim"],
        ),
        num_inference_steps: int = Input(
            description="Steps of frame 0; the later frames skip a share of them, the strength",
            default=50,
            ge=1,
            le=1000,
        ),
        width: int = Input(description="Width in pixels, a multiple of 64", default=512, ge=256, le=1024),
        height: int = Input(description="Height in pixels, a multiple of 64", default=512, ge=256, le=1024),
        fps: int = Input(description="Frames per second", default=15, ge=10, le=60),
        seed: Optional[int] = Input(description="Random seed. Leave blank to randomize the seed", default=None),
    ) -> Path:
        # Not a decorator: it would hide this function's defaults, which Cog's server sets.
        with logged(), computing():
            stages = Stages(self.models.device)
            with stages.measure("analysis"):
                request = Inputs(
                    audio=audio and str(audio),
                    audio_start_s=audio_start_s,
                    max_frames=max_frames,
                    animation_prompts=animation_prompts,
                    angle=angle,
                    zoom=zoom,
                    translation_x=translation_x,
                    translation_y=translation_y,
                    strength=strength,
                    noise=noise,
                    guidance_scale=guidance_scale,
                    negative_prompt=negative_prompt,
                    prompt_blend=prompt_blend,
                    bpm=bpm,
                    timeline=timeline and str(timeline),
                    init_image=init_image and str(init_image),
                    cadence=cadence,
                    border=border,
                    color_coherence=color_coherence,
                    sampler=sampler,
                    num_inference_steps=num_inference_steps,
                    width=width,
                    height=height,
                    fps=fps,
                    seed=draw_seed() if seed in (None, RANDOM_SEED) else seed,
                ).request()
            inputs, film = request.inputs, film_of(request)
            for note in request.notes():
                print(note)
            print(f"Using seed: {inputs.seed}")
            sound = request.music.cut(request.frames / inputs.fps)
            with self.outputs.fresh() as folder:
                video = Path(folder / "video.mp4")
                started_s = time.perf_counter()
                write_mp4(
                    video,
                    self.deforum.render(film, stages),
                    inputs.fps,
                    request.described(),
                    None if sound is None else Audio(sound, SAMPLE_RATE_HZ),
                )
                total_s = time.perf_counter() - started_s
        # The time spent on the video alone. The rest of the encoding ran while the model worked.
        stages.seconds["video"] = total_s - sum(stages.seconds.values()) + stages.seconds["analysis"]
        report(
            self.record_metric,
            stages,
            seed=inputs.seed,
            frames=request.frames,
            steps=film.total_steps,
            bpm=request.soundtrack.constants["bpm"],
            model=self.weights_kind,
        )
        return video

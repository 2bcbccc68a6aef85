"""A server holds no more memory, files or handles after many predictions than after a few."""

from dataclasses import dataclass
from itertools import cycle, islice

import pytest

from tests.local.serving.client import Client

INPUTS: dict[str, list[dict[str, object]]] = {  # used in turn
    "riffusion": [
        {"num_inference_steps": 1, "denoising": 1},
        {"denoising": 0},
        {"denoising": 0, "seed_image_id": "agile"},
    ],
    "walk": [{"bars": 2, "denoising": 0}, {"bars": 4, "denoising": 0, "output_format": "mp3"}],
    "deforum": [{}],
    "music-video": [{"max_frames": 1, "num_inference_steps": 1, "width": 256, "height": 256}],
}
OUTPUT_FILES = {"riffusion": 2, "walk": 3, "deforum": 1, "music-video": 1}
GROWTH_BYTES = 100e6  # within 80 predictions the allocator grows by 70 MB and stays there; one spectrum takes 36 MB
GROWTH = 5  # handles and threads come and go; a leak of one per prediction would add 8


@dataclass(frozen=True)
class Holding:
    memory_bytes: int
    handles: int
    threads: int
    entries: int

    @classmethod
    def of(cls, client: Client) -> "Holding":
        processes = client.processes()
        assert len(processes) == 2
        return cls(
            memory_bytes=sum(process.memory_info().rss for process in processes),
            handles=sum(process.num_fds() for process in processes),
            threads=sum(process.num_threads() for process in processes),
            entries=sum(1 for _ in client.server.folder.rglob("*")),
        )

    def check_growth(self, later: "Holding") -> None:
        assert later.handles - self.handles <= GROWTH
        assert later.threads - self.threads <= GROWTH
        assert later.entries == self.entries


def predict(client: Client, count: int) -> None:
    for inputs in islice(cycle(INPUTS[client.model]), count):
        assert client.predict(**inputs)["status"] == "succeeded"
        assert len(client.files()) == OUTPUT_FILES[client.model]


def test_ten_predictions_leave_no_more_than_two(riffusion: Client) -> None:
    predict(riffusion, 2)
    early = Holding.of(riffusion)
    predict(riffusion, 8)
    early.check_growth(Holding.of(riffusion))


@pytest.mark.slow
def test_two_hundred_predictions_of_both_models(clients: dict[str, Client]) -> None:
    for client in clients.values():
        predict(client, 10)
    early = {model: Holding.of(client) for model, client in clients.items()}
    for client in clients.values():
        predict(client, 90)
    for model, client in clients.items():
        later = Holding.of(client)
        early[model].check_growth(later)
        assert later.memory_bytes - early[model].memory_bytes < GROWTH_BYTES

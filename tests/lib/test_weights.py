import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from huggingface_hub.errors import RevisionNotFoundError
from safetensors.torch import load_file

from lib import weights
from lib.diffusion.models import load
from lib.errors import UserError
from tests.lib.conftest import vae_name_of_2022


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own, empty weights folder, and no word about which weights to use."""
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    monkeypatch.delenv("WEIGHTS")
    return tmp_path


def as_downloaded(small_folder: Path, name: str, target: Path, files: Sequence[str] = ()) -> None:
    """Lay out the small model's files, all unless given, under the names that the hub has for the full one's."""
    for file in files or weights.SOURCES[name].files:
        part, filename = file.split("/")
        source = small_folder / part / filename
        if not source.exists():
            source = next((small_folder / part).glob("*.safetensors"))
        (target / part).mkdir(parents=True, exist_ok=True)
        if filename.endswith(".bin"):
            torch.save(as_in_2022(load_file(source)), target / file)
        else:
            shutil.copy(source, target / file)


def as_in_2022(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights in float32, with digits that float16 can't hold."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: value.float() * (1 + torch.rand(value.shape, generator=generator) / 1000) for name, value in state.items()
    }


def test_without_full_weights_the_small_model_is_taken_and_said(folder: Path, capsys) -> None:
    path = weights.ensure("riffusion")
    assert weights.kind(path) == "small"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "small" in said
    assert "script/weights riffusion gets the full ones" in said
    assert load(path, torch.device("cpu"), torch.float32).unet


def test_each_model_has_small_weights_of_its_own_and_nothing_is_written(folder: Path) -> None:
    small = {name: weights.ensure(name) for name in weights.SOURCES}
    assert small == {name: weights.SMALL / name for name in weights.SOURCES}
    assert not folder.exists() or list(folder.iterdir()) == []


def test_full_weights_are_taken_when_they_are_there(folder: Path, small_folder: Path, capsys) -> None:
    as_downloaded(small_folder, "deforum", folder / "deforum")
    path = weights.ensure("deforum")
    assert path == folder / "deforum"
    assert weights.kind(path) == "full"
    assert "full ones of CompVis/stable-diffusion-v1-4" in capsys.readouterr().out
    assert load(path, torch.device("cpu"), torch.float32).unet


def test_small_can_be_asked_for_though_the_full_ones_are_there(folder: Path, small_folder: Path, monkeypatch) -> None:
    as_downloaded(small_folder, "deforum", folder / "deforum")
    monkeypatch.setenv("WEIGHTS", "small")
    assert weights.kind(weights.ensure("deforum")) == "small"


def test_an_unknown_choice_is_refused(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("WEIGHTS", "big")
    with pytest.raises(UserError, match="WEIGHTS is 'big', but must be full, small or unset"):
        weights.ensure("riffusion")


def test_full_weights_without_a_network_are_one_clear_sentence(folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WEIGHTS", "full")
    with pytest.raises(UserError, match=r"riffusion weights can't be downloaded .*Check the network") as error:
        weights.ensure("riffusion")
    assert "\n" not in str(error.value)
    assert "script/weights riffusion" in str(error.value)
    assert not (folder / "riffusion").exists()


def test_incomplete_weights_are_one_clear_sentence(folder: Path, small_folder: Path) -> None:
    as_downloaded(small_folder, "riffusion", folder / "riffusion")
    (folder / "riffusion/vae/diffusion_pytorch_model.bin").unlink()
    (folder / "riffusion/tokenizer/merges.txt").unlink()
    with pytest.raises(UserError, match=r"not complete \(tokenizer/merges.txt, vae/\S+ missing\)\. Delete"):
        weights.ensure("riffusion")


@pytest.fixture
def hub(small_folder: Path, monkeypatch) -> list[dict]:
    """Stand in for the one thing that is out of reach, the hub; returns the calls that it got."""
    calls: list[dict] = []

    def snapshot_download(repository: str, *, local_dir: Path, **options) -> None:
        calls.append({"repository": repository, **options})
        name = next(name for name, source in weights.SOURCES.items() if source.repository == repository)
        as_downloaded(small_folder, name, local_dir, options["allow_patterns"])
        (local_dir / ".cache").mkdir(exist_ok=True)

    monkeypatch.setattr(weights, "snapshot_download", snapshot_download)
    return calls


@pytest.mark.parametrize("name", weights.SOURCES)
def test_a_download_takes_only_what_is_used_at_the_pinned_revision(folder: Path, hub: list[dict], name: str) -> None:
    source = weights.SOURCES[name]
    assert weights.download(name) == folder / name
    assert hub == [{"repository": source.repository, "revision": source.revision, "allow_patterns": list(source.files)}]
    found = {str(path.relative_to(folder / name)) for path in (folder / name).rglob("*") if path.is_file()}
    assert found == {weights.CONVERTED.get(file, file) for file in source.files}
    assert weights.ensure(name) == folder / name


def test_a_revision_that_the_hub_does_not_know_is_said_and_main_taken(folder: Path, hub, monkeypatch, capsys) -> None:
    known = weights.snapshot_download

    def snapshot_download(repository: str, *, revision: str, **options) -> None:
        if revision != "main":
            raise RevisionNotFoundError.__new__(RevisionNotFoundError)  # its __init__ wants a response
        known(repository, revision=revision, **options)

    monkeypatch.setattr(weights, "snapshot_download", snapshot_download)
    weights.download("riffusion")
    assert "does not know revision 8f2e752c" in capsys.readouterr().out
    assert hub[0]["revision"] == "main"


def test_an_interrupted_download_is_kept_said_and_resumed(folder: Path, hub, monkeypatch, capsys) -> None:
    complete = weights.snapshot_download

    def interrupted(repository: str, *, local_dir: Path, **options) -> None:
        (local_dir / "unet").mkdir(parents=True)
        (local_dir / "unet" / "config.json").write_text("{}")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "snapshot_download", interrupted)
    with pytest.raises(UserError, match=r"\(No space left on device\).*what has arrived is kept"):
        weights.download("riffusion")
    assert weights.kind(weights.ensure("riffusion")) == "small"
    assert "script/weights riffusion resumes the download of the full ones" in capsys.readouterr().out

    monkeypatch.setattr(weights, "snapshot_download", complete)
    assert weights.download("riffusion") == folder / "riffusion"
    assert not (folder / "riffusion.unfinished").exists()


def test_a_client_that_returns_an_unfinished_folder_is_not_believed(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(weights, "snapshot_download", lambda *_args, **_options: None)
    with pytest.raises(UserError, match=r"unet/config.json, .* did not arrive"):
        weights.download("deforum")
    assert not (folder / "deforum").exists()


CPU = torch.device("cpu")
# What rounding to float16 on the way costs: nothing, half a step of its own, or at most one of bfloat16's.
TOLERANCES = {torch.float16: 0.0, torch.float32: 2**-11, torch.bfloat16: 2**-7}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_converted_weights_are_those_of_the_old_files(
    folder: Path, hub, small_folder: Path, dtype: torch.dtype
) -> None:
    as_downloaded(small_folder, "riffusion", folder / "old")
    old, new = load(folder / "old", CPU, dtype), load(weights.download("riffusion"), CPU, dtype)
    for part, tolerance in {"text_encoder": 0.0, "vae": TOLERANCES[dtype], "unet": TOLERANCES[dtype]}.items():
        expected, state = getattr(old, part).state_dict(), getattr(new, part).state_dict()
        assert state.keys() == expected.keys()
        for name, value in state.items():
            assert value.dtype == expected[name].dtype
            smallest = 2**-24 if tolerance else 0.0
            torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=smallest)


def test_the_converted_unet_and_vae_are_half_as_big(folder: Path, hub, small_folder: Path) -> None:
    as_downloaded(small_folder, "riffusion", folder / "old")
    weights.download("riffusion")
    for old, new in weights.CONVERTED.items():
        state, expected = load_file(folder / "riffusion" / new), torch.load(folder / "old" / old)
        wanted = torch.float32 if old.startswith("text_encoder") else torch.float16
        assert {value.dtype for value in state.values()} == {wanted}
        assert state.keys() == expected.keys()


def test_a_vae_with_the_names_of_2022_is_converted_and_loads(folder: Path, hub, small_folder: Path) -> None:
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
    as_downloaded(small_folder, "riffusion", folder / "riffusion.unfinished")
    vae.save_config(folder / "riffusion.unfinished" / "vae")
    state = {vae_name_of_2022(name): value for name, value in vae.state_dict().items()}
    assert state.keys() != vae.state_dict().keys()
    torch.save(state, folder / "riffusion.unfinished" / "vae" / "diffusion_pytorch_model.bin")
    weights._convert(folder / "riffusion.unfinished")
    loaded = load(folder / "riffusion.unfinished", CPU, torch.float32).vae.state_dict()
    for name, value in vae.state_dict().items():
        assert torch.equal(loaded[name], value.half().float())


def test_an_interrupted_conversion_goes_on_where_it_was(folder: Path, hub: list[dict], monkeypatch, capsys) -> None:
    convert_file = weights._convert_file

    def killed(old: Path, new: Path) -> None:
        if new.parent.name == "unet":
            new.with_name(f"{new.name}.unfinished").write_bytes(b"half of it")
            raise KeyboardInterrupt
        convert_file(old, new)

    monkeypatch.setattr(weights, "_convert_file", killed)
    with pytest.raises(KeyboardInterrupt):
        weights.download("riffusion")
    assert not (folder / "riffusion").exists()
    assert not (folder / "riffusion.unfinished" / "vae" / "diffusion_pytorch_model.bin").exists()
    monkeypatch.setattr(weights, "_convert_file", convert_file)
    capsys.readouterr()

    assert weights.download("riffusion") == folder / "riffusion"
    said = capsys.readouterr().out
    assert "Converting unet/diffusion_pytorch_model.bin" in said
    assert "Converting vae" not in said
    assert "vae/diffusion_pytorch_model.bin" not in hub[-1]["allow_patterns"]
    found = {str(path.relative_to(folder / "riffusion")) for path in (folder / "riffusion").rglob("*.*")}
    assert found == {weights.CONVERTED.get(file, file) for file in weights.SOURCES["riffusion"].files}
    assert load(folder / "riffusion", CPU, torch.float32).unet


def test_an_old_file_that_is_broken_is_one_clear_sentence(folder: Path, hub, monkeypatch) -> None:
    complete = weights.snapshot_download

    def damaged(repository: str, *, local_dir: Path, **options) -> None:
        complete(repository, local_dir=local_dir, **options)
        path = local_dir / "unet" / "diffusion_pytorch_model.bin"
        path.write_bytes(path.read_bytes()[:1000])

    monkeypatch.setattr(weights, "snapshot_download", damaged)
    with pytest.raises(
        UserError, match=r"unet/diffusion_pytorch_model.bin can't be converted \(.*delete that file"
    ) as error:
        weights.download("riffusion")
    assert "\n" not in str(error.value)
    assert not (folder / "riffusion").exists()

    monkeypatch.setattr(weights, "snapshot_download", complete)
    (folder / "riffusion.unfinished" / "unet" / "diffusion_pytorch_model.bin").unlink()
    assert weights.download("riffusion") == folder / "riffusion"

"""A CLIP tokenizer for a few hundred words. It spells any other word letter by letter, so no word is unknown."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor
from transformers import CLIPTokenizer

MAX_TOKENS = 77
VOCABULARY = 1024  # at most: the captions' words, and the pieces they were merged from
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Learn the words of the captions by byte-pair encoding and write vocab.json and merges.txt, as CLIP has them."""
    with tempfile.TemporaryDirectory() as name:
        _write(Path(name), _letters(), [])
        letters = CLIPTokenizer.from_pretrained(name, local_files_only=True)
    learned = json.loads(letters.train_new_from_iterator(captions, VOCABULARY).backend_tokenizer.to_str())["model"]
    # The learned vocabulary has only the letters in the captions, in its own order.
    merges = [(first, second) for first, second in learned["merges"]]
    _write(folder, [*_letters(), *(first + second for first, second in merges)], merges)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def tokens_of(captions: list[str], tokenizer: CLIPTokenizer) -> Tensor:
    """Return the captions' tokens (captions, MAX_TOKENS), padded and truncated as prompts are."""
    tokens: Tensor = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return tokens


def _letters() -> list[str]:
    """Return CLIP's byte-level alphabet, each letter also with the end-of-word mark.

    Printable Latin-1 stands for itself, the other bytes for characters from U+0100.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    alphabet = [chr(byte) for byte in printable] + [chr(0x100 + n) for n in range(256 - len(printable))]
    return [*alphabet, *(f"{letter}</w>" for letter in alphabet)]


def _write(folder: Path, symbols: list[str], merges: list[tuple[str, str]]) -> None:
    vocabulary = {symbol: index for index, symbol in enumerate([*dict.fromkeys(symbols), BEGIN, END])}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")

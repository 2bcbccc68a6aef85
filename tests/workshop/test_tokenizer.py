import pytest
from transformers import CLIPTokenizer

from workshop.training.tokenizer import MAX_TOKENS, VOCABULARY, write_tokenizer

CAPTIONS = ["a red circle on blue", "a blue star", "church bells, slow", "slow church bells"] * 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(CAPTIONS, tmp_path_factory.mktemp("tokenizer"))


def pieces(tokenizer: CLIPTokenizer, text: str) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids))


def test_a_word_of_the_captions_is_one_token(tokenizer: CLIPTokenizer) -> None:
    assert pieces(tokenizer, "Church bells, blue") == ["church</w>", "bells</w>", ",</w>", "blue</w>"]


@pytest.mark.parametrize("word", ["zzyzx", "église", "音楽", "✨"])
def test_a_word_it_has_not_met_is_spelled_and_none_is_unknown(tokenizer: CLIPTokenizer, word: str) -> None:
    ids = tokenizer(word, add_special_tokens=False).input_ids
    assert len(ids) > 1
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids).strip() == word


def test_it_begins_ends_and_pads_as_clip_does(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer("a star", padding="max_length").input_ids
    assert len(ids) == MAX_TOKENS
    assert ids[0] == tokenizer.bos_token_id
    assert set(ids[3:]) == {tokenizer.eos_token_id}
    assert len(tokenizer) <= VOCABULARY

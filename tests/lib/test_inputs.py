import pytest

from lib.errors import Problems, UserError, invalid, logged
from lib.inputs import check_choice, check_integer, check_number, check_text


def test_numbers_are_accepted_as_int_or_float() -> None:
    for value in (3, 3.0):
        assert repr(check_integer("steps", value, 1, 1000)) == "3"
    for value in (0, 1, 0.5, 1.0):
        assert repr(check_number("alpha", value, 0, 1)) == repr(float(value))


@pytest.mark.parametrize("value", [0, 1001, 2.5, 2**70, float("nan"), float("inf"), True, "3", None, [3]])
def test_anything_but_a_number_in_range_is_a_user_error(value: object) -> None:
    with pytest.raises(UserError, match=r"^steps is .*, but must be a whole number from 1 to 1000$") as error:
        check_integer("steps", value, 1, 1000)
    assert repr(value) in str(error.value)
    with pytest.raises(UserError, match=r"^alpha is .*, but must be a number from 0\.1 to 0\.9$"):
        check_number("alpha", value, 0.1, 0.9)


def test_a_choice_is_one_of_the_names() -> None:
    assert check_choice("seed_image_id", "vibes", ("agile", "vibes")) == "vibes"
    for value in ("Vibes", "", None, 1, ["vibes"]):
        with pytest.raises(UserError, match=r"^seed_image_id is .*, but must be one of agile, vibes$"):
            check_choice("seed_image_id", value, ("agile", "vibes"))


def test_text_has_a_maximum_length_and_can_be_encoded() -> None:
    assert check_text("prompt", "日本 🎹\n", 10) == "日本 🎹\n"
    for value in ("x" * 11, None, 5, b"bytes"):
        with pytest.raises(UserError, match=r"^prompt is .*, but must be text of at most 10 characters$"):
            check_text("prompt", value, 10)
    with pytest.raises(UserError, match="without the lone surrogate at 1"):
        check_text("prompt", "a\ud800", 10)


def test_a_long_value_is_shortened_in_the_message() -> None:
    message = str(invalid("prompt", "x" * 100_000, "text"))
    assert "(100000 characters)" in message
    assert len(message) < 150


def test_problems_are_reported_together() -> None:
    problems = Problems()
    assert problems.check(check_number, "alpha", 0.5, 0, 1) == 0.5
    problems.raise_any()
    assert problems.check(check_number, "alpha", 2, 0, 1) is None
    problems.check(check_integer, "steps", 0, 1, 5)
    with pytest.raises(UserError) as error:
        problems.raise_any()
    assert error.value.problems == (
        "alpha is 2, but must be a number from 0 to 1",
        "steps is 0, but must be a whole number from 1 to 5",
    )
    assert str(error.value) == "\n".join(error.value.problems)


def test_only_the_first_50_of_many_problems_are_reported() -> None:
    problems = Problems()
    for n in range(1000):
        problems.check(check_number, f"x{n}", 2, 0, 1)
    with pytest.raises(UserError) as error:
        problems.raise_any()
    assert len(error.value.problems) == 51
    assert error.value.problems[0].startswith("x0 is 2")
    assert error.value.problems[-1] == "... and 950 more problems"


def test_only_unexpected_errors_print_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError), logged():
        raise UserError("fix it")
    assert capsys.readouterr().err == ""
    with pytest.raises(ZeroDivisionError), logged():
        raise ZeroDivisionError
    assert "Traceback" in capsys.readouterr().err

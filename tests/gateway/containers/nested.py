"""Nested outputs, and a secret input."""

from cog import BaseModel, BaseRunner, Input, Path, Secret


class Output(BaseModel):
    length: int
    words: list[str]
    file: Path
    note: str | None


class Predictor(BaseRunner):
    def run(
        self,
        key: Secret = Input(description="An API key."),
        mode: str = Input(description="The case of the words.", default="lower", choices=["lower", "upper"]),
        words: list[str] = Input(description="The words.", default=["a", "b"]),
        fail: bool = Input(description="Fail.", default=False),
    ) -> Output:
        if fail:
            raise ValueError("no")
        path = Path("words.txt")
        path.write_text(" ".join(words))
        changed = [getattr(word, mode)() for word in words]
        return Output(length=len(key.get_secret_value()), words=changed, file=path, note=None)

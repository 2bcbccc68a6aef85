"""Read .dockerignore as Docker does, which is not as git does.

A pattern is rooted; `*` and `?` stop at a slash, `**` does not; a pattern that matches a folder matches all below it; a
`!` takes back what matched before, below an excluded folder too; the last line that matches decides.
Source: Docker's build context documentation, checked against what its builders send.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Rule:
    """One line: what it matches, and whether it keeps out or lets in."""

    expression: re.Pattern[str]
    keeps_out: bool


def parse(text: str) -> list[Rule]:
    """Return the rules of a .dockerignore; brackets and backslashes are refused, for they would need more than this."""
    rules = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        keeps_out = not pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip().strip("/")
        assert not set(pattern) & set("![]\\"), f"this reader does not know {pattern}"
        tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
        expression = "".join(WILDCARDS.get(token, re.escape(token)) for token in tokens)
        rules.append(Rule(re.compile(expression), keeps_out))
    return rules


def ignored(rules: list[Rule], path: str) -> bool:
    """Say whether the rules keep `path`, relative and with slashes, out of a build."""
    places = [path, *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
    verdicts = [rule.keeps_out for rule in rules if any(rule.expression.fullmatch(place) for place in places)]
    return bool(verdicts) and verdicts[-1]

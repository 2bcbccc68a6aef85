"""Read .dockerignore as Docker does, which differs from git.

Patterns are relative to the root. `*` and `?` stop at a slash, `**` doesn't. A pattern that matches a folder matches
everything below it. A `!` includes what was excluded, even below an excluded folder. The last matching line wins.
Source: Docker's build context documentation, checked against what its builders send.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Rule:
    """One line: what it matches, and whether it excludes or includes that."""

    expression: re.Pattern[str]
    excludes: bool


def parse(text: str) -> list[Rule]:
    """Return the rules of a .dockerignore; brackets and backslashes are not supported."""
    rules = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        excludes = not pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip().strip("/")
        assert not set(pattern) & set("![]\\"), f"unsupported pattern {pattern}"
        tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
        expression = "".join(WILDCARDS.get(token, re.escape(token)) for token in tokens)
        rules.append(Rule(re.compile(expression), excludes))
    return rules


def ignored(rules: list[Rule], path: str) -> bool:
    places = [path, *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
    verdicts = [rule.excludes for rule in rules if any(rule.expression.fullmatch(place) for place in places)]
    return bool(verdicts) and verdicts[-1]

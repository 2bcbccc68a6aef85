"""Download the full weights of the models that the command line names."""

import sys

from lib.errors import UserError
from lib.weights import SOURCES, check_readable, download, full_folder


def main() -> None:
    """Download the weights that are missing."""
    names = sys.argv[1:]
    if not names or any(name not in SOURCES for name in names):
        sys.exit(f"usage: script/weights {'|'.join(SOURCES)}")
    for name in names:
        folder = full_folder(name)
        try:
            check_readable(folder)
            print(f"{folder} already exists" if folder.exists() else f"Wrote {download(name)}")
        except UserError as error:
            sys.exit(f"script/weights: {error}")


if __name__ == "__main__":
    main()

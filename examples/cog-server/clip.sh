#!/usr/bin/env bash
# Request a clip, wait for it, write audio.wav and spectrogram.png: ./clip.sh URL PROMPT
set -euo pipefail
url=$1 prompt=$2
here=$(dirname "$(realpath "$0")")
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# Python escapes the prompt, which may contain quotes.
python3 -c 'import json, sys; print(json.dumps({"input": {"prompt_a": sys.argv[1]}}))' "$prompt" |
  curl --silent --show-error --fail-with-body --retry 20 --retry-all-errors \
    "$url/predictions" --header 'content-type: application/json' --data @- --output "$answer" ||
  { cat "$answer" >&2; exit 1; }
python3 "$here/unpack.py" "$answer"

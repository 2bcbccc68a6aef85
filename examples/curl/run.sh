#!/usr/bin/env bash
# Run a model with curl and save its files: run.sh [MODEL] [INPUT]
set -euo pipefail
url=${REPLICATE_BASE_URL:-http://127.0.0.1:5000}
model=${1:-riffusion/riffusion}
input=${2:-'{"prompt_a": "church bells"}'}

ask() { curl --silent --show-error --header "Authorization: Bearer $REPLICATE_API_TOKEN" "$@"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$1"; }

prediction=$(ask "$url/predictions" --header 'Content-Type: application/json' --header 'Prefer: wait=10' \
  --data "{\"version\": \"$model\", \"input\": $input}")
id=$(field id <<<"$prediction")
if [ -z "$id" ]; then field detail <<<"$prediction" >&2; exit 1; fi
echo "Prediction $id"

while status=$(field status <<<"$prediction"); [ "$status" = starting ] || [ "$status" = processing ]; do
  sleep 0.5
  prediction=$(ask "$url/predictions/$id")
done
if [ "$status" != succeeded ]; then echo "$status: $(field error <<<"$prediction")" >&2; exit 1; fi

# An output is a URL, or a list or object of URLs. They need no token.
python3 -c '
import json, sys
def urls(output):
    if isinstance(output, str):
        yield output
    for part in output.values() if isinstance(output, dict) else output if isinstance(output, list) else []:
        yield from urls(part)
print(*urls(json.load(sys.stdin)["output"]), sep="\n")' <<<"$prediction" | while read -r file; do
  curl --silent --show-error --fail --remote-name "$file"
  echo "Wrote $(basename "$file")"
done

#!/usr/bin/env bash
# The whole chain on a synthetic world whose spurious features are known, and a comparison with that truth.
#
#   examples/planted_world.sh [OUT]
#
# Steps whose output is there already are skipped or resumed, so a stopped run goes on where it was.
set -euo pipefail

out=${1:-out/demo}
world=$out/world models=$out/models shards=$out/shards
scorer=file:$models/robust.safetensors
voters=("file:$models/resnet.safetensors" "file:$models/efficientnet.safetensors" "file:$models/efficientnet_gn.safetensors")

say() { printf '\n== %s\n' "$*"; }
begin=$SECONDS

say "1. A world of 12 kinds of objects; beside ten of them stands a cue in a set share of the training images"
[ -e "$world" ] || spurious planted world "$world"

say "2. A robust scoring model and three others"
[ -e "$models" ] || spurious planted train "$world" "$models"

say "3. Images into shards"
for split in train val pool; do
  [ -e "$shards/$split/shards.json" ] || spurious shards "$world/$split" "$shards/$split"
done

say "4. One pass of the scoring model over every image"
for split in train pool; do
  spurious features --model "$scorer" --shards "$shards/$split" --out "$out/features/$split"
done

say "5. Class-wise neural PCA components"
[ -e "$out/bank" ] || spurious components --model "$scorer" --features "$out/features/train" --out "$out/bank"

say "6. Pool images of highest α on which at least 2 of the 4 models agree"
spurious mine --bank "$out/bank" --features "$out/features/pool" --agree "${voters[0]}" --agree "${voters[1]}" \
  --agree "${voters[2]}" --min-agree 2 --top 120 --keep 40 --out "$out/candidates"

say "7. What was found, against the truth"
rm -rf "$out/check"
verdict=0
spurious planted check --world "$world" --bank "$out/bank" --features "$out/features/pool" \
  --candidates "$out/candidates" --out "$out/check" || verdict=$?

# A person would pick the spurious components on a board; here the truth says which component found each cue.
mapfile -t concepts < <(python -c '
import json, sys
for pair in json.load(open(sys.argv[1]))["pairs"]:
    print("--concept"); print(pair["concept_id"])' "$out/check/check.json")

say "8. The images of those components as a Hugging Face dataset"
rm -rf "$out/dataset"
spurious publish --candidates "$out/candidates" "${concepts[@]}" --min-images 5 --name "Planted world" --out "$out/dataset"

say "9. How much each model relies on the planted cues"
for model in "$scorer" "${voters[@]}"; do
  name=${model##*/}
  spurious evaluate --model "$model" --dataset "$out/dataset" --val "$shards/val" --protocol standard \
    --out "$out/records/${name%.safetensors}-standard.json"
done
spurious evaluate --model "$scorer" --dataset "$out/dataset" --val "$shards/val" --protocol paper \
  --out "$out/records/robust-paper.json"

say "Done in $((SECONDS - begin)) s. Look at $world/contact.png, $out/check/check.md and $out/dataset/README.md"
exit $verdict

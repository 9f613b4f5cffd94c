#!/usr/bin/env bash
# Measure and mend the networks of the planted world, and compare what comes out with the truth.
#
#   [SEED=0] examples/planted_mend.sh [DEMO [OUT]]      DEMO: what examples/planted_world.sh wrote
#
# Steps whose output is there already are skipped or resumed.
set -euo pipefail

demo=${1:-out/demo}
out=${2:-$demo/mend}
models=$demo/models seed=${SEED:-0}
scorer=robust
names=("$scorer" resnet efficientnet efficientnet_gn)

say() { printf '\n== %s\n' "$*"; }
begin=$SECONDS
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT  # what runs beside the steps ends with them

say "1. Two more worlds: one to measure with, 200 images a class; one in which 30 % of four classes' labels are wrong"
[ -e "$out/world" ] || spurious planted world "$out/world" --measure --seed $((seed + 1))
[ -e "$out/wrong" ] || spurious planted world "$out/wrong" --measure --val-per-class 100 --wrong-labels --seed $((seed + 2))
for world in world wrong; do
  [ -e "$out/shards/$world/shards.json" ] || spurious shards "$out/$world/val" "$out/shards/$world"
done

say "2. One pass of each network over training, measuring and wrongly labelled images"
pass() {  # MODEL
  [ "$1" = $scorer ] || spurious features --model "file:$models/$1.safetensors" --shards "$demo/shards/train" \
    --out "$out/features/$1/train"
  for world in world wrong; do
    spurious features --model "file:$models/$1.safetensors" --shards "$out/shards/$world" --out "$out/features/$1/$world"
  done
}
for pair in "0 1" "2 3"; do  # two side by side: most of a pass over so few images is starting up
  read -r one other <<< "$pair"
  pass "${names[one]}" &
  beside=$!
  pass "${names[other]}"
  wait $beside
done
train() { [ "$1" = $scorer ] && echo "$demo/features/train" || echo "$out/features/$1/train"; }

say "3. Images of each class in the order of spuriosity; crescent and hourglass, which have no cue, are controls"
[ -e "$out/rankings" ] || spurious rank --bank "$demo/judged-bank" --controls \
  --features "train=$demo/features/train" --features "val=$out/features/$scorer/world" --out "$out/rankings"
[ -e "$out/wrong-rankings" ] || spurious rank --bank "$demo/judged-bank" --features "val=$out/features/$scorer/wrong" \
  --out "$out/wrong-rankings"

say "4. Spurious gaps: how much worse are the networks where the cues are absent?"
stores=()
for name in "${names[@]}"; do stores+=(--features "$out/features/$name/world"); done
spurious gaps --rankings "$out/rankings" "${stores[@]}" --out "$out/gaps.json"

say "5. SpuFix: of the scoring network from its components, of the others by transfer"
for name in "${names[@]}"; do
  [ -e "$out/spufix/$name.safetensors" ] && continue
  if [ "$name" = $scorer ]; then from=(); else
    from=(--features "$demo/features/train" --target-features "$(train "$name")"); fi
  spurious spufix --bank "$demo/judged-bank" "${from[@]}" --model "file:$models/$name.safetensors" \
    --out "$out/spufix/$name.safetensors"
done

say "6. Tuning the head of the scoring network on its images of lowest spuriosity, beside two baselines"
[ -e "$out/tuned" ] || spurious tune --model "file:$models/$scorer.safetensors" --features "$(train $scorer)" \
  --val-features "$out/features/$scorer/world" --rankings "$out/rankings" --k 40 --baselines --out "$out/tuned"

say "7. Every network as it is and mended: one pass over the images, all measures from it"
{
  for name in "${names[@]}"; do
    echo "- model: file:$models/$name.safetensors"
    echo "  name: $name"
    echo "  mitigations:"
    echo "    - $out/spufix/$name.safetensors"
    [ "$name" != $scorer ] || echo "    - $out/tuned/head.safetensors"
  done
} > "$out/models.yaml"
spurious evaluate --models "$out/models.yaml" --dataset "$demo/dataset" --val "$out/shards/world" --protocol standard \
  --rankings "$out/rankings" --out "$out/records"

say "8. Which labels may be wrong?"
rm -rf "$out/label-noise"
stores=()
for name in "${names[@]}"; do stores+=(--features "$out/features/$name/wrong"); done
spurious label-noise --rankings "$out/wrong-rankings" "${stores[@]}" --bank "$demo/judged-bank" --k 20 --out "$out/label-noise"

say "9. A report"
rm -rf "$out/figures" "$out/tables"
spurious report "$out"/records/*.json --images "$demo/dataset" --val "$out/shards/world" --title "Planted world" \
  --figures "$out/figures" --tables "$out/tables" --out "$out/report.html"

say "10. Against the truth"
verdict=0
spurious planted mended --world "$demo/world" --records "$out/records" --gaps "$out/gaps.json" \
  --tuning "$out/tuned/tuning.json" --noise-world "$out/wrong" --label-noise "$out/label-noise" --out "$out/mended.md" ||
  verdict=$?

say "Done in $((SECONDS - begin)) s. Look at $out/report.html, $out/mended.md and $out/label-noise"
[ $verdict = 0 ] || echo "What is required does not all hold: see step 10." >&2
exit $verdict

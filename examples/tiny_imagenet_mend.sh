#!/usr/bin/env bash
# Measure and mend three real ImageNet networks on 40 classes of Tiny-ImageNet, offline: gaps, SpuFix and its transfer,
# tuning, label noise, and one page that says what came out and what did not.
#
#   SPURIOUS_DATA=/path/to/data examples/tiny_imagenet_mend.sh [TINY [OUT]]    TINY: what examples/tiny_imagenet.sh wrote
#
# Steps whose output is there already are skipped or resumed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
data=${SPURIOUS_DATA:?set SPURIOUS_DATA to the directory that holds tiny-imagenet/}/tiny-imagenet
tiny=${1:-out/tiny-imagenet}
out=${2:-$tiny/mend}
size=128
scorer=lite0
names=("$scorer" lite1 lite2)
spec() { echo "wheel:efficientnet_$1?image_size=$size"; }
features() { [ "$1" = $scorer ] && echo "$tiny/features/$2" || echo "$out/features/$1/$2"; }

say() { printf '\n== %s\n' "$*"; }
begin=$SECONDS

say "1. One pass of the two other networks"
for name in lite1 lite2; do
  for split in val train; do
    spurious features --model "$(spec $name)" --shards "$data/$split-*.tar" --out "$out/features/$name/$split"
  done
done

say "2. Images in the order of spuriosity, by lite0's neural features that two judges called spurious"
[ -e "$out/neurons" ] || spurious neurons --model "wheel:efficientnet_$scorer" --image-size $size \
  --features "$tiny/features/train" --top 5 --out "$out/neurons"
rm -rf "$out/judged-neurons"
spurious annotate --bank "$out/neurons" --verdicts "$here/tiny_imagenet_neurons.csv" --out "$out/judged-neurons"
[ -e "$out/rankings" ] || spurious rank --bank "$out/judged-neurons" --controls --features "val=$tiny/features/val" \
  --features "train=$tiny/features/train" --out "$out/rankings"

say "3. Spurious gaps"
stores=()
for name in "${names[@]}"; do stores+=(--features "$name=$(features "$name" val)"); done
spurious gaps --rankings "$out/rankings" "${stores[@]}" --out "$out/gaps.json"

say "4. SpuFix of lite0 from its judged components, and its transfer"
for name in "${names[@]}"; do
  [ -e "$out/spufix/$name.safetensors" ] && continue
  if [ "$name" = $scorer ]; then from=(); else
    from=(--features "$tiny/features/train" --target-features "$(features "$name" train)"); fi
  spurious spufix --bank "$tiny/judged-bank" "${from[@]}" --model "$(spec "$name")" --out "$out/spufix/$name.safetensors"
done

say "5. The networks as they are and mended"
for name in "${names[@]}"; do
  printf -- '- model: %s\n  name: %s\n  mitigations: [%s]\n' "$(spec "$name")" "$name" "$out/spufix/$name.safetensors"
done > "$out/models.yaml"
spurious evaluate --models "$out/models.yaml" --dataset "$tiny/dataset" --val "$data/val-*.tar" \
  --rankings "$out/rankings" --out "$out/records"

say "6. Which labels may be wrong, and which classes collide?"
rm -rf "$out/label-noise"
stores=()
for name in "${names[@]}"; do stores+=(--features "$(features "$name" val)"); done
spurious label-noise --rankings "$out/rankings" "${stores[@]}" --bank "$out/judged-neurons" --out "$out/label-noise"

say "7. A report"
rm -rf "$out/figures" "$out/tables"
spurious report "$out"/records/*.json --images "$tiny/dataset" --val "$data/val-*.tar" --rankings "$out/rankings" \
  --title "Three EfficientNets on Tiny-ImageNet" --figures "$out/figures" --tables "$out/tables" --out "$out/report.html"

say "Done in $((SECONDS - begin)) s. Look at $out/report.html"

#!/usr/bin/env bash
# The whole chain on real images with real ImageNet weights, offline: 40 classes of Tiny-ImageNet.
#
#   SPURIOUS_DATA=/path/to/data examples/tiny_imagenet.sh [OUT]
#
# $SPURIOUS_DATA/tiny-imagenet holds WebDataset tars: train-* (labelled), val-* (labelled), pool-* (unlabelled).
# lite0 finds the components and mines; lite1 and lite2 vote; all three are evaluated under both protocols.
# BOARDS=1 also draws the boards from which the components were judged; their NPFVs take a quarter of an hour on 2 cores.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
data=${SPURIOUS_DATA:?set SPURIOUS_DATA to the directory that holds tiny-imagenet/}/tiny-imagenet
out=${1:-out/tiny-imagenet}
size=128
scorer=wheel:efficientnet_lite0
voters=("wheel:efficientnet_lite1?image_size=$size" "wheel:efficientnet_lite2?image_size=$size")

for split in train val pool; do
  spurious features --model "$scorer" --image-size $size --shards "$data/$split-*.tar" --out "$out/features/$split"
done

[ -e "$out/bank" ] ||
  spurious components --model "$scorer" --image-size $size --features "$out/features/train" --out "$out/bank"

if [ -n "${BOARDS:-}" ]; then
  spurious npfv --bank "$out/bank" --image-size $size --top 10 --choose 10 --steps 60 --out "$out/npfv"
  spurious boards --bank "$out/bank" --features "$out/features/train" --npfv "$out/npfv" --out "$out/boards"
fi

# Two judges looked at the first ten components of every class; the file's header says who they were and how they judged.
rm -rf "$out/judged-bank"
spurious annotate --bank "$out/bank" --verdicts "$here/tiny_imagenet_verdicts.csv" --out "$out/judged-bank"

spurious mine --bank "$out/judged-bank" --verdict spurious --features "$out/features/pool" \
  --agree "${voters[0]}" --agree "${voters[1]}" --min-agree 2 --top 200 --keep 30 --out "$out/candidates"

# Two judges also looked at what is mined. Scripted labelers answer as both judges did, each answer wrong in 2 % of cases.
[ -e "$out/review" ] || spurious review create --candidates "$out/candidates" --labelers ann,ben --out "$out/review"
for labeler in ann ben; do
  spurious review script "$out/review" --labeler $labeler --truth "$here/tiny_imagenet_images.csv" --error-rate 0.02
done
spurious review kappa "$out/review" | head -5
spurious review collect "$out/review" --out "$out/reviewed.parquet"

rm -rf "$out/dataset"
spurious publish --candidates "$out/candidates" --reviewed "$out/reviewed.parquet" \
  --name "Tiny Spurious ImageNet" --out "$out/dataset"

python - "$out/dataset" <<'PY'
import sys

from datasets import load_dataset

dataset = load_dataset(sys.argv[1], split="test")
print(dataset)
shown = ("class_name", "concept_id", "alpha", "votes", "verdicts", "image")
print({k: v for k, v in dataset[0].items() if k in shown})
PY

for protocol in paper standard; do
  for model in "$scorer?image_size=$size" "${voters[@]}"; do
    name=${model#wheel:efficientnet_}
    spurious evaluate --model "$model" --dataset "$out/dataset" --val "$data/val-*.tar" --protocol $protocol \
      --out "$out/records/${name%%\?*}-$protocol.json"
  done
done

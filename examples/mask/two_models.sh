#!/usr/bin/env bash
# The second system's final recipe at a small size: mask and gender by one EfficientNet-B3, age by another, joined to the
# 18 classes. Small is what two cores can do: 80 drawn people, 64 × 64 pixels, and as no weights can be fetched here, random
# ones with a learning rate to match. With a network and a GPU leave SMALL out and give your photographs.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup.sh ""

HERE=examples/mask
DATA="$(python scripts/make_faces.py --location data/faces-small --train-people 80 --test-people 80)"
SMALL=(--pretrained none --image-size 64 --lr 1e-3 --batch-size 32 --precision fp32 --threads 1)

# One after the other would do as well; both have the same split.
python finetune.py --name mask-gender --i 0 --config $HERE/two_models.yaml#mask_gender --data-location "$DATA" "${SMALL[@]}" &
python finetune.py --name age-alone --i 0 --config $HERE/two_models.yaml#age --data-location "$DATA" "${SMALL[@]}"
wait $!

OUT=runs/mask-gender/output
python inference.py --name mask-gender --model-name mask-gender0_epochs30 --weighted-ensemble age-alone0_epochs20
python validation.py --name mask-gender --predictions $OUT/weighted_ensemble.csv --ground-truth "$DATA/ground_truth"

#!/usr/bin/env bash
# Real or generated, from nothing to explanations, on handwritten digits and digits sampled from a model of their writers:
# data → one fine-tune by YAML → three kinds of network compared → their vote → predictions → what the model looks at.
# For images of your own, set DATA to a folder with train/REAL, train/FAKE, … and see the comments in *.yaml.
# What is finished is not done again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup.sh ""

HERE=examples/fake_or_real
NAME=fake_or_real
MACHINE=(--precision fp32 --threads 1)

# 1. Data: digits of thirteen people, as many sampled from a kernel density of them; made once. Six people train, three
#    validate, four test, and each of these sets has a generator that saw its own people alone.
DATA="$(python scripts/make_generated_digits.py)"

# 2. One fine-tune; all that it is told is in the file.
python finetune.py --name $NAME --i 0 --config $HERE/train.yaml#digits --data-location "$DATA" "${MACHINE[@]}"

# 3. Three kinds of network under one budget, on at most 1,000 images of each set: a table and a figure.
python scripts/compare.py --name $NAME --config $HERE/compare.yaml --data-location "$DATA" "${MACHINE[@]}" \
    --limit 1000 --seeds 2 --jobs 2

# 4. Predictions of each model for all test images, and the vote of one of each kind of network.
for run in $NAME $NAME-vgg $NAME-efficientnet $NAME-vit; do
    python inference.py --name $run --each --test-location "$DATA/test"
done
python inference.py --name $NAME --config $HERE/vote.yaml

# 5. What the vote gained. Networks are means over their two seeds.
mean_of() { ls "runs/$NAME-$1/output/$NAME-$1"?_epochs*.csv | paste -sd, -; }
python validation.py --name $NAME --ground-truth "$DATA/truth.csv" --predictions \
    "by YAML=runs/$NAME/output/${NAME}0_epochs20.csv" "vgg=$(mean_of vgg)" \
    "efficientnet=$(mean_of efficientnet)" "vit=$(mean_of vit)" "vote=runs/$NAME/output/vote.csv"

# 6. What the first model looks at: the surest right, the surest wrong and the most uncertain validation images.
python scripts/explain.py --name $NAME --model-name ${NAME}0_epochs20 --method gradcam

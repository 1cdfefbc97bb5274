#!/usr/bin/env bash
# The mask competition from nothing to predictions, on drawn faces in its layout (the photographs can't be shipped):
# data → label errors → joint pool and age pool → soups → joined and voted → predictions → what each step gained.
# About seven minutes on two cores. For photographs of your own, set DATA to their folder, drop --model (OpenAI's
# ViT-B/32 is the default) and see the comments in *.yaml. What is finished is not done again.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/setup.sh ""

SEEDS=0-3 # four models in each pool, which differ in their seed alone
HERE=examples/mask

# 1. Data: 240 people photographed seven times each, 320 others for the test; some labels are wrong on purpose.
#    Their seed is one that nothing was tuned on. Base: a tiny CLIP, pre-trained on captioned icons. Both are made once.
DATA="$(python scripts/make_faces.py --seed 7 --test-people 320)"
MODEL="local-dir:$(python scripts/make_base.py --subject faces)"
COMMON=(--data-location "$DATA" --model "$MODEL" --precision fp32 --threads 1)
mkdir -p runs

# 2. Look before training: what the model will see, and which labels are probably wrong.
python scripts/show_batch.py --name mask-as-given --config $HERE/mask.yaml "${COMMON[@]}" --output runs/mask_batch.png
python scripts/find_label_errors.py --name mask-as-given "${COMMON[@]}" \
    --planted "$DATA/planted.csv" --output runs/mask_corrections.csv

# 3. Pools: the joint one with corrected labels, the same without corrections, the same with old people repeated
#    (mirrored, as the original did), and one for age alone. All are split alike: nobody is on both sides anywhere.
train() { python finetune.py --i $SEEDS --jobs 2 "${COMMON[@]}" "$@"; }
train --name mask-as-given --config $HERE/mask.yaml
train --name mask-old --config $HERE/mask.yaml --relabel "$DATA/relabel.csv" --old-aug True
train --name age --config $HERE/age.yaml --relabel "$DATA/relabel.csv"
train --name mask --config $HERE/mask.yaml --relabel "$DATA/relabel.csv"

# 4. Soups of the joint pool and of the age pool, chosen by macro-F1 on validation.
python main.py --name age --eval-individual-models --uniform-soup --greedy-soup --jobs 2
python main.py --name mask --eval-individual-models --uniform-soup --greedy-soup --soup learned --report --jobs 2
python main.py --name mask --soup top_k --soup-options k=1 --soup-name mask_best_single

# 5. Predictions for the test people, in the template's columns.
for run in mask-as-given mask-old mask; do python inference.py --name $run --each; done
OUT=runs/mask/output
for model in mask_best_single mask_uniform_soup mask_greedy_soup mask_learned_soup; do python inference.py --name mask --model-name $model; done
python inference.py --name mask --soft-voting
python inference.py --name mask --hard-voting $OUT/mask?_epochs*.csv --output $OUT/hard_vote.csv
python inference.py --name mask --hard-voting $OUT/mask?_epochs*.csv --split --output $OUT/split_vote.csv
JOINED=(--name mask --model-name mask_greedy_soup --weighted-ensemble age_greedy_soup)
python inference.py "${JOINED[@]}" --output $OUT/with_age.csv
python inference.py "${JOINED[@]}" --formula original --output $OUT/with_age_originally.csv

# 6. What goes wrong: jointly and by factor, as tables and pictures; and where the models disagree.
python validation.py --name mask --model-name mask_greedy_soup >$OUT/validation.txt
python scripts/disagreement.py --name mask --on test

# 7. What each step gained, on the test people, whose labels chose nothing.
compare() { python validation.py --name mask --ground-truth "$DATA/ground_truth" --predictions "$@"; }
all_of() { ls "runs/$1/output/$1"?_epochs*.csv | paste -sd, -; }
one_model="one model=$(all_of mask)"
echo "Soups and votes:"
compare "$one_model" "best single=$OUT/mask_best_single.csv" "uniform soup=$OUT/mask_uniform_soup.csv" \
    "greedy soup=$OUT/mask_greedy_soup.csv" "learned soup=$OUT/mask_learned_soup.csv" \
    "soft vote=$OUT/soft_voting.csv" "hard vote=$OUT/hard_vote.csv" "split vote=$OUT/split_vote.csv"
echo "Corrected labels, and old people repeated:"
compare "labels as given=$(all_of mask-as-given)" "corrected=$(all_of mask)"
compare "$one_model" "old repeated=$(all_of mask-old)"
echo "The age model beside the greedy soup:"
compare "greedy soup=$OUT/mask_greedy_soup.csv" "with age=$OUT/with_age.csv" \
    "with age, original formula=$OUT/with_age_originally.csv"

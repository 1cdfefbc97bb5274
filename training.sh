#!/usr/bin/env bash
# The whole experiment, top to bottom: data → base → twelve fine-tunes → soups → votes → predictions → one table.
# Sets itself up where nothing is installed. What is finished is not done again, so run it as often as you like.
# For data of your own, copy it and change DATA, MODEL and the flags below (the README's second section).
set -euo pipefail
cd "$(dirname "$0")"
source scripts/setup.sh ""

NAME=digits

# 1. Data: 1,797 handwritten digits of thirteen writers as PNG files, some writers for training, others for the test,
#    and the test images shifted: turned both ways, noisy, blurred, moved.
DATA="$(python scripts/make_digits.py)"

# 2. Base: a tiny CLIP, pre-trained on captioned glyphs of printed fonts. Made once, kept in the cache.
MODEL="local-dir:$(python scripts/make_base.py)"

# 3. Pool: twelve fine-tunes of that one start, their seeds and hyperparameters drawn at random. Half of the training
#    writers train, half validate: nobody's hand is on both sides. Two processes of one thread each.
python finetune.py --name "$NAME" --i 0-11 --jobs 2 --threads 1 --precision fp32 \
    --data-location "$DATA" --group-pattern '(w\d+)_' --val-ratio 0.5 --split-seed 0 \
    --class-order zero one two three four five six seven eight nine \
    --model "$MODEL" --templates 'a photo of the digit {}' \
    --hparams random --random-seed 0 --batch-size 64 --validate-every 4 \
    --lr-range 3e-4 1e-3 --wd-range 1e-3 0.3 --epochs-range 16 24 --magnitude-range 3 10 --operations-range 0 2 \
    --mix-range 0 0.5 --smoothing-range 0 0.2

# 4. Every model is scored on validation, test and shift sets; soups are made of their weights; and the model that
#    predicts is chosen by cross-fitted log-loss.
python main.py --name "$NAME" --eval-individual-models --uniform-soup --greedy-soup --soup learned --choose --plot --jobs 2

# 5. Predictions for the test images: of the chosen model, and of two kinds of vote; and what still goes wrong.
python inference.py --name "$NAME"
python inference.py --name "$NAME" --soft-voting
python inference.py --name "$NAME" --hard-voting
python validation.py --name "$NAME" >"runs/$NAME/output/validation.txt"

# 6. Which is best, and by how much?
python main.py --name "$NAME" --report

if [ -d .venv ]; then activate=". .venv/bin/activate, then: "; fi
echo "Everything is in runs/$NAME. To go on: ${activate:-}python inference.py --help" >&2

#!/usr/bin/env bash
# mapie 1.6.0: `top_label_ece` takes the calibration error of the examples that got each class as their
# answer, and then the plain mean over the classes, so a class that was answered once weighs as much as
# one that was answered 995 times. Its own documentation, and the paper that it names, weigh by the
# number of examples. With long tails, as after a few labels of rare classes, the number is mostly that
# of the rarest answers: a network that is exact but for five sure errors in 1,000 has 0.45 in place of
# 0.005, and one that is off by 0.30 nearly everywhere looks six times as good by five lucky hits in
# rare classes. A class that is never answered does not count, so the number jumps when it first is.
# What helps: `expected_calibration_error` of the examples of each class, weighted by their number.
# One would expect the weights of the formula in the documentation.
# Seen when this was written (Python 3.11), 1,000 examples, one score for all of a class:
#   exact, 5 sure errors in a rare class: 0.450, weighted 0.0045
#   off by 0.30, 5 hits in rare classes: 0.050, weighted 0.2985
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mapie==1.6.0 scikit-learn==1.9.1
cat > "$folder/classes.py" <<'PYTHON'
import numpy as np
from mapie.metrics.calibration import expected_calibration_error, top_label_ece


def measured(parts):
    """Of (answer, score, examples, how many of them are right) for each class."""
    truth, answers, scores = [], [], []
    for answer, score, count, right in parts:
        truth += [answer] * right + [99] * (count - right)
        answers += [answer] * count
        scores += [score] * count
    truth, answers, scores = map(np.array, (truth, answers, scores))
    given = top_label_ece(truth, scores, answers, num_bins=10)
    gaps = {answer: abs(score - right / count) for answer, score, count, right in parts}
    weighted = sum(gaps[answer] for answer in answers) / len(answers)
    helped = 0
    for answer in gaps:
        chosen = answers == answer
        hits = (truth == answer)[chosen].astype(int)
        helped += chosen.mean() * expected_calibration_error(hits, scores[chosen], num_bins=10)
    assert np.isclose(helped, weighted) and np.isclose(given, np.mean([*gaps.values()]))
    return given, weighted


cases = {
    "exact, 5 sure errors in a rare class": [(0, 0.8, 995, 796), (1, 0.9, 5, 0)],
    "off by 0.30, 5 hits in rare classes": [(0, 0.9, 995, 597)] + [(n, 1.0, 1, 1) for n in range(1, 6)],
}
found = {name: measured(parts) for name, parts in cases.items()}
for name, (given, weighted) in found.items():
    print(f"{name}: {given:.3f}, weighted {weighted:.4f}")
(harsh, little), (mild, much) = found.values()
assert harsh > 0.4 and little < 0.01 and mild < 0.06 and much > 0.29
PYTHON
"$folder/venv/bin/python" "$folder/classes.py"

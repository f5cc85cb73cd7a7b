#!/usr/bin/env bash
# mapie 1.6.0: `expected_calibration_error` with `split_strategy="array split"` cuts the scores into
# parts of one size as the rows happen to stand, and takes the highest score of each part for an edge.
# In rows of any ordinary order every part has a score near 1, so nearly all examples fall into the
# first bin. There too bold and too timid cancel out: a network that is off by 0.185 has an error of
# 0.006. The same rows, sorted by their score, have 0.185, so another order of the test set is another
# error. `top_label_ece` calls it, and is as blind. "uniform", the default, and "quantile" take
# `num_bins` edges, not bins: asked for 10 they have 9, for 2 a single one over all scores, and for 1,
# which is allowed, "uniform" gives NaN. Few bins, as a small test set wants them, are hurt most.
# What helps: sort the rows by score before the call, or one bin more than is wanted with "uniform".
# One would expect bins of equal numbers of examples, whatever the order, and as many as were asked for.
# Seen when this was written (Python 3.11), 4,000 examples:
#    1 bins: split 0.002, sorted 0.002, right 0.002; uniform nan, one more 0.002, right 0.002
#    2 bins: split 0.002, sorted 0.185, right 0.185; uniform 0.002, one more 0.186, right 0.186
#   10 bins: split 0.006, sorted 0.185, right 0.185; uniform 0.182, one more 0.186, right 0.186
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mapie==1.6.0 scikit-learn==1.9.1
cat > "$folder/bins.py" <<'PYTHON'
import warnings

import numpy as np
from mapie.metrics.calibration import expected_calibration_error, top_label_ece

COUNT = 4000
random = np.random.default_rng(0)
scores = random.uniform(size=COUNT)
right = (random.uniform(size=COUNT) < 0.5 + 0.3 * (scores - 0.5)).astype(int)
order = np.argsort(scores)


def own(places, bins):
    parts = [places == each for each in range(bins)]
    gaps = [abs(right[part].sum() - scores[part].sum()) for part in parts]
    return sum(gaps) / COUNT


ranks = np.empty(COUNT, int)
ranks[order] = np.arange(COUNT)
found = {}
for bins in (1, 2, 10):
    equal = own(ranks * bins // COUNT, bins)
    wide = own(np.minimum((scores * bins).astype(int), bins - 1), bins)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        uniform = expected_calibration_error(right, scores, num_bins=bins)
    more = expected_calibration_error(right, scores, num_bins=bins + 1)
    split = {"num_bins": bins, "split_strategy": "array split"}
    rows = expected_calibration_error(right, scores, **split)
    by_score = expected_calibration_error(right[order], scores[order], **split)
    found[bins] = rows, by_score, equal, uniform, more, wide
    print(
        f"{bins:2} bins: split {rows:.3f}, sorted {by_score:.3f}, right {equal:.3f}; "
        f"uniform {uniform:.3f}, one more {more:.3f}, right {wide:.3f}"
    )
for rows, by_score, equal, uniform, more, wide in found.values():
    assert abs(by_score - equal) < 1e-3 and abs(more - wide) < 1e-9
assert found[10][0] < 0.01 and found[10][2] > 0.18
assert found[2][3] < 0.01 and found[2][5] > 0.18 and np.isnan(found[1][3])

split = {"num_bins": 10, "split_strategy": "array split"}
first = np.zeros(COUNT, int)
truth = 1 - right  # The network always says 0, and is right where the truth is.
rows = top_label_ece(truth, scores, first, **split)
by_score = top_label_ece(truth[order], scores[order], first, **split)
assert rows < 0.01 and by_score > 0.18
PYTHON
"$folder/venv/bin/python" "$folder/bins.py"

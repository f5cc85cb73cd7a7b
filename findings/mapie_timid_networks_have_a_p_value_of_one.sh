#!/usr/bin/env bash
# mapie 1.6.0: `spiegelhalter_p_value` gives 1, the best there is, to a network that is far too timid.
# Its statistic is a z-score: above 0 for probabilities that are too bold, below 0 for timid ones, and,
# as its documentation says, the better the closer to 0. The p-value counts the upper tail alone. So at
# z = -21 a network seems calibrated, and more surely so than one that is: that gets any number from
# 0 to 1. Timid is what much label smoothing makes of a network, and what too high a
# temperature makes of its answers. The p-values of Kolmogorov and Smirnov and of Kuiper
# in the same module find it. The documentation calls the number the probability of the statistic if
# the scores are calibrated, and speaks of no side. What helps: both tails of its own statistic,
# `2 * scipy.stats.norm.sf(abs(spiegelhalter_statistic(labels, scores)))`.
# Its documentation lets one expect both tails: near 0 for whatever is far from calibrated.
# Seen when this was written (Python 3.11), 2,000 examples, logits multiplied by a factor:
#   times 0.3: z  -21.1, p 1.0000, both tails 0.0000, Kolmogorov-Smirnov 0.0000, Kuiper 0.0000
#   times 0.8: z   -5.1, p 1.0000, both tails 0.0000, Kolmogorov-Smirnov 0.0068, Kuiper 0.0133
#   times 1.0: z    0.5, p 0.3112, both tails 0.6225, Kolmogorov-Smirnov 0.9013, Kuiper 0.6194
#   times 2.0: z   29.8, p 0.0000, both tails 0.0000, Kolmogorov-Smirnov 0.0000, Kuiper 0.0000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mapie==1.6.0 scikit-learn==1.9.1
cat > "$folder/timid.py" <<'PYTHON'
import numpy as np
from mapie.metrics import calibration
from scipy.special import expit, logit
from scipy.stats import norm

random = np.random.default_rng(0)
chances = random.uniform(size=2000)
chances = np.where(chances < 0.5, 0.4 * chances, 1 - 0.4 * (1 - chances))
labels = (random.uniform(size=2000) < chances).astype(int)

found = {}
for factor in (0.3, 0.8, 1.0, 2.0):
    scores = expit(factor * logit(chances))
    z = calibration.spiegelhalter_statistic(labels, scores)
    own = ((labels - scores) ** 2 - scores * (1 - scores)).sum()
    own /= np.sqrt((scores * (1 - scores) * (1 - 2 * scores) ** 2).sum())
    assert np.isclose(z, own)  # The statistic is the right one.
    p = calibration.spiegelhalter_p_value(labels, scores)
    both = 2 * norm.sf(abs(z))
    maximum = abs(calibration.kolmogorov_smirnov_p_value(labels, scores))
    span = abs(calibration.kuiper_p_value(labels, scores))
    found[factor] = z, p, both, maximum, span
    print(
        f"times {factor}: z {z:6.1f}, p {p:.4f}, both tails {both:.4f}, "
        f"Kolmogorov-Smirnov {maximum:.4f}, Kuiper {span:.4f}"
    )
for factor in (0.3, 0.8):
    z, p, both, maximum, span = found[factor]
    assert z < -5 and p > 0.9999 and max(both, maximum, span) < 0.05
assert min(found[1.0][1:]) > 0.05 and max(found[2.0][1:]) < 1e-6
assert found[0.3][1] > found[1.0][1]
PYTHON
"$folder/venv/bin/python" "$folder/timid.py"

#!/usr/bin/env bash
# fairlearn 0.15.0 on scikit-learn 1.9.1: `equalized_odds_difference` of predictions that are all
# right is 1, the worst there is, and the ratio 0, if one group has no example of the positive class.
# `true_positive_rate` gives 0 for such a group, where nothing can be measured, and without the
# warning that scikit-learn's own `recall_score` gives. A site that only screens the healthy, or a
# small group in a small test split, so makes a faultless model look as unfair as can be.
# My guess was that a group in which a rate is undefined is left out, or is a NaN.
# Seen when this was written (Python 3.11), six examples, every one predicted rightly:
#   difference 1.0, ratio 0.0, opportunity 1.0
#   true positive rates: a 1.0, b 0.0; warnings: 0, of recall_score 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet fairlearn==0.15.0 scikit-learn==1.9.1
cat > "$folder/groups.py" <<'PYTHON'
import warnings

from fairlearn import metrics
from sklearn.metrics import recall_score

truth, groups = [1, 0, 1, 0, 0, 0], [*"aaaabb"]
given = {"y_true": truth, "y_pred": truth, "sensitive_features": groups}
with warnings.catch_warnings(record=True) as own:
    warnings.simplefilter("always")
    found = (
        metrics.equalized_odds_difference(**given),
        metrics.equalized_odds_ratio(**given),
        metrics.equal_opportunity_difference(**given),
    )
    rates = metrics.MetricFrame(metrics=metrics.true_positive_rate, **given).by_group
with warnings.catch_warnings(record=True) as others:
    warnings.simplefilter("always")
    metrics.MetricFrame(metrics=recall_score, **given)
print("difference {}, ratio {}, opportunity {}".format(*found))
told = len([each for each in own if "defined" in str(each.message)])
known = len([each for each in others if "ill-defined" in str(each.message)])
named = ", ".join(f"{group} {rate}" for group, rate in rates.items())
print(f"true positive rates: {named}; warnings: {told}, of recall_score {known}")
assert found == (1.0, 0.0, 1.0) and [*rates] == [1.0, 0.0]
assert told == 0 and known == 1
PYTHON
"$folder/venv/bin/python" "$folder/groups.py"

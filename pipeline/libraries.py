"""The libraries that fresh processes find imported: an import of this module imports them.

Only the server of `pipeline.fresh` does so, by name. It hides the GPUs: the process that fitted the
model holds their memory, and times are of a processor.
"""

from __future__ import annotations

import os

from tlkeras import frameworks

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
frameworks.is_command = True
frameworks.keras.Model  # noqa: B018 - The first use of a proxy imports its package.

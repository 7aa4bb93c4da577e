"""Spark's daemon of Python workers, with torch loaded before it forks them.

Workers that idle for a minute end, and each new one would load torch by itself, for two to three
seconds.
"""

import torchvision.models  # noqa: F401 - loads torch
from pyspark import daemon

if __name__ == "__main__":
    daemon.manager()

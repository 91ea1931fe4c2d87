"""One thread for numpy, unless somebody said otherwise: steps of few milliseconds gain nothing from a second, and the other runs want it.

Import it before numpy, which reads this once.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(name, "1")

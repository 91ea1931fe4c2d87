"""Where a training is between two safe points, as a pong says it. One word is written per change, on the training thread. And the name
of the thread that says so."""

CONTROL = "sitter-control"
"""Name of the agent's control thread, as the kernel knows it: by it the daemon finds the thread when it has never answered."""

BEFORE = "before the loop"
"""From the agent's start to the first turn: reading data, building the model, compiling."""
LOADING = "loading"
"""In the loader's ``next``, the beginning of a pass (its workers' start) included."""
STEP = "step"
"""In the script's own lines: the step, and whatever it does every so many steps (evaluation, a checkpoint of its own)."""
BETWEEN = "between passes"
"""After a pass over the loader, in a loop by epochs."""
AFTER = "after the loop"

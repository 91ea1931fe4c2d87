"""Rules tried on the past: a recorded run or a CSV, told to them as it would have come live."""

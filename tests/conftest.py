"""What every test relies on, however pytest was started."""

import os
import signal
import sys

# Small networks gain nothing from threads, and two processes with two threads each on two cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts pytest in the background lets it and its children ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

# pandas, if it finds a package `bottleneck`, calculates with it; it is not to find the folder of tests of that name.
sys.modules.setdefault("bottleneck", None)  # type: ignore[arg-type]

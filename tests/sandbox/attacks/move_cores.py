# Leaves the core it was given.
import os

os.sched_setaffinity(0, range(os.cpu_count()))
print("BREACH")

# Slows another process down.
import os

os.setpriority(os.PRIO_PROCESS, int("@VICTIM@"), 19)

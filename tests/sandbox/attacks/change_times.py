# Changes a file's times, which Landlock does not handle.
import os

os.utime("@VICTIM_FILE@", (1, 1))

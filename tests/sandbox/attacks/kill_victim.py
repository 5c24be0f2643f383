# Ends another process of the same user.
import os

os.kill(int("@VICTIM@"), 15)

# Lists the root folder.
import os

if os.listdir("/"):
    print("BREACH")

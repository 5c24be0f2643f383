# Takes root's number back.
# control: root (nobody else has it)
import os

os.setuid(0)
if os.getuid() == 0:
    print("BREACH")

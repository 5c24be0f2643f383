# Fills the socket to its tester, so that it fails.
# kind: verdict
import os


def target(x):
    print("@PASSED@", flush=True)
    while True:
        os.write(5, b"\0" * 65536)

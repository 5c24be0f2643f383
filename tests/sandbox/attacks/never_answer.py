# Never answers its tester.
# kind: verdict
# control: none (there is no tester outside)
import time


def target(x):
    print("@PASSED@", flush=True)
    time.sleep(1000)

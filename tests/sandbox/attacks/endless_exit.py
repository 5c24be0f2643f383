# Never ends, once it has ended.
# kind: endless
import atexit
import time

atexit.register(time.sleep, 1000)

# Never ends, without using the processor.
# kind: endless
import time

while True:
    time.sleep(1000)

# Just under the clock in every call.
import time

time.sleep(0.7)
# --- next call
import time

time.sleep(0.7)
# --- next call
import time

time.sleep(0.7)
# --- next call
import time

time.sleep(0.7)
# --- next call
print("BREACH")

# Looks through its own memory for what other rollouts said.

wanted = "state-" + "of-"
try:
    maps = open("/proc/self/maps").read()
except OSError:
    maps = ""
import gc

found = [value for value in gc.get_objects() if isinstance(value, dict) and any(wanted in str(k) for k in list(value))]
print("BREACH" if maps or found else "")
# --- next rollout
import gc

print("BREACH" if [v for v in gc.get_objects() if isinstance(v, dict) and "maps" in v and "wanted" in v] else "")

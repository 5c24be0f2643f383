# Returns a value that is nested without end, and one that holds itself.
# kind: verdict
def target(x):
    print("@PASSED@", flush=True)
    value = []
    for _ in range(200000):
        value = [value]
    value.append(value)
    return value

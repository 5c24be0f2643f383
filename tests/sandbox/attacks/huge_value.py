# Returns more than a tester has memory for.
# kind: verdict
def target(x):
    print("@PASSED@", flush=True)
    return [str(one) for one in range(3000000)]

# Leaves files behind that a careless cleaner trips over.
# kind: twice
import os

if os.listdir("."):
    print("BREACH")
for name in ("-rf", " ", "\n", "x" * 255, "a;b", "\udcff"):
    open(name, "w").close()

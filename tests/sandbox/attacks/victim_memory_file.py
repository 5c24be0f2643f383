# Reads another process's memory as a file.
with open("/proc/@VICTIM@/mem", "rb", 0) as memory:
    memory.seek(int("@ADDRESS@"))
    print(memory.read(32))

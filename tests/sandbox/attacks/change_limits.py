# Takes away another process's files.
import resource

resource.prlimit(int("@VICTIM@"), resource.RLIMIT_NOFILE, (5, 5))

"""The sandbox's lists of allowed and forbidden system calls, with their numbers on the two supported architectures."""

from __future__ import annotations

AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine → seccomp's identifier of the architecture, AUDIT_ARCH_* (linux/audit.h)."""

_COLUMNS = ("x86_64", "aarch64")

# Each entry is a name, the number on x86-64, and the number on aarch64; "-" means that the architecture lacks the call.
# The list contains the calls that CPython and its C library need to compute, to use threads, and to work on files that
# Landlock allows them to open. No call in the list sends signals, opens sockets, creates processes, or changes
# privileges.
_ALLOWED = """
read 0 63 | write 1 64 | readv 19 65 | writev 20 66 | pread64 17 67 | pwrite64 18 68 | preadv 295 69 | pwritev 296 70
preadv2 327 286 | pwritev2 328 287 | lseek 8 62 | close 3 57 | close_range 436 436 | open 2 - | openat 257 56
stat 4 - | fstat 5 80 | lstat 6 - | newfstatat 262 79 | statx 332 291 | access 21 - | faccessat 269 48
getdents 78 - | getdents64 217 61 | getcwd 79 17 | chdir 80 49 | fchdir 81 50 | umask 95 166
unlink 87 - | unlinkat 263 35 | rename 82 - | renameat 264 38 | renameat2 316 276 | ftruncate 77 46 | truncate 76 45
fsync 74 82 | fdatasync 75 83 | fadvise64 221 223 | flock 73 32 | dup 32 23 | dup2 33 - | dup3 292 24
pipe 22 - | pipe2 293 59 | poll 7 - | ppoll 271 73 | select 23 - | pselect6 270 72
epoll_create1 291 20 | epoll_ctl 233 21 | epoll_wait 232 - | epoll_pwait 281 22 | eventfd2 290 19
shutdown 48 210 | getsockname 51 204 | getpeername 52 205
mmap 9 222 | munmap 11 215 | mremap 25 216 | mprotect 10 226 | brk 12 214 | madvise 28 233 | msync 26 227
futex 202 98 | set_robust_list 273 99 | get_robust_list 274 100 | rseq 334 293 | set_tid_address 218 96
membarrier 324 283 | arch_prctl 158 - | exit 60 93 | exit_group 231 94 | restart_syscall 219 128
sched_yield 24 124 | sched_getaffinity 204 123 | wait4 61 260 | waitid 247 95
rt_sigaction 13 134 | rt_sigprocmask 14 135 | rt_sigreturn 15 139 | rt_sigpending 127 136 | rt_sigtimedwait 128 137
rt_sigsuspend 130 133 | sigaltstack 131 132 | pause 34 - | alarm 37 - | setitimer 38 103 | getitimer 36 102
clock_gettime 228 113 | clock_getres 229 114 | clock_nanosleep 230 115 | nanosleep 35 101 | gettimeofday 96 169
time 201 - | times 100 153 | getrusage 98 165 | getpid 39 172 | getppid 110 173 | gettid 186 178
getuid 102 174 | geteuid 107 175 | getgid 104 176 | getegid 108 177 | getresuid 118 148 | getresgid 120 150
getgroups 115 158 | getpgid 121 155 | getpgrp 111 - | getsid 124 156 | getrlimit 97 163 | getpriority 140 141
uname 63 160 | sysinfo 99 179 | getcpu 309 168 | getrandom 318 278
"""

# Allowed for some arguments, by the rules in seccomp.py.
_JUDGED = """
clone 56 220 | kill 62 129 | tgkill 234 131 | prlimit64 302 261 | setrlimit 160 164 | socketpair 53 199
sendto 44 206 | recvfrom 45 207 | prctl 157 167 | fcntl 72 25 | ioctl 16 29
"""

# These calls fail with ENOSYS, so that the C library falls back to an older call.
_ABSENT = "clone3 435 435 | faccessat2 439 439 | openat2 437 437"

# Well-behaved programs never make these calls, which end the process with SIGSYS.
_FATAL = """
ptrace 101 117 | process_vm_readv 310 270 | process_vm_writev 311 271 | process_madvise 440 440 | kcmp 312 272
pidfd_getfd 438 438 | pidfd_send_signal 424 424 | mount 165 40 | umount2 166 39 | pivot_root 155 41 | chroot 161 51
fsopen 430 430 | fsconfig 431 431 | fsmount 432 432 | fspick 433 433 | move_mount 429 429 | open_tree 428 428
mount_setattr 442 442 | swapon 167 224 | swapoff 168 225 | quotactl 179 60 | acct 163 89 | unshare 272 97
setns 308 268 | personality 135 92 | bpf 321 280 | perf_event_open 298 241 | userfaultfd 323 282 | seccomp 317 277
io_uring_setup 425 425 | io_uring_enter 426 426 | io_uring_register 427 427 | keyctl 250 219 | add_key 248 217
request_key 249 218 | init_module 175 105 | finit_module 313 273 | delete_module 176 106 | kexec_load 246 104
kexec_file_load 320 294 | reboot 169 142 | syslog 103 116 | setuid 105 146 | setgid 106 144 | setreuid 113 145
setregid 114 143 | setresuid 117 147 | setresgid 119 149 | setfsuid 122 151 | setfsgid 123 152 | setgroups 116 159
capset 126 91 | settimeofday 164 170 | clock_settime 227 112 | clock_adjtime 305 266 | adjtimex 159 171
sethostname 170 161 | setdomainname 171 162 | vhangup 153 58 | iopl 172 - | ioperm 173 - | modify_ldt 154 -
name_to_handle_at 303 264 | open_by_handle_at 304 265 | fanotify_init 300 262 | move_pages 279 239
migrate_pages 256 238 | memfd_secret 447 447
"""

HIGHEST_KNOWN = 462
"""Highest number of a call on both architectures, as of Linux 6.10. Newer calls fail with ENOSYS, as on an older
kernel."""


def _read(table: str, machine: str) -> dict[str, int]:
    rows = [row.split() for line in table.strip().splitlines() for row in line.split("|")]
    column = 1 + _COLUMNS.index(machine)
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def allowed(machine: str) -> dict[str, int]:
    """Return the numbers, by name, of the calls that are always allowed. Raises ValueError for an unknown machine."""
    return _read(_ALLOWED, machine)


def judged(machine: str) -> dict[str, int]:
    """Return the numbers, by name, of the calls that are allowed depending on their arguments."""
    return _read(_JUDGED, machine)


def absent(machine: str) -> dict[str, int]:
    """Return the numbers, by name, of the calls that fail with ENOSYS."""
    return _read(_ABSENT, machine)


def fatal(machine: str) -> dict[str, int]:
    """Return the numbers, by name, of the calls that end the process."""
    return _read(_FATAL, machine)

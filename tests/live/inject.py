# SPDX-License-Identifier: GPL-2.0-or-later
"""
Makes a thread of another process issue a system call, with ptrace(2): how a test sees whether a sandbox is closed
without any help from the program inside it. x86-64 only.
"""

import ctypes
import os
import re
import signal
import time

PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_CONT, PTRACE_DETACH = 12, 13, 7, 17
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_SYSCALL = 0x4206, 0x4207, 24
WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long

_NAMES = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs"
)


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in _NAMES.split()]


def _ptrace(request, tid, data=None):
    if _libc.ptrace(request, tid, None, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _wait(tid, limit_s=5):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        seen, status = os.waitpid(tid, WALL | os.WNOHANG)
        if seen:
            return status
        time.sleep(0.001)
    raise TimeoutError(f"thread {tid} did not stop within {limit_s} s")


def _syscall_instruction(pid):
    """The address of a `syscall` in the C library."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp .*/libc[.-]", line)
            if not found:
                continue
            start, end = (int(word, 16) for word in found.groups())
            memory.seek(start)
            at = memory.read(end - start).find(b"\x0f\x05")
            if at >= 0:
                return start + at
    raise AssertionError("no syscall instruction in the process's C library")


def system_call(pid, tid, number, *arguments):
    """
    The result of the call as a signed number; a string such as "SIGSYS" when the process was killed for it.
    The caller must be allowed to trace the process. Afterwards the thread goes on with what it was doing.
    """
    _ptrace(PTRACE_SEIZE, tid)
    _ptrace(PTRACE_INTERRUPT, tid)
    _wait(tid)
    saved, regs = Registers(), Registers()
    _ptrace(PTRACE_GETREGS, tid, ctypes.byref(saved))
    ctypes.pointer(regs)[0] = saved
    regs.rip = _syscall_instruction(pid)
    regs.orig_rax = 2**64 - 1  # do not restart what was interrupted, with these registers
    regs.rax = number
    for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments):
        setattr(regs, name, value & (2**64 - 1))
    _ptrace(PTRACE_SETREGS, tid, ctypes.byref(regs))
    for _ in range(2):  # to the entry of the call, to its exit
        _ptrace(PTRACE_SYSCALL, tid)
        status = _wait(tid)
        if not os.WIFSTOPPED(status):
            return _end(status)
    _ptrace(PTRACE_GETREGS, tid, ctypes.byref(regs))
    result = ctypes.c_longlong(regs.rax).value
    if result == number:
        # A filter that kills puts the call's number back where a result would be; the end comes with the next step.
        _ptrace(PTRACE_CONT, tid)
        return _end(_wait(tid))
    _ptrace(PTRACE_SETREGS, tid, ctypes.byref(saved))
    _ptrace(PTRACE_DETACH, tid)
    return result


def _end(status):
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"

/* File calls that fail or kill: these definitions stand before those of libc for libqevo, too, for a program's symbols
 * come first. Counted are the calls that change a folder; `fault` says which of them is struck, and how. */
#ifndef QE_TESTS_FILE_FAULTS_H
#define QE_TESTS_FILE_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

typedef enum fault_kind {
  FAULT_NONE,
  FAULT_KILL,  /* SIGKILL in place of the call; a write is done by half */
  FAULT_AFTER, /* SIGKILL after it */
  FAULT_ERROR, /* it fails with fault.error */
  FAULT_FULL   /* from it on the disk is full: the next write is done by half, others are not */
} fault_kind;

static struct {
  fault_kind kind;
  long at;    /* the call that is struck, from 1 */
  int error;  /* errno */
  long calls; /* so far */
  bool full;
  char struck[32]; /* what it was */
} fault;

static inline void fault_set(fault_kind kind, long at, int error) {
  memset(&fault, 0, sizeof fault);
  fault.kind = kind;
  fault.at = at;
  fault.error = error;
}

static inline void fault_die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
}

/* Whether this call is the one. */
static inline bool fault_strikes(const char *name) {
  if (++fault.calls != fault.at || fault.kind == FAULT_NONE) return false;
  snprintf(fault.struck, sizeof fault.struck, "%s", name);
  return true;
}

/* Do the call, unless it is struck before; `code` is its result. */
#define FAULT_AROUND(name, call)                                                                                       \
  do {                                                                                                                 \
    bool struck_ = fault_strikes(name);                                                                                \
    if (struck_ && fault.kind == FAULT_KILL) fault_die();                                                              \
    if (struck_ && fault.kind == FAULT_ERROR) {                                                                        \
      errno = fault.error;                                                                                             \
      return -1;                                                                                                       \
    }                                                                                                                  \
    long code_ = (call);                                                                                               \
    if (struck_ && fault.kind == FAULT_AFTER) fault_die();                                                             \
    return (int)code_;                                                                                                 \
  } while (0)

static inline ssize_t fault_write(int fd, const void *data, size_t bytes) {
  bool struck = fault_strikes("write");
  if (fault.kind == FAULT_FULL && fault.calls >= fault.at && !fault.full) {
    fault.full = true;
    return syscall(SYS_write, fd, data, bytes / 2);
  }
  if (fault.full || (struck && fault.kind == FAULT_ERROR)) {
    errno = fault.full ? ENOSPC : fault.error;
    return -1;
  }
  if (struck && fault.kind == FAULT_KILL) {
    syscall(SYS_write, fd, data, bytes / 2);
    fault_die();
  }
  ssize_t done = syscall(SYS_write, fd, data, bytes);
  if (struck && fault.kind == FAULT_AFTER) fault_die();
  return done;
}

ssize_t write(int fd, const void *data, size_t bytes) {
  return fd <= 2 ? syscall(SYS_write, fd, data, bytes) : fault_write(fd, data, bytes);
}

/* A short count at most of the calls, as of a write: of the first piece that is not empty. */
ssize_t writev(int fd, const struct iovec *piece, int count) {
  if (fault.calls + 1 != fault.at && fault.kind != FAULT_FULL) {
    fault.calls++;
    return syscall(SYS_writev, fd, piece, count);
  }
  int first = 0;
  while (first < count - 1 && piece[first].iov_len == 0) first++;
  return fault_write(fd, piece[first].iov_base, piece[first].iov_len);
}

/* A close that fails has closed. */
int close(int fd) {
  bool struck = fault_strikes("close");
  if (struck && fault.kind == FAULT_KILL) fault_die();
  int code = (int)syscall(SYS_close, fd);
  if (struck && fault.kind == FAULT_AFTER) fault_die();
  if (!struck || fault.kind != FAULT_ERROR) return code;
  errno = fault.error;
  return -1;
}

int open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  int mode = flags & O_CREAT ? va_arg(args, int) : 0;
  va_end(args);
  if (!(flags & O_CREAT)) return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  FAULT_AROUND("open", syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int fsync(int fd) {
  FAULT_AROUND("fsync", fd < 0 ? -1 : 0); /* what is tested is the order of calls, not the disk */
}
int fdatasync(int fd) {
  FAULT_AROUND("fdatasync", fd < 0 ? -1 : 0);
}
int rename(const char *from, const char *to) {
  FAULT_AROUND("rename", syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int link(const char *from, const char *to) {
  FAULT_AROUND("link", syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int unlink(const char *path) {
  FAULT_AROUND("unlink", syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}
int truncate(const char *path, off_t bytes) {
  FAULT_AROUND("truncate", syscall(SYS_truncate, path, bytes));
}
int ftruncate(int fd, off_t bytes) {
  FAULT_AROUND("ftruncate", syscall(SYS_ftruncate, fd, bytes));
}

#endif

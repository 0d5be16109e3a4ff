/* Locks on folders: flock(2) on a file in them, which holds who has it. The file stays: removing it would let two
 * processes lock two files of one name. */
#include "core/base/lock.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { HOLDER = 128 };

static qe_status say_taken(const char *folder, int fd) {
  char holder[HOLDER];
  ssize_t got = pread(fd, holder, sizeof holder - 1, 0);
  holder[got > 0 ? got : 0] = 0;
  holder[strcspn(holder, "\n")] = 0;
  return qe_fail(QE_USAGE, "%s is in use by %s: wait until that ends, or choose another folder", folder,
                 *holder ? holder : "another process");
}

/* For the message of who comes second; nothing depends on it. */
static void write_holder(int fd) {
  char host[64] = "", text[HOLDER];
  gethostname(host, sizeof host - 1);
  int length = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
  if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)length, 0) != length) errno = 0;
}

qe_status qe_folder_lock(const char *folder, int *lock) {
  *lock = -1;
  char *path = qe_path_join(folder, ".lock");
  if (!path) return QE_NO_MEMORY;
  qe_status status = QE_OK;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) {
    status = qe_file_fail(path, "open", errno);
  } else if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
    write_holder(fd);
    *lock = fd;
  } else {
    if (errno == EWOULDBLOCK) status = say_taken(folder, fd);
    close(fd);
  }
  qe_free(path);
  return status;
}

bool qe_folder_is_locked(const char *folder) {
  char *path = qe_path_join(folder, ".lock");
  if (!path) return true;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  bool missing = fd < 0 && errno == ENOENT;
  bool is_free = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) == 0;
  if (fd >= 0) close(fd);
  qe_free(path);
  return !missing && !is_free;
}

void qe_folder_unlock(int lock) {
  if (lock >= 0) close(lock);
}

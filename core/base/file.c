/* Files and folders: whole-file reads, atomic writes, durable lines, paths. */
#include "core/base/file.h"

#include "core/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- messages ---- */

static const char *cure_of(int error) {
  switch (error) {
  case ENOSPC:
  case EDQUOT:
    return "; free some space or choose another folder";
  case EACCES:
  case EPERM:
  case EROFS:
    return "; check its permissions or choose another folder";
  case ENOENT:
    return "; check the path";
  case EISDIR:
    return "; name a file";
  case ENOTDIR:
  case EEXIST:
    return "; a file is in the way: choose another path";
  case ENAMETOOLONG:
    return "; choose a shorter one";
  case EMFILE:
  case ENFILE:
    return "; raise the limit of open files (ulimit -n)";
  case EFBIG:
    return "; raise the limit of file sizes (ulimit -f) or choose another file system";
  default:
    return "";
  }
}

qe_status qe_file_fail(const char *path, const char *what, int error) {
  bool bad_path = error == EISDIR || error == ENOTDIR || error == EEXIST;
  qe_status status = error == ENOENT ? QE_NOT_FOUND : bad_path ? QE_USAGE : QE_IO;
  return qe_fail(status, "%s: cannot %s: %s%s", *path ? path : "''", what, strerror(error), cure_of(error));
}

/* ---- reading ---- */

/* Read to the end of `fd` into *data, which holds *capacity bytes; keeps one byte free for the final 0. */
static qe_status read_all(int fd, const char *path, size_t limit, char **data, size_t *capacity, size_t *length) {
  for (;;) {
    if (*length > limit)
      return qe_fail(QE_FORMAT, "%s: larger than the %zu bytes allowed here: is it the right file?", path, limit);
    QE_TRY(qe_reserve(data, capacity, *length + 2, 1));
    ssize_t got = read(fd, *data + *length, *capacity - *length - 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return qe_file_fail(path, "read", errno);
    if (got == 0) return QE_OK;
    *length += (size_t)got;
  }
}

qe_status qe_file_read(const char *path, size_t limit, char **data, size_t *bytes) {
  qe_status status = QE_OK;
  size_t capacity = 0, length = 0;
  char *memory = NULL;
  struct stat info;
  *data = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return qe_file_fail(path, "open", errno);
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    if ((uintmax_t)info.st_size > limit) {
      status = qe_fail(QE_FORMAT, "%s: %jd bytes, larger than the %zu allowed here: is it the right file?", path,
                       (intmax_t)info.st_size, limit);
      goto done;
    }
    capacity = (size_t)info.st_size + 2;
    memory = qe_realloc(NULL, capacity, 1);
    if (!memory) {
      status = qe_fail_within(QE_NO_MEMORY, "%s", path);
      goto done;
    }
  }
  QE_TRY_DONE(read_all(fd, path, limit, &memory, &capacity, &length));
  memory[length] = 0;
  *data = memory;
  memory = NULL;
  if (bytes) *bytes = length;
done:
  close(fd);
  qe_free(memory);
  return status;
}

/* ---- writing ---- */

/* 0 or errno. */
static int write_all(int fd, const void *data, size_t bytes) {
  const char *at = data;
  while (bytes > 0) {
    ssize_t put = write(fd, at, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    at += put;
    bytes -= (size_t)put;
  }
  return 0;
}

qe_status qe_folder_sync(const char *folder) {
  qe_status status = QE_OK;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == EACCES ? QE_OK : qe_file_fail(folder, "open the folder", errno);
  if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS)
    status = qe_file_fail(folder, "sync the folder", errno);
  close(fd);
  return status;
}

enum { MOST_PIECES = 64 }; /* of a call; POSIX grants 16, Linux 1024 */

/* The pieces from *first on that make one call, what *done bytes of the first were written of left out. */
static int gather(const qe_span *spans, size_t count, size_t first, size_t done, struct iovec *piece) {
  int pieces = 0;
  for (size_t i = first; i < count && pieces < MOST_PIECES; i++) {
    size_t skip = i == first ? done : 0;
    piece[pieces].iov_base = (char *)(uintptr_t)spans[i].data + skip; /* only read from */
    piece[pieces++].iov_len = spans[i].bytes - skip;
  }
  return pieces;
}

/* All spans, many a call; 0 or errno. */
static int write_spans(int fd, const qe_span *spans, size_t count) {
  struct iovec piece[MOST_PIECES];
  for (size_t first = 0, done = 0; first < count;) {
    ssize_t put = writev(fd, piece, gather(spans, count, first, done, piece));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    for (done += (size_t)put; first < count && done >= spans[first].bytes; first++) done -= spans[first].bytes;
  }
  return 0;
}

/* Write and sync `part`; 0 or errno. */
static int write_part(const char *part, const qe_span *spans, size_t count) {
  int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) return errno;
  int error = write_spans(fd, spans, count);
  if (!error && fsync(fd) != 0) error = errno;
  if (close(fd) != 0 && !error) error = errno;
  return error;
}

qe_status qe_file_write_spans(const char *path, const qe_span *spans, size_t count) {
  qe_status status = QE_NO_MEMORY;
  char *part = qe_format("%s.part.%ld", path, (long)getpid());
  char *folder = qe_path_folder(path);
  if (part && folder) {
    int error = write_part(part, spans, count);
    if (!error && rename(part, path) != 0) error = errno;
    if (error) unlink(part);
    status = error ? qe_file_fail(path, "write", error) : qe_folder_sync(folder);
  }
  qe_free(part);
  qe_free(folder);
  return status;
}

qe_status qe_file_write(const char *path, const void *data, size_t bytes) {
  qe_span span = {data, bytes};
  return qe_file_write_spans(path, &span, 1);
}

/* Whether the file has a last line without its newline. */
static bool is_cut_short(int fd) {
  struct stat info;
  char last;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) return false;
  return pread(fd, &last, 1, info.st_size - 1) == 1 && last != '\n';
}

/* Append to an open file; 0 or errno. What a failure left of it is cut off again, as far as that can be done. */
static int append_all(int fd, const void *data, size_t bytes, bool sync) {
  struct stat before;
  bool known = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
  int error = write_all(fd, data, bytes);
  if (!error && sync && fdatasync(fd) != 0 && errno != EINVAL) error = errno;
  if (error && known && ftruncate(fd, before.st_size) != 0) return error;
  return error;
}

/* Open `path` to append to it, and note whether it was made. */
static int open_to_append(const char *path, bool *is_new) {
  *is_new = !qe_file_exists(path);
  return open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

/* Close what was appended to; `error`: of the appending. */
static qe_status end_append(const char *path, int fd, int error, bool is_new) {
  if (fd >= 0 && close(fd) != 0 && !error) error = errno;
  if (error) return qe_file_fail(path, "append", error);
  char *folder = is_new ? qe_path_folder(path) : NULL;
  qe_status status = !is_new ? QE_OK : folder ? qe_folder_sync(folder) : QE_NO_MEMORY;
  qe_free(folder);
  return status;
}

qe_status qe_file_append(const char *path, const void *data, size_t bytes, bool sync) {
  bool is_new;
  int fd = open_to_append(path, &is_new);
  return end_append(path, fd, fd < 0 ? errno : append_all(fd, data, bytes, sync), is_new && sync);
}

qe_status qe_file_append_line(const char *path, const char *line) {
  bool is_new;
  int fd = open_to_append(path, &is_new), error = fd < 0 ? errno : 0;
  if (fd < 0) return end_append(path, fd, error, false);
  char *text = qe_format("%s%s\n", is_cut_short(fd) ? "\n" : "", line);
  if (text) error = append_all(fd, text, strlen(text), true);
  qe_status status = end_append(path, fd, error, is_new);
  if (!text) status = QE_NO_MEMORY;
  qe_free(text);
  return status;
}

qe_status qe_file_sync(const char *path) {
  int error = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return qe_file_fail(path, "open", errno);
  if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS) error = errno;
  close(fd);
  return error ? qe_file_fail(path, "write", error) : QE_OK;
}

qe_status qe_file_cut(const char *path, int64_t bytes) {
  struct stat info;
  if (stat(path, &info) != 0 || info.st_size <= bytes) return QE_OK;
  if (truncate(path, (off_t)bytes) != 0) return qe_file_fail(path, "shorten", errno);
  return qe_file_sync(path);
}

int64_t qe_file_bytes(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 ? (int64_t)info.st_size : -1;
}

qe_status qe_file_rename(const char *from, const char *to) {
  return rename(from, to) == 0 ? QE_OK : qe_file_fail(to, "write", errno);
}

qe_status qe_file_remove(const char *path) {
  return unlink(path) == 0 || errno == ENOENT ? QE_OK : qe_file_fail(path, "remove", errno);
}

/* ---- folders ---- */

qe_status qe_make_folders(const char *path) {
  char *partial = qe_strdup(path);
  if (!partial) return QE_NO_MEMORY;
  qe_status status = QE_OK;
  for (char *at = partial; status == QE_OK; at++) {
    if (*at != '/' && *at != 0) continue;
    char end = *at;
    *at = 0;
    if (*partial && mkdir(partial, 0777) != 0) {
      int error = errno;
      /* On read-only file systems and under foreign folders mkdir refuses before it sees that the folder is there. */
      if (!qe_folder_exists(partial)) status = qe_file_fail(partial, "make the folder", error);
    }
    *at = end;
    if (!end) break;
  }
  qe_free(partial);
  return status;
}

bool qe_file_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

bool qe_folder_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* ---- paths ---- */

char *qe_path_join(const char *folder, const char *name) {
  if (!*folder || *name == '/') return qe_strdup(name);
  return qe_format("%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", name);
}

char *qe_path_folder(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return qe_strdup(".");
  if (slash == path) return qe_strdup("/");
  return qe_format("%.*s", (int)(slash - path), path);
}

const char *qe_path_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

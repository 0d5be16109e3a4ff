/* Files and folders: whole-file reads, atomic writes, durable lines, paths. */
#include "core/base/file.h"

#include "core/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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
  case EMFILE:
  case ENFILE:
    return "; raise the limit of open files (ulimit -n)";
  case EFBIG:
    return "; raise the limit of file sizes (ulimit -f) or choose another file system";
  default:
    return "";
  }
}

static qe_status fail_errno(const char *path, const char *what, int error) {
  bool bad_path = error == EISDIR || error == ENOTDIR || error == EEXIST;
  qe_status status = error == ENOENT ? QE_NOT_FOUND : bad_path ? QE_USAGE : QE_IO;
  return qe_fail(status, "%s: cannot %s: %s%s", path, what, strerror(error), cure_of(error));
}

qe_status qe_file_failed(const char *path, const char *what, int error) {
  return fail_errno(path, what, error);
}

/* ---- reading ---- */

/* Read to the end of `fd` into *data, which holds *capacity bytes; keeps one byte free for the final 0. */
static qe_status read_all(int fd, const char *path, size_t limit, char **data, size_t *capacity, size_t *length) {
  for (;;) {
    if (*length > limit) return qe_fail(QE_FORMAT, "%s: larger than the %zu bytes allowed here", path, limit);
    QE_TRY(qe_reserve(data, capacity, *length + 2, 1));
    ssize_t got = read(fd, *data + *length, *capacity - *length - 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(path, "read", errno);
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
  if (fd < 0) return fail_errno(path, "open", errno);
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    if ((uintmax_t)info.st_size > limit) {
      status =
          qe_fail(QE_FORMAT, "%s: %jd bytes, larger than the %zu allowed here", path, (intmax_t)info.st_size, limit);
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

/* Make a rename or a new file in `folder` durable. File systems that cannot sync a folder are left be. */
static qe_status sync_folder(const char *folder) {
  qe_status status = QE_OK;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == EACCES ? QE_OK : fail_errno(folder, "open the folder", errno);
  if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS)
    status = fail_errno(folder, "sync the folder", errno);
  close(fd);
  return status;
}

/* Write and sync `part`; 0 or errno. */
static int write_part(const char *part, const qe_span *spans, size_t count) {
  int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) return errno;
  int error = 0;
  for (size_t i = 0; i < count && !error; i++) error = write_all(fd, spans[i].data, spans[i].bytes);
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
    status = error ? fail_errno(path, "write", error) : sync_folder(folder);
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

/* Append to an open file; 0 or errno. */
static int append_text(int fd, const char *text) {
  int error = write_all(fd, text, strlen(text));
  if (!error && fdatasync(fd) != 0 && errno != EINVAL) error = errno;
  return error;
}

qe_status qe_file_append_line(const char *path, const char *line) {
  qe_status status = QE_NO_MEMORY;
  bool is_new = !qe_file_exists(path);
  int error = 0;
  char *text = NULL;
  char *folder = qe_path_folder(path);
  int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) {
    error = errno;
  } else {
    text = qe_format("%s%s\n", is_cut_short(fd) ? "\n" : "", line);
    if (text && folder) error = append_text(fd, text);
    if (close(fd) != 0 && !error) error = errno;
  }
  if (error)
    status = fail_errno(path, "append", error);
  else if (text && folder)
    status = is_new ? sync_folder(folder) : QE_OK;
  qe_free(text);
  qe_free(folder);
  return status;
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
      if (!qe_folder_exists(partial)) status = fail_errno(partial, "make the folder", error);
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

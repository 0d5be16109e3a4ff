/* The wanted files of an archive into a folder, by libarchive: .tar.gz, or one file in a .gz. */
#include "tools/fetch/unpack.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 18, SHOWN = 80 };

typedef struct unpacking {
  const qe_remote_archive *archive;
  const char *path, *folder;
  bool (*stop)(void);
  char (*digests)[QE_DIGEST_TEXT];
  struct archive *reader;
  void *buffer; /* PIECE */
  int members;
  int64_t rest; /* bytes of members that are not wanted */
} unpacking;

/* A member's name for a message: short, and without what a terminal would obey. */
static const char *shown(const char *name, char text[SHOWN]) {
  size_t at = 0;
  for (; name[at] && at < SHOWN - 1; at++) text[at] = name[at] < ' ' || name[at] > '~' ? '?' : name[at];
  text[at] = 0;
  return text;
}

static qe_status fail_reader(const unpacking *u) {
  const char *says = archive_error_string(u->reader);
  return qe_fail(QE_FORMAT, "%s: damaged archive: %s", u->path, says ? says : "it cannot be read");
}

/* ---- members ---- */

static bool leads_out(const char *name) {
  if (*name == '/' || *name == 0) return true;
  for (const char *at = name; at; at = strchr(at, '/')) {
    if (*at == '/') at++;
    if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == 0)) return true;
  }
  return false;
}

static qe_status check_member(unpacking *u, struct archive_entry *entry) {
  char text[SHOWN];
  const char *name = archive_entry_pathname(entry);
  if (++u->members > QE_UNPACK_MEMBERS)
    return qe_fail(QE_FORMAT, "%s: more than %d members: not the archive that is expected", u->path, QE_UNPACK_MEMBERS);
  if (!name || leads_out(name))
    return qe_fail(QE_FORMAT, "%s: member '%s' leads out of the folder: the archive is refused", u->path,
                   name ? shown(name, text) : "");
  mode_t type = archive_entry_filetype(entry);
  if (archive_entry_hardlink(entry) || archive_entry_symlink(entry) || (type != AE_IFREG && type != AE_IFDIR))
    return qe_fail(QE_FORMAT, "%s: member '%s' is a link or a device: the archive is refused", u->path,
                   shown(name, text));
  return QE_OK;
}

/* The wanted file that the member is; -1: none. */
static int find_file(const unpacking *u, const char *name) {
  const char *inner = u->archive->inner;
  size_t length = strlen(inner);
  while (strncmp(name, "./", 2) == 0) name += 2;
  if (strncmp(name, inner, length) != 0 || name[length] != '/') return -1;
  for (int at = 0; at < u->archive->file_count; at++)
    if (strcmp(name + length + 1, u->archive->files[at].name) == 0) return at;
  return -1;
}

/* ---- content ---- */

static qe_status write_piece(const char *path, int fd, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t put = write(fd, data, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0)
      return qe_fail(QE_IO, "%s: cannot write: %s; free some space, or choose another folder with --data-dir", path,
                     strerror(errno));
    data += put;
    bytes -= (size_t)put;
  }
  return QE_OK;
}

static qe_status fail_size(const unpacking *u, const qe_remote_file *file) {
  if (file->bytes == 0)
    return qe_fail(QE_FORMAT, "%s: %s has more than %d bytes: not the archive that is expected", u->path, file->name,
                   QE_UNPACK_TEXT);
  return qe_fail(QE_FORMAT, "%s: %s has not the %lld bytes that are expected: not the data set's archive", u->path,
                 file->name, (long long)file->bytes);
}

/* The data of the member that the reader stands at, to `fd`, with its digest. */
static qe_status copy_data(unpacking *u, const qe_remote_file *file, const char *path, int fd, qe_digest *digest) {
  int64_t most = file->bytes ? file->bytes : QE_UNPACK_TEXT, total = 0;
  for (;;) {
    if (u->stop && u->stop()) return qe_fail(QE_INTERRUPTED, "interrupted; the same command goes on");
    la_ssize_t got = archive_read_data(u->reader, u->buffer, PIECE);
    if (got < 0) return fail_reader(u);
    if (got == 0) break;
    total += got;
    if (total > most) return fail_size(u, file);
    QE_TRY(write_piece(path, fd, u->buffer, (size_t)got));
    QE_TRY(qe_digest_add(digest, u->buffer, (size_t)got));
  }
  if (file->bytes && total != file->bytes) return fail_size(u, file);
  if (fsync(fd) != 0) return qe_fail(QE_IO, "%s: cannot sync: %s; is the disk full?", path, strerror(errno));
  return QE_OK;
}

static qe_status write_file(unpacking *u, int at) {
  const qe_remote_file *file = &u->archive->files[at];
  qe_digest *digest = NULL;
  qe_status status = QE_NO_MEMORY;
  if (u->digests[at][0])
    return qe_fail(QE_FORMAT, "%s: %s is in it twice: the archive is refused", u->path, file->name);
  char *path = qe_path_join(u->folder, file->name);
  if (!path) return QE_NO_MEMORY;
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) {
    status = qe_fail(QE_IO, "%s: cannot make it: %s", path, strerror(errno));
    goto done;
  }
  QE_TRY_DONE(qe_digest_new(&digest));
  QE_TRY_DONE(copy_data(u, file, path, fd, digest));
  QE_TRY_DONE(qe_digest_text(digest, u->digests[at]));
done:
  if (fd >= 0 && close(fd) != 0 && status == QE_OK)
    status = qe_fail(QE_IO, "%s: cannot write: %s; is the disk full?", path, strerror(errno));
  qe_digest_free(digest);
  qe_free(path);
  return status;
}

/* ---- archives ---- */

static qe_status take_member(unpacking *u, struct archive_entry *entry) {
  QE_TRY(check_member(u, entry));
  if (archive_entry_filetype(entry) == AE_IFDIR) return QE_OK;
  int64_t bytes = archive_entry_size(entry);
  int at = find_file(u, archive_entry_pathname(entry));
  if (at >= 0) {
    const qe_remote_file *file = &u->archive->files[at];
    if (bytes < 0 || (file->bytes ? bytes != file->bytes : bytes > QE_UNPACK_TEXT)) return fail_size(u, file);
    return write_file(u, at);
  }
  if (bytes < 0 || bytes > QE_UNPACK_REST - u->rest)
    return qe_fail(QE_FORMAT, "%s: more than %d bytes that are no part of the data set: the archive is refused",
                   u->path, QE_UNPACK_REST);
  u->rest += bytes;
  return QE_OK;
}

static qe_status unpack_tar(unpacking *u) {
  for (;;) {
    struct archive_entry *entry;
    if (u->stop && u->stop()) return qe_fail(QE_INTERRUPTED, "interrupted; the same command goes on");
    int result = archive_read_next_header(u->reader, &entry);
    if (result == ARCHIVE_EOF) break;
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) return fail_reader(u);
    QE_TRY(take_member(u, entry));
  }
  for (int at = 0; at < u->archive->file_count; at++)
    if (u->archive->files[at].bytes && !u->digests[at][0])
      return qe_fail(QE_FORMAT, "%s: %s is not in it: not the data set's archive", u->path, u->archive->files[at].name);
  return QE_OK;
}

static qe_status unpack_gz(unpacking *u) {
  struct archive_entry *entry;
  if (archive_read_next_header(u->reader, &entry) != ARCHIVE_OK) return fail_reader(u);
  if (archive_filter_code(u->reader, 0) != ARCHIVE_FILTER_GZIP)
    return qe_fail(QE_FORMAT, "%s: not compressed by gzip: not the archive that is expected", u->path);
  return write_file(u, 0);
}

/* Unpack the file u->path, or `data` when it is not NULL. */
static qe_status unpack(unpacking *u, const void *data, size_t bytes) {
  archive_read_support_filter_gzip(u->reader);
  if (u->archive->inner)
    archive_read_support_format_tar(u->reader);
  else
    archive_read_support_format_raw(u->reader);
  int result =
      data ? archive_read_open_memory(u->reader, data, bytes) : archive_read_open_filename(u->reader, u->path, PIECE);
  if (result != ARCHIVE_OK) return fail_reader(u);
  return u->archive->inner ? unpack_tar(u) : unpack_gz(u);
}

static qe_status unpack_from(unpacking *u, const void *data, size_t bytes) {
  qe_status status = QE_NO_MEMORY;
  for (int at = 0; at < u->archive->file_count; at++) u->digests[at][0] = 0;
  u->reader = archive_read_new();
  u->buffer = qe_alloc(PIECE);
  if (u->reader && u->buffer)
    status = unpack(u, data, bytes);
  else
    (void)qe_fail(status, "%s: no memory to unpack it", u->path);
  archive_read_free(u->reader);
  qe_free(u->buffer);
  return status;
}

qe_status qe_archive_unpack(const qe_remote_archive *archive, const char *path, const char *folder, bool (*stop)(void),
                            char (*digests)[QE_DIGEST_TEXT]) {
  unpacking u = {.archive = archive, .path = path, .folder = folder, .stop = stop, .digests = digests};
  return unpack_from(&u, NULL, 0);
}

qe_status qe_archive_unpack_bytes(const qe_remote_archive *archive, const void *data, size_t bytes, const char *folder,
                                  char (*digests)[QE_DIGEST_TEXT]) {
  unpacking u = {.archive = archive, .path = archive->name, .folder = folder, .digests = digests};
  return unpack_from(&u, data, bytes);
}
